// The multi-version store: etcd's KV semantics (ETCD: server/storage/mvcc) over an Engine, with an index of
// every key in memory. One writer, the apply executor, changes it in batches; any number of readers on any
// threads read a published revision and never hold the writer up for long.
//
//   auto batch = store.BeginApply();
//   OpResult r = batch.Put({.key = "k", .value = "v"});
//   batch.Commit({.index = 7, .term = 2});      // one engine write; then readers see it all
//   OpResult got;
//   store.Range({.key = "k"}, &got);            // got.body is the RangeResponse without its header
//
// Revisions: a new store is at revision 1, compacted at -1; each write transaction (a put, a delete that
// deletes, a txn that changes something) takes the next one.
//
// Threads: BeginApply, ApplyBatch and the functions marked (apply) on one thread at a time; everything else
// is thread-safe. The store owns no thread: the physical part of compaction runs on the `background`
// executor.
//
// Errors: StoreError in each answer. An engine that fails ends the process (engine.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/key_interval.h"
#include "storage/engine.h"
#include "storage/event.h"
#include "storage/latest_records.h"
#include "storage/records.h"
#include "storage/requests.h"
#include "storage/stored_record.h"

namespace etcdserverpb {
class TxnRequest;
}

namespace kvd::base {
class Executor;
}

namespace kvd::storage {

class StoreImpl;

struct StoreOptions {
  // The physical part of compaction: this many revisions at a time, then a pause.
  int sweep_batch_revisions = 1000;
  int64_t sweep_pause_ns = 10'000'000;
  // A reader that has given out more than this leaves the cache to others.
  uint64_t cached_read_bytes = uint64_t{64} << 20;
  // After each so many bytes a reader opens its iterator anew: an iterator holds memtables. A list that is
  // longer is read from a snapshot.
  uint64_t iterator_bytes = uint64_t{64} << 20;
  // A record with a value of this size or more stands in a table of its own (stored_record.h).
  size_t large_value_bytes = kLargeValueBytes;
  // Large values that are gone are worth collecting from here on, if they are a third of all large values.
  uint64_t least_garbage_bytes = uint64_t{64} << 20;
  LatestRecords::Options latest = {};
};

// Where the replicated log stands with respect to what the store holds.
struct AppliedState {
  uint64_t index = 0;
  uint64_t term = 0;
};

// The changes of one batch of committed log entries. Operations run in order, each seeing those before it;
// readers see nothing of it until Commit. Each write transaction takes one main revision. Move-only; (apply)
// only.
//
// Every operation is final when it returns: an operation that fails changes nothing, and the others stand. A
// batch must be committed, unless nothing in it wrote.
class ApplyBatch {
 public:
  // kFull: the body of the response is put together. kNone: nobody waits for it here; only error, revision,
  // count and succeeded are set.
  enum class Answer { kNone, kFull };

  ApplyBatch(ApplyBatch&&) = default;
  ApplyBatch& operator=(ApplyBatch&&) = default;

  // Errors: kLeaseNotFound, kKeyNotFound.
  OpResult Put(const PutArgs& args, Answer answer = Answer::kFull);
  OpResult DeleteRange(const DeleteRangeArgs& args, Answer answer = Answer::kFull);
  // Deletes these keys in the given order in one write transaction: the revocation of a lease. Keys that do
  // not live are passed over. count is the number deleted.
  OpResult DeleteKeys(absl::Span<const std::string> keys);
  // The request must have passed the checks of the API (operation limits, duplicate keys, empty keys).
  // Errors: kCompacted, kFutureRevision, kLeaseNotFound, kKeyNotFound.
  OpResult Txn(const etcdserverpb::TxnRequest& request, Answer answer = Answer::kFull);
  // Reads what the batch would publish now: for entries that carry a read.
  OpResult Range(const RangeArgs& args);
  // Logical compaction: reads below `revision` are refused from the commit on. The space comes back in the
  // background; `on_swept`, if any, then runs on the background executor (not at all if the store closes
  // first). Errors: kCompacted, kFutureRevision.
  OpResult Compact(int64_t revision, absl::AnyInvocable<void()> on_swept = nullptr);

  // The other tables, raw; `table` is none of kRevision, kLatest and kLarge. Reads of tables see committed
  // batches only.
  void PutTable(Table table, std::string_view key, std::string_view value);
  void DeleteTable(Table table, std::string_view key);
  // The configuration that the log's entries up to here make, in etcd's stored form (JSON of
  // raftpb.ConfState).
  void SetConfState(std::string_view conf_state);

  // The revision of the last write transaction so far, published or not.
  int64_t revision() const;
  // Writes everything with the applied state in one engine write, publishes it, and tells the observer.
  void Commit(AppliedState applied);

 private:
  friend class Store;
  explicit ApplyBatch(StoreImpl* impl) : impl_(impl) {}
  StoreImpl* impl_;
};

// A long read in slices: it holds no lock between slices, and what it needs stays while it lives, even if
// compaction passes it. All slices belong to one revision. What it holds in memory does not grow with what
// it reads, unless the request sorts or filters. Must be dropped before the store. Thread-compatible; it may
// change threads between two calls.
class RangeCursor {
 public:
  virtual ~RangeCursor() = default;
  virtual int64_t revision() const = 0;  // that it reads at
  virtual int64_t header_revision() const = 0;
  virtual int64_t count() const = 0;  // the response's count
  virtual bool more() const = 0;      // the response's more, for the limit of the request
  virtual bool done() const = 0;
  // What all the `kvs` fields together take, exactly, however many of them are given already. It costs a walk
  // over the keys, and reads no record.
  virtual uint64_t total_bytes() const = 0;
  // Appends `kvs` fields (RangeResponse field 2) to `out`, at least one unless done, until `max_keys` are
  // appended (0: no such limit) or `out` has grown by `max_bytes` or more (0: no such limit). Returns how
  // many.
  virtual size_t Next(size_t max_keys, size_t max_bytes, std::string* out) = 0;
  // Before a pause that may be long, and in a read that takes long: lets go of what is in memory for it
  // alone. If there are writes meanwhile, it goes on by the index, which takes longer.
  virtual void Rest() = 0;
};

// A consistent state of the whole store in etcd's terms, for a backup or another member. Must be dropped
// before the store. Thread-compatible; may be used on another thread than the one that took it.
class StoreImage {
 public:
  virtual ~StoreImage() = default;
  virtual AppliedState applied() const = 0;
  virtual int64_t revision() const = 0;
  virtual int64_t compact_revision() const = 0;
  virtual const std::string& conf_state() const = 0;
  // Every record of every bucket of an etcd database: bucket names ascending ("alarm", "auth", "authRoles",
  // "authUsers", "cluster", "key", "lease", "members", "members_removed", "meta"), keys ascending within
  // each. A bucket without records is named once with an empty key. Stops early when `visit` returns false.
  virtual void ForEachRecord(
      absl::FunctionRef<bool(std::string_view bucket, std::string_view key, std::string_view value)>
          visit) = 0;
};

// Fills an empty engine with the records of an etcd database, so that Store::Open then finds the state they
// make. Records of "key" must come in ascending order. Thread-compatible.
class StoreBuilder {
 public:
  explicit StoreBuilder(Engine& engine);
  ~StoreBuilder();
  // Buckets that the store does not know are passed over. Errors: kDataLoss for a record that is not etcd's.
  absl::Status Add(std::string_view bucket, std::string_view key, std::string_view value);
  // Overrides what "meta" said, if anything.
  void SetApplied(AppliedState applied);
  void SetConfState(std::string_view conf_state);
  // Writes the rest and flushes.
  absl::Status Finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct RangeCost {
  int64_t keys_before = 0;  // looked at before the first is given
  int64_t keys_given = 0;
};

struct EventQuery {
  int64_t from_revision = 0;    // inclusive
  int64_t to_revision = 0;      // inclusive; 0: the current one
  size_t max_events = 1000;     // matching; whole revisions are never cut, so it may be passed
  size_t max_bytes = 1 << 20;   // of matching events, likewise
  size_t max_scanned = 10'000;  // records looked at, likewise
};

struct EventHistory {
  StoreError error = StoreError::kNone;  // kCompacted if from_revision < compact_revision or was never kept
  std::vector<Event> events;             // ascending
  int64_t next_revision = 0;             // where to go on; to_revision + 1 when all is seen
  int64_t compact_revision = 0;
};

class Store {
 public:
  // Reads the state that `engine` holds and builds the index: one pass over the live keys, one over the
  // history. The engine (not null), the executor and the observers must outlive the store. A compaction that
  // was under way is taken up again. Errors: kDataLoss if the tables contradict each other.
  static absl::StatusOr<std::unique_ptr<Store>> Open(std::unique_ptr<Engine> engine,
                                                     base::Executor& background,
                                                     const StoreOptions& options = {});
  // Waits for a running slice of the background work; drops the rest.
  ~Store();

  // (apply) Before the first batch. Either may be null.
  void SetObserver(StoreObserver* observer);
  void SetLeaseBinder(LeaseBinder* binder);

  // (apply) One batch at a time.
  ApplyBatch BeginApply();
  // (apply) This store becomes `other`, whole (a received snapshot), and keeps its own observer and binder,
  // which is told through StoreObserver::OnReplaced. Readers see the one or the other; a long read that began
  // before ends on the old state. The old engine is closed when the last of them is done, and then
  // `on_closed` runs, on any thread. REQUIRES: no batch is open; `other` is at a revision that is not below
  // this one's.
  void ReplaceWith(std::unique_ptr<Store> other, absl::AnyInvocable<void()> on_closed);

  // --- Published state. A reader that sees an applied index sees everything applied up to it. ---
  AppliedState applied() const;
  int64_t current_revision() const;
  int64_t compact_revision() const;  // -1: never compacted
  std::string conf_state() const;    // empty: never set
  // How often the physical part of a compaction has ended, in the store that this one is now.
  uint64_t sweeps() const;
  // The applied state that a crash now would leave: the log may be cut up to its index.
  AppliedState PersistedApplied() const;

  // --- Reads. ---
  // Errors: kCompacted, kFutureRevision.
  void Range(const RangeArgs& args, OpResult* result) const;
  // The same in slices. `error` says why it returns null.
  std::unique_ptr<RangeCursor> OpenRange(const RangeArgs& args, StoreError* error) const;
  // What answering would take, judged by the live keys of the interval. O(log n).
  RangeCost EstimateRange(const RangeArgs& args) const;
  // A txn whose taken path only reads. REQUIRES: the request holds no put and no delete, nested ones
  // included.
  void ReadTxn(const etcdserverpb::TxnRequest& request, OpResult* result) const;
  // The record of `key` as of `revision` (<= 0: the latest), appended to *record. False if it does not live
  // then or the revision is compacted or in the future.
  bool GetAt(std::string_view key, int64_t revision, std::string* record) const;
  // History for a watcher that has to catch up.
  EventHistory Events(const base::KeyInterval& interval, const EventQuery& query) const;
  // etcd's HashKV: equal on every member, and on etcd, for equal (revision, compact revision). `revision` 0:
  // the current one. Long: not on a thread that serves others. Errors: kCompacted, kFutureRevision.
  HashResult HashKv(int64_t revision) const;
  // Live keys that name a lease, for the lessor to rebuild its attachments.
  void ForEachLeasedKey(absl::FunctionRef<void(std::string_view key, int64_t lease)> visit) const;

  // --- Other tables. ---
  bool GetTable(Table table, std::string_view key, std::string* value) const;
  // Ascending; `key` without the table's prefix.
  void ForEachInTable(Table table,
                      absl::FunctionRef<void(std::string_view key, std::string_view value)> visit) const;

  // --- The whole. ---
  std::unique_ptr<StoreImage> OpenImage() const;
  void Flush();     // returns when everything committed so far is durable
  bool TryFlush();  // the same; false if there is no room for it
  int64_t live_keys() const;
  uint64_t size_bytes() const;         // what etcd calls the database size: on disk and in memory tables
  uint64_t unflushed_bytes() const;    // of that, in memory: about what a flush takes on the disk
  uint64_t size_in_use_bytes() const;  // an estimate without what compaction may take away
  Engine& engine() const;              // (apply) holds until ReplaceWith
  // Hints a compaction of the engine; etcd's Defragment. It runs on `executor`, for as long as it takes.
  void HintCompaction(base::Executor& executor);
  // The same for large values that are gone, if they take so much beside the living that it is worth it. To
  // be called now and then.
  void HintGarbage(base::Executor& executor);

 private:
  struct Current;
  explicit Store(std::shared_ptr<StoreImpl> impl);
  // What the store is at this moment; a read keeps it for as long as it takes.
  std::shared_ptr<StoreImpl> Impl() const;

  std::unique_ptr<Current> current_;
};

}  // namespace kvd::storage
