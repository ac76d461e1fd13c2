// The parts of a Store: what is published, the index, what long reads pin, and the writer's state. Each
// activity has a file of its own: apply.cc, txn.cc, range.cc, history.cc, hash.cc, sweeper.cc, image.cc,
// open.cc.
//
// Locks, in the order of taking: gate_, index_mu_, then the others, each alone.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/key_interval.h"
#include "base/mutex.h"
#include "storage/engine.h"
#include "storage/event.h"
#include "storage/key_index.h"
#include "storage/latest_records.h"
#include "storage/meta.h"
#include "storage/pins.h"
#include "storage/store.h"
#include "storage/stored_record.h"

namespace kvd::storage {

class Sweeper;
class Writer;

// Where the whole record of a version is.
inline std::string RecordTableKey(const KeyVersion& version) {
  return version.large ? LargeTableKey(version.revision())
                       : RevisionTableKey(version.revision(), version.tombstone);
}

// The state that one read stands on.
struct View {
  // Versions up to this one are seen.
  int64_t read_revision = 0;
  // The newest that may be asked for; and of the header.
  int64_t current = 0;
  int64_t compact = -1;
  // True if read_revision was the newest state when the view was made.
  bool latest = true;
  // True if `snapshot` or `records` (without them: the engine as it is) has the latest records of all keys.
  bool latest_complete = false;
  // The writer's events that are not in the engine yet; null for readers.
  const std::vector<Event>* pending = nullptr;
  // The engine's state at `current`, for reads of several intervals or long ones; null: the engine as it is.
  std::shared_ptr<EngineSnapshot> snapshot;
  // For one interval of the latest state, if it is not long: a walk over its records at `current`, not begun.
  std::unique_ptr<EngineIterator> records;
  Pins::Pin pin;
};

class StoreImpl {
 public:
  StoreImpl(std::unique_ptr<Engine> engine, base::Executor& background, const StoreOptions& options);
  ~StoreImpl();

  absl::Status Load();
  // Makes up what a crash took of the latest records, from the history.
  absl::Status LoadLatest(int64_t current_revision);

  // --- Views (range.cc). ---
  // What a list of an interval comes to, as far as the index's sums tell it: -1 where they do not.
  struct Extent {
    int64_t keys = -1;
    int64_t bytes = -1;  // of whole records
  };
  // A reader's view at `revision` (<= 0: the latest), for records of intervals or not. With `interval` it is
  // for that one alone, and `extent` is what lives of it then, with its bytes if wanted. Null error is not
  // allowed.
  std::optional<View> OpenView(int64_t revision, bool with_records, StoreError* error,
                               const base::KeyInterval* interval = nullptr, bool with_bytes = false,
                               Extent* extent = nullptr) const;
  std::optional<View> MakeView(int64_t revision, StoreError* error) const ABSL_SHARED_LOCKS_REQUIRED(gate_);
  Extent Measure(const View& view, const base::KeyInterval& interval, bool with_bytes) const;
  // `view` at an explicit revision of a request within it.
  std::optional<View> NarrowView(const View& view, int64_t revision, StoreError* error) const;
  // The version of `key` that lives in the view.
  std::optional<KeyVersion> FindLive(const View& view, std::string_view key) const;
  // Its record. REQUIRES: the version is one of the view.
  void Fetch(const View& view, const KeyVersion& version,
             absl::FunctionRef<void(std::string_view)> use) const;
  int64_t Count(const View& view, const base::KeyInterval& interval) const;
  // Walks the live keys of the view in slices; the index is not locked between them.
  void ForEachLive(const View& view, const base::KeyInterval& interval,
                   absl::FunctionRef<bool(std::string_view key, const KeyVersion& version)> visit) const;

  // Writes the latest records that the engine does not have yet: some, if any are due, after so many changes;
  // some; or all. False: there is no room for them.
  bool WriteDueLatest(size_t changes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(gate_);
  bool WriteSomeLatest() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(gate_);
  bool WriteAllLatest() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(gate_);
  bool WriteTakenLatest() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(gate_);
  // All that there are now, some at a time, so that commits and reads go on meanwhile: when there is room;
  // or until only few are left or there is no room.
  void CompleteLatest() const ABSL_LOCKS_EXCLUDED(gate_);
  void ReduceLatest() const ABSL_LOCKS_EXCLUDED(gate_);

  void Publish(const MetaState& state, const std::string* conf_state);

  std::unique_ptr<Engine> engine_;  // never null, never another
  base::Executor& background_;
  const StoreOptions options_;

  // Shared: taking a consistent view of engine and index. Exclusive: the engine write of a commit and its
  // publication, so that a view sees all of a batch or nothing.
  mutable base::SharedMutex gate_;
  // Exclusive: one change of the index, or one slice of a sweep.
  mutable base::SharedMutex index_mu_ ABSL_ACQUIRED_AFTER(gate_);
  KeyIndex index_ ABSL_GUARDED_BY(index_mu_);
  // What the unpublished part of the index changed in its sums: readers take it back.
  struct LiveChange {
    base::SharedBytes kv;
    std::string_view key;
    LiveSum change;
  };
  std::vector<LiveChange> unpublished_ ABSL_GUARDED_BY(index_mu_);

  // Published, in this order: a reader that sees the applied index sees the revision of it too.
  std::atomic<int64_t> revision_{1};
  std::atomic<int64_t> compact_revision_{-1};
  mutable base::Mutex applied_mu_;
  AppliedState applied_ ABSL_GUARDED_BY(applied_mu_);
  std::string conf_state_ ABSL_GUARDED_BY(applied_mu_);

  mutable Pins pins_;
  mutable LatestRecords latest_;  // its writing: by who holds gate_ exclusively
  std::unique_ptr<WriteBatch> latest_batch_ ABSL_PT_GUARDED_BY(gate_);
  std::atomic<bool> has_leased_keys_{false};  // since the load: maybe
  std::unique_ptr<Writer> writer_;
  std::shared_ptr<Sweeper> sweeper_;
  absl::AnyInvocable<void()> on_closed_;
};

struct Store::Current {
  mutable base::SharedMutex mu;
  std::shared_ptr<StoreImpl> impl ABSL_GUARDED_BY(mu);
};

// Reads an interval of a view (range.cc).
class RangeReader final : public RangeCursor {
 public:
  // `owner`, if any, keeps `store` alive.
  RangeReader(const StoreImpl& store, View view, const RangeArgs& args, StoreImpl::Extent extent,
              std::shared_ptr<const StoreImpl> owner = nullptr);
  ~RangeReader() override;

  int64_t revision() const override { return view_.read_revision; }
  int64_t header_revision() const override { return view_.current; }
  int64_t count() const override { return count_; }
  bool more() const override { return more_; }
  bool done() const override { return left_ == 0; }
  uint64_t total_bytes() const override;
  size_t Next(size_t max_keys, size_t max_bytes, std::string* out) override;
  void Rest() override;
  // All of it and the fields after the kvs.
  void AppendRest(std::string* out);

 private:
  enum class Mode { kEmpty, kLatest, kIndex, kCollected };
  struct Ref {
    std::string key;
    KeyVersion version;
    std::string record;  // only where sorting needs the value
  };

  void Start();
  void Collect();
  void SortCollected(size_t keep);
  bool Passes(const KeyVersion& version) const;
  // Opens latest_. In Mode::kLatest false if what the view stands on has been let go, and has changed since.
  bool OpenLatest();
  bool ReopenLatest();
  bool NextIndexRef();
  // What Emit appends for the ref.
  uint64_t BytesOf(const Ref& ref) const;
  uint64_t BytesOf(std::string_view key, const KeyVersion& version) const;
  void Emit(const Ref& ref, std::string* out);
  void EmitRecord(const Ref& ref, std::string* out);
  void EmitStored(std::string_view stored, std::string* out);
  size_t NextLatest(size_t max_keys, size_t max_bytes, std::string* out);
  size_t NextRefs(size_t max_keys, size_t max_bytes, std::string* out);

  const std::shared_ptr<const StoreImpl> owner_;
  const StoreImpl& store_;
  View view_;
  RangeArgs args_;
  std::string key_;
  std::string range_end_;
  base::KeyInterval interval_;
  int64_t count_;
  const int64_t bytes_;  // of all records of the interval; -1: not known
  bool more_ = false;
  int64_t total_ = 0;         // keys to give out
  int64_t left_ = 0;          // of those, still
  uint64_t given_bytes_ = 0;  // by all slices
  uint64_t opened_at_ = 0;    // given_bytes_ when latest_ was opened
  Mode mode_ = Mode::kEmpty;

  std::unique_ptr<EngineIterator> latest_;  // over the table of latest records; null: to be opened
  std::string latest_from_;                 // where to open it; empty: at the interval's start
  std::vector<Ref> refs_;                   // all of them, or the next slice of the index
  size_t next_ref_ = 0;
  std::string resume_;
  bool index_exhausted_ = false;
};

// The writer's half: operations on the index and on the batch, in order. Apply thread only (apply.cc).
class Writer {
 public:
  explicit Writer(StoreImpl& store);

  // One write transaction: operations between the two share a main revision. End gives the header's revision.
  void Begin();
  int64_t End();
  bool changed() const { return sub_ > 0; }
  // The header's revision within a transaction.
  int64_t header_revision() const { return state_.revision + (changed() ? 1 : 0); }
  View ViewNow() const;

  StoreError CheckLease(int64_t lease) const;
  // REQUIRES: Begin. Errors: kKeyNotFound. With prev_kv the previous record, if any, is appended to *prev_kv.
  StoreError Put(const PutArgs& args, std::string* prev_kv);
  // Deletes the live keys of the interval; appends their records as `prev_kvs` fields if prev_kvs is not
  // null.
  int64_t Delete(const base::KeyInterval& interval, std::string* prev_kvs);
  bool DeleteKey(std::string_view key);
  StoreError Compact(int64_t revision, absl::AnyInvocable<void()> on_swept);
  void Commit(AppliedState applied);
  bool WriteAndPublish();

  StoreImpl& store_;
  StoreObserver* observer_ = nullptr;
  LeaseBinder* binder_ = nullptr;
  std::unique_ptr<WriteBatch> batch_;
  MetaState state_;  // with what is not published yet
  std::vector<Event> events_;
  std::optional<std::string> conf_state_;

 private:
  void Append(Event event, const KeyVersion& version, std::string_view record);
  void Tombstone(std::string_view key, const KeyVersion& old);

  int64_t sub_ = 0;
  bool compacted_ = false;
  std::vector<absl::AnyInvocable<void()>> on_swept_;
  std::string key_buffer_;
  std::string reference_;
};

// A key-value pair as RangeResponse.kvs or DeleteRangeResponse.prev_kvs.
inline constexpr int kKvsField = 2;
inline constexpr int kPrevKvsField = 3;

}  // namespace kvd::storage
