// The side file "synced": up to where the log is known to be on the disk (see wal.h).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/file_system.h"

namespace kvd::wal {

struct SyncedMark {
  uint64_t sequence = 0;
  uint64_t offset = 0;
};

// What is known: nothing if the file is not there (another program wrote the log), {0, 0} if it is not
// readable.
absl::StatusOr<std::optional<SyncedMark>> ReadSyncedMark(base::FileSystem& fs, const std::string& dir);

// Thread-compatible.
class SyncedMarkWriter {
 public:
  static absl::StatusOr<std::unique_ptr<SyncedMarkWriter>> Open(base::FileSystem& fs, const std::string& dir);

  // Without a sync. A mark that cannot be written only lags, so a failure is nobody's concern.
  void Write(const SyncedMark& mark);
  absl::Status Sync() { return file_->Sync(); }

 private:
  explicit SyncedMarkWriter(std::unique_ptr<base::File> file) : file_(std::move(file)) {}
  const std::unique_ptr<base::File> file_;
};

}  // namespace kvd::wal
