// The latest records of keys that were written or read not long ago, in memory, before the engine's table of
// latest records. It is two things at once:
//
// - A cache: a read of a single key that finds its record here costs one look-up in a hash table.
// - The writer's debt: a change is entered here at once and written to the engine's table later, together
//   with thousands of others, in the order of their keys, and once for each key however often it changed.
//   Finding a record's place in the engine is the dearest part of a write, and this is the cheap way to it.
//   What a crash takes of the debt stands in the history, which is written with every batch: the mark
//   kLatestThroughKey (meta.h) says up to which revision the table is complete, and opening a store makes up
//   the rest.
//
//   latest.Enter(events);                                    // in every commit
//   if (latest.Take(events.size(), revision, batch)) {       // now and then some of the debt is due
//     engine.TryWrite(batch) ? latest.Written() : latest.GiveBack();
//   }
//
// Threads: Find, Remember, AllWritten and unwritten on any. The others only by who holds the store's gate
// exclusively: the writer, or a reader that wants the engine's table complete.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "base/bytes.h"
#include "storage/event.h"

namespace kvd::storage {

class WriteBatch;

class LatestRecords {
 public:
  struct Options {
    // What may be held, debt included; as far as debt goes beyond it, that stays.
    size_t capacity_bytes = size_t{16} << 20;
    // So much unwritten data, or so many changes since the last time, and writing begins.
    size_t due_bytes = size_t{8} << 20;
    size_t due_changes = 32'768;
  };
  explicit LatestRecords(const Options& options);
  ~LatestRecords();
  LatestRecords(const LatestRecords&) = delete;
  LatestRecords& operator=(const LatestRecords&) = delete;

  enum class Answer {
    kUnknown,  // ask the engine
    kLives,    // the record is this
    kDeleted,  // it does not live, and the engine may not know that yet
  };
  struct Found {
    Answer answer = Answer::kUnknown;
    base::SharedBytes record;
    int64_t mod_revision = 0;
    // Of an unknown key, for Remember.
    size_t hash = 0;
    uint64_t changes = 0;
  };
  Found Find(std::string_view key) const;
  // What the engine answered for a key that Find did not know: kept, unless there has been a change since.
  void Remember(const Found& unknown, std::string_view record);

  // True if the engine's table is complete. Cannot become false while the gate is held, shared or not.
  bool AllWritten() const { return unwritten() == 0; }
  size_t unwritten() const { return unwritten_.load(std::memory_order_acquire); }

  // Changes, in their order, that the engine has in its history.
  void Enter(absl::Span<const Event> events);
  // If debt is due, appends some of it to the batch, in proportion to `changes`, which have come since the
  // last time; with the last of it, the new mark. `revision` is that of the last change entered. False if
  // nothing was appended.
  bool Take(size_t changes, int64_t revision, WriteBatch& batch);
  // The same, due or not: up to `most` records, or all of them.
  bool TakeSome(size_t most, int64_t revision, WriteBatch& batch);
  bool TakeAll(int64_t revision, WriteBatch& batch);
  // What was taken last is in the engine, or is not. One of them after each Take that returned true.
  void Written();
  void GiveBack();
  // True if the engine's table has all changes up to `revision`.
  bool WrittenThrough(int64_t revision) const { return AllWritten() || written_through_ >= revision; }

 private:
  struct Node;
  struct Shard;
  static constexpr size_t kShards = 16;

  Shard& ShardOf(size_t hash) const;
  void EnterOne(const Event& event);
  void BeginRound(int64_t revision);
  void AppendUntil(size_t end, WriteBatch& batch);

  const Options options_;
  const std::unique_ptr<Shard[]> shards_;
  std::atomic<size_t> unwritten_{0};

  // The round of writing that is under way: unwritten nodes in the order of their keys, of which those before
  // next_ are written and those from slice_ on are in a batch.
  std::vector<Node*> round_;
  size_t slice_ = 0;
  size_t next_ = 0;
  int64_t round_through_ = 0;
  int64_t written_through_ = 0;
  // Those that became unwritten since it began.
  std::vector<Node*> fresh_;
  size_t fresh_bytes_ = 0;
  size_t fresh_changes_ = 0;
  std::string key_buffer_;
  std::string reference_buffer_;
};

}  // namespace kvd::storage
