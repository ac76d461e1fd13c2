// The file <data-dir>/member/version: which program wrote the data directory last, in which format, and whose
// it is. Lines of "key value"; unknown keys are skipped. Directories of kvd 0.1.0 and before have none.
//
// Thread-safety: functions of their arguments.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kvd::base {
class FileSystem;
}

namespace kvd::server {

// The format that this program writes. It reads this one and those before.
inline constexpr int64_t kDataFormat = 1;

struct DataVersion {
  int64_t format = kDataFormat;
  std::string kvd;  // version of the program
  uint64_t member_id = 0;
  uint64_t cluster_id = 0;
  friend bool operator==(const DataVersion&, const DataVersion&) = default;
};

// Nothing if there is no such file, or if it cannot be understood: then the log says everything. Errors:
// kFailedPrecondition for a format of a later program; those of the file system.
absl::StatusOr<std::optional<DataVersion>> ReadDataVersion(base::FileSystem& fs,
                                                           const std::string& member_dir);
// Atomically.
absl::Status WriteDataVersion(base::FileSystem& fs, const std::string& member_dir,
                              const DataVersion& version);

}  // namespace kvd::server
