// Files as the log and the snapshot store see them: a narrow interface over POSIX, with a model in memory
// (base/mem_file_system.h) that can lose, tear, corrupt, refuse and fill up.
//
// Errors: absl::Status with the failing path and the system's text. kNotFound (ENOENT), kAlreadyExists
// (EEXIST), kResourceExhausted (ENOSPC, EDQUOT), kPermissionDenied, kUnavailable (a lock held by another),
// kDataLoss (EIO), kInternal for the rest. Short writes, EINTR and EAGAIN are retried inside.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace kvd::base {

// An open file. Thread-compatible: one thread at a time. Closed by its destructor, without a sync.
class File {
 public:
  virtual ~File() = default;
  // Reads up to `n` bytes at `offset` into `out` (resized); fewer only at the end of the file.
  virtual absl::Status ReadAt(uint64_t offset, size_t n, std::string* out) const = 0;
  // Writes all the pieces, one behind the other, at `offset`, extending the file as needed. On an error a
  // part may have been written.
  virtual absl::Status WriteAt(uint64_t offset, absl::Span<const std::string_view> pieces) = 0;
  absl::Status WriteAt(uint64_t offset, std::string_view data) {
    return WriteAt(offset, absl::MakeSpan(&data, 1));
  }
  // Reserves space up to `size` and extends the file to it with zeros.
  virtual absl::Status Preallocate(uint64_t size) = 0;
  virtual absl::Status Truncate(uint64_t size) = 0;
  // fdatasync. After an error what had been written since the last success may be lost although it reads
  // back: the caller must stop, not retry.
  virtual absl::Status Sync() = 0;
  virtual absl::StatusOr<uint64_t> Size() const = 0;
  virtual const std::string& path() const = 0;
};

// A held lock; released when destroyed.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

// Thread-safety: thread-safe.
class FileSystem {
 public:
  enum class Mode {
    kRead,
    kReadWrite,
    kCreate /* or open, read and write */,
    kCreateNew /* kAlreadyExists */
  };

  virtual ~FileSystem() = default;
  virtual absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path, Mode mode) = 0;
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  virtual absl::Status Remove(const std::string& path) = 0;     // a file, or an empty directory
  virtual absl::Status RemoveAll(const std::string& path) = 0;  // a tree; OK if it is not there
  virtual absl::Status CreateDirs(
      const std::string& path) = 0;  // with parents, durable, mode 0700; OK if there
  virtual absl::Status SyncDir(const std::string& path) = 0;
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& dir) = 0;  // names, sorted
  virtual absl::StatusOr<bool> Exists(const std::string& path) = 0;
  virtual absl::StatusOr<uint64_t> FreeBytes(const std::string& path) = 0;
  // An exclusive lock on a file that exists or is created (flock, as etcd's WAL takes it). kUnavailable if
  // another holder, in this process or another, has it.
  virtual absl::StatusOr<std::unique_ptr<FileLock>> Lock(const std::string& path) = 0;
};

// The machine's own file system. Never destroyed.
FileSystem& PosixFileSystem();

// Whole small files, through the interface.
absl::StatusOr<std::string> ReadFile(FileSystem& fs, const std::string& path);
// Writes a temporary file, syncs it, renames it over `path` and syncs the directory: after a crash `path` is
// either the old or the new one, whole.
absl::Status WriteFileAtomically(FileSystem& fs, const std::string& path, std::string_view data);

std::string JoinPath(std::string_view dir, std::string_view name);

}  // namespace kvd::base
