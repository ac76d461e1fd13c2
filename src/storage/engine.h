// The ordered map on disk under the store, as narrow as the store needs it: atomic batches, reads, snapshots,
// flush. Two implementations: RocksDB, and a model in memory that rolls back to its last flush on a crash, as
// RocksDB does with its own log off.
//
// Durability: a write is durable only after a flush that began later; what a crash leaves is the state after
// some prefix of the batches. The replicated log covers the rest (its owner cuts it by GetPersisted of the
// applied index).
//
// Errors: an engine that cannot read or write what it holds ends the process with one log line that names the
// operation and the reason; no caller has a way to go on from there. Only opening and Checkpoint return a
// status. A full disk is no such failure: what is written stays in memory, and once that is full too, Write
// and Flush return when there is room again; reads go on.
//
// Thread-safety: thread-safe, unless said otherwise.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kvd::storage {

// Changes that take effect together. Later changes of a key win. Thread-compatible.
class WriteBatch {
 public:
  virtual ~WriteBatch() = default;
  virtual void Put(std::string_view key, std::string_view value) = 0;
  virtual void Delete(std::string_view key) = 0;
  virtual void Clear() = 0;
  virtual size_t count() const = 0;  // Puts and Deletes since Clear
};

// The engine's state at one moment. Must be dropped before the engine.
class EngineSnapshot {
 public:
  virtual ~EngineSnapshot() = default;
};

// A forward walk over a consistent state. Must be dropped before the engine (and before its snapshot).
// Thread-compatible.
class EngineIterator {
 public:
  virtual ~EngineIterator() = default;
  virtual bool Valid() const = 0;
  virtual void Next() = 0;                      // REQUIRES: Valid()
  virtual void Seek(std::string_view key) = 0;  // to the first key >= `key` within the bounds
  virtual std::string_view key() const = 0;     // valid until the iterator moves
  virtual std::string_view value() const = 0;   // valid until the iterator moves
};

struct IteratorOptions {
  std::string lower;                         // inclusive
  std::string upper;                         // exclusive; empty: no bound
  const EngineSnapshot* snapshot = nullptr;  // null: the state when the iterator is made
  bool keep_cached = true;  // false for long scans that would push everything else out of the cache
  bool short_scan = false;  // no more than some hundred kilobytes are read: no reading ahead
  bool at_start = true;     // false: it stands nowhere until Seek, and making it reads nothing
};

struct EngineSizes {
  uint64_t disk_bytes = 0;    // files on disk
  uint64_t live_bytes = 0;    // of those, an estimate of what is not overwritten or deleted
  uint64_t memory_bytes = 0;  // written, not yet flushed
  // Of those on disk: values that are kept apart from their keys, and how much of that is of keys that are
  // gone or written anew, in files that hold something else too.
  uint64_t separate_bytes = 0;
  uint64_t garbage_bytes = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;

  virtual std::unique_ptr<WriteBatch> NewBatch() = 0;
  // Applies the batch whole, and leaves it as it is.
  virtual void Write(WriteBatch& batch) = 0;
  // The same where a caller holds up others: false, and nothing is changed, if it would have to wait until
  // there is room, on the disk or in memory. Then WaitForRoom, and try again.
  virtual bool TryWrite(WriteBatch& batch) {
    Write(batch);
    return true;
  }
  // Returns when there may be room, or after a while.
  virtual void WaitForRoom() {}

  // Calls `use` with the value, which is valid only within the call. False, without a call, if there is none.
  virtual bool Get(std::string_view key, absl::FunctionRef<void(std::string_view)> use,
                   const EngineSnapshot* snapshot = nullptr) = 0;
  bool Get(std::string_view key, std::string* value, const EngineSnapshot* snapshot = nullptr) {
    return Get(
        key, [value](std::string_view v) { value->assign(v); }, snapshot);
  }
  // What Get would find after a crash now.
  virtual bool GetPersisted(std::string_view key, std::string* value) = 0;

  // Positioned at the first key within the bounds, unless the options say otherwise. It holds what is in
  // memory and the files of now; a snapshot holds old values, and once it goes RocksDB rewrites files to be
  // rid of them. So an iterator is for reads that are soon done, a snapshot for several and for long ones.
  virtual std::unique_ptr<EngineIterator> NewIterator(const IteratorOptions& options) = 0;
  virtual std::unique_ptr<EngineSnapshot> TakeSnapshot() = 0;

  // Makes everything written so far durable; returns when it is.
  virtual void Flush() = 0;
  // The same for callers who cannot wait for room: false if there is none.
  virtual bool TryFlush() {
    Flush();
    return true;
  }
  // A copy of the current state, flushed, in a new directory; hard links where the file system can.
  virtual absl::Status Checkpoint(const std::string& directory) = 0;
  // A hint to give space back in [lower, upper); both empty: everywhere. May take long: not on the apply
  // thread.
  virtual void CompactRange(std::string_view lower, std::string_view upper) = 0;
  // Gives back what Sizes() calls garbage until no more than `share` (0 to 1) of the values that are kept
  // apart is: rewrites what lives in the files that have most of it, bit by bit, so that it needs little room
  // besides. May take long: not on the apply thread.
  virtual void CollectGarbage(double share) = 0;
  // CompactRange and CollectGarbage, under way or to come, end soon. Any thread.
  virtual void StopCompacting() = 0;
  virtual EngineSizes Sizes() = 0;
};

struct RocksOptions {
  uint64_t block_cache_bytes = 256ull << 20;
  uint64_t write_buffer_bytes = 64ull << 20;
  int max_write_buffers = 4;
  int max_background_jobs = 2;
  uint64_t level_base_bytes = 256ull << 20;
  uint64_t target_file_bytes = 64ull << 20;
  // Values from this size on are kept in files of their own, and stay where they are while their keys move
  // through the levels. No more than kLargeValueBytes (stored_record.h), so that large records are.
  uint64_t separate_value_bytes = 8 << 10;
  // Of compactions, as long as no write waits for one; 0: no limit. Flushes have none: writes would wait.
  uint64_t compaction_bytes_per_second = 128ull << 20;
  bool create_if_missing = true;
};

// A RocksDB in `path` (a directory). Its own log is off; one column family; one thread writes at a time.
// Errors: kFailedPrecondition if another process holds it, kNotFound, kDataLoss, kInternal.
absl::StatusOr<std::unique_ptr<Engine>> OpenRocksEngine(const std::string& path, const RocksOptions& options);

// The part of a model engine that outlives it, as files outlive a process.
class ModelDisk;
std::shared_ptr<ModelDisk> NewModelDisk();
// An engine in memory over `disk`. Opening it is what comes after a crash: the state is that of the last
// flush. One engine at a time per disk. `flush_every_batches` > 0 flushes by itself after so many batches.
std::unique_ptr<Engine> OpenModelEngine(std::shared_ptr<ModelDisk> disk, uint64_t flush_every_batches = 0);

}  // namespace kvd::storage
