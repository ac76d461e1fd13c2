// A file system in memory that keeps apart what is written and what would survive a power loss, and that can
// refuse, fill up, fail and rot on request. The model of STYLE 6.4: per file a durable image and the ordered
// operations since its last sync; per directory the creates, renames and removes since its last SyncDir.
//
// Thread-safety: thread-safe (one mutex).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/file_system.h"
#include "base/random.h"

namespace kvd::base {

class MemFileSystem final : public FileSystem {
 public:
  // How much of what was not synced survives a crash. Each is a probability in [0, 1].
  struct CrashOptions {
    double keep_write = 0.5;         // per 4 KiB page of an unsynced write: kept whole
    double tear_write = 0.25;        // else: decided per 512-byte sector, keep, old bytes, zeros or garbage
    double keep_directory_op = 0.5;  // per unsynced create, rename, remove; earlier ones first
  };
  enum class Op { kOpen, kRead, kWrite, kSync, kPreallocate, kTruncate, kRename, kRemove, kSyncDir, kList };
  // Asked before each operation; a status that is not OK is returned instead of doing it (for kSync also: the
  // unsynced data of that file become clean but lost, as Linux does).
  using FaultHook = std::function<absl::Status(Op op, const std::string& path)>;

  MemFileSystem();
  ~MemFileSystem() override;

  // The file system as it might be found after power loss now. Open files and locks of the old one are not
  // carried over. With {1, 0, 1} everything written survives; with {0, 0, 0} only what was synced.
  std::unique_ptr<MemFileSystem> CrashClone(Random& random, const CrashOptions& options) const;

  // Bytes that files may take in all; growing beyond it gives kResourceExhausted. Default: no limit.
  void SetCapacity(uint64_t bytes);
  void SetFaultHook(FaultHook hook);
  // Sync succeeds and makes nothing durable, from now on.
  void SetLyingSync(bool lying);
  // Flips a bit of the file, in what is read and in what is durable.
  absl::Status FlipBit(const std::string& path, uint64_t offset, int bit);

  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path, Mode mode) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status RemoveAll(const std::string& path) override;
  absl::Status CreateDirs(const std::string& path) override;
  absl::Status SyncDir(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& dir) override;
  absl::StatusOr<bool> Exists(const std::string& path) override;
  absl::StatusOr<uint64_t> FreeBytes(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<FileLock>> Lock(const std::string& path) override;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace kvd::base
