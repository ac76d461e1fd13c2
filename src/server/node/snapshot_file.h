// A store as an etcd database file: what members send one another, what the Snapshot RPC gives out and what a
// backup is (storage/image).
//
// Thread-safety: functions of their arguments; long, so on a background thread.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kvd::base {
class FileSystem;
}
namespace kvd::storage {
class StoreBuilder;
class StoreImage;
}  // namespace kvd::storage

namespace kvd::server {

// Backups end with the SHA-256 of everything before it; what members exchange does not have it.
enum class Checksum { kNone, kAppended };

// Writes and syncs a new file; gives its size.
absl::StatusOr<uint64_t> WriteSnapshotFile(storage::StoreImage& image, base::FileSystem& fs,
                                           const std::string& path, Checksum checksum);
// Errors: kDataLoss for a file that is not an etcd database.
absl::Status ReadSnapshotFile(base::FileSystem& fs, const std::string& path, storage::StoreBuilder& builder);

}  // namespace kvd::server
