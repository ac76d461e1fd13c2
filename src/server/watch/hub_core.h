// The inside of WatchHub. Intake (watch_hub.cc) takes events and calls from other threads; requests
// (hub_requests.cc) answers what streams ask; delivery (hub_delivery.cc) gives events to watchers; catch-up
// (hub_catch_up.cc) reads history for those that are behind.
//
// A watcher is synced or not (watcher.h). Invariants, on the watch executor, between tasks:
//  - a synced watcher has been sent every event of its own with next_revision <= revision <= revision_;
//  - any other has been sent every event of its own below next_revision, and none at or above it;
//  - whatever counts as sent stands in its stream's sink, in order.
// A watcher moves from one side to the other only within a task, at a revision boundary, so nothing is lost
// or repeated.
//
// Threads: the functions under "Any thread" from any; all others, and all fields that are not said to be
// shared, on the watch executor only.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "base/executor.h"
#include "base/random.h"
#include "server/watch/watch_hub.h"
#include "server/watch/watch_wire.h"
#include "server/watch/watcher.h"
#include "server/watch/watcher_index.h"
#include "storage/event.h"

namespace etcdserverpb {
class WatchCreateRequest;
}

namespace kvd::server {

struct Stream {
  uint64_t serial = 0;
  std::shared_ptr<WatchSink> sink;
  WatchStreamOptions options;
  std::map<int64_t, Watcher> watchers;  // by ID; nodes stay where they are
  int64_t next_id = 0;
  std::set<int64_t> spent_ids;  // of watches that compaction ended: in use until the client cancels them
  size_t unsynced = 0;
  size_t progress_watchers = 0;  // those with kProgressNotify
  base::Executor::TimerId progress_timer = 0;
  // Progress requests to be answered once the hub has come to this revision.
  int64_t progress_target = 0;
  int progress_requests = 0;
  // Its watchers that are due events within the present task, a list through DueEvents::Watch.
  uint32_t first_due = Watcher::kNoSlot;
  uint32_t last_due = Watcher::kNoSlot;
};

// Which watchers get which events of the present task, by stream.
class DueEvents {
 public:
  static constexpr uint32_t kNone = Watcher::kNoSlot;
  // One event of one watcher, and the watcher's next one.
  struct Event {
    uint32_t position;  // in the hub's batch
    uint32_t next;
  };
  // One watcher, and the next one of its stream.
  struct Watch {
    Watcher* watcher;
    uint32_t first_event;
    uint32_t last_event;
    uint32_t next;
  };

  void Add(Watcher& watcher, uint32_t position);
  // Nobody is due anything any more.
  void Clear();

  // In the order in which they were first added.
  const std::vector<Stream*>& streams() const { return streams_; }
  const Watch& watch(uint32_t i) const { return watches_[i]; }
  const Event& event(uint32_t i) const { return events_[i]; }
  size_t size() const { return events_.size(); }

 private:
  std::vector<Stream*> streams_;
  std::vector<Watch> watches_;
  std::vector<Event> events_;
};

// What one read of history brings.
struct Slice {
  bool compacted = false;
  int64_t compact_revision = 0;
  int64_t next_revision = 0;  // everything below is in `events`, or of no interest
  std::vector<EncodedEvent> events;
};

// What to read, for a number of watchers at once. Owns its bytes.
struct SliceQuery {
  std::string start;
  std::string end;
  enum class Kind { kSingle, kOpen, kHalfOpen } kind = Kind::kSingle;
  int64_t from_revision = 0;
  int64_t to_revision = 0;
  size_t max_events = 0;
  size_t max_bytes = 0;
  bool with_previous = false;     // some watcher wants the record before each event
  bool without_previous = false;  // some watcher wants events alone

  base::KeyInterval interval() const;
};
Slice ReadSlice(const storage::Store& store, const SliceQuery& query);

class WatchHub::Core : public std::enable_shared_from_this<WatchHub::Core> {
 public:
  Core(Options options, const storage::Store& store, const HeaderSource& headers, base::Executor& watch,
       base::Executor& background);

  // --- Any thread ---
  void OnCommit(int64_t last_revision, absl::Span<const storage::Event> events);  // apply thread
  void OnReplaced(int64_t current_revision);                                      // apply thread
  uint64_t Open(std::shared_ptr<WatchSink> sink, WatchStreamOptions options);
  void Request(uint64_t stream, std::string_view encoded);
  void Writable(uint64_t stream);
  void Close(uint64_t stream);
  void Shutdown(absl::StatusCode code, std::string message);
  // The hub is gone: later tasks do nothing.
  void Abandon() { abandoned_.store(true, std::memory_order_relaxed); }
  Stats stats() const;
  bool has_streams() const { return stream_count_.load(std::memory_order_relaxed) > 0; }
  const Options& options() const { return options_; }

 private:
  // Shared with the apply thread.
  struct Intake {
    struct Commit {
      int64_t last_revision;
      std::vector<storage::Event> events;
      size_t bytes;
    };
    std::deque<Commit> commits;
    size_t bytes = 0;
    bool posted = false;  // a Drain is on its way
    size_t streams = 0;   // without any, nothing is kept and nobody is woken
    // What came after `commits` was not kept: it ends at this revision, and history has it. 0: nothing is
    // missing.
    int64_t skipped_to = 0;
  };

  template <typename F>
  void Run(F f);  // on the watch executor, unless the hub is gone

  // Intake.
  void OfferTurn();  // apply thread
  void TakeTurn();
  bool IsShortTurn();
  void Drain();
  void SkipTo(int64_t revision);

  // Requests.
  Stream* Find(uint64_t serial);
  void AddStream(uint64_t serial, std::shared_ptr<WatchSink> sink, WatchStreamOptions options);
  void HandleRequest(Stream& stream, const std::string& encoded);
  void HandleCreate(Stream& stream, const etcdserverpb::WatchCreateRequest& request);
  void HandleCancel(Stream& stream, int64_t id);
  void HandleProgress(Stream& stream);
  void HandleWritable(Stream& stream);
  void Refuse(Stream& stream, std::string_view reason);
  void RemoveStream(uint64_t serial);
  void EraseWatcher(Watcher& watcher);
  void AnswerProgress();
  bool TryAnswerProgress(Stream& stream);  // false: not yet
  void ArmProgress(Stream& stream);
  void ProgressTick(Stream& stream);

  // Delivery.
  void SetState(Watcher& watcher, Watcher::State state, int64_t next_revision);
  bool OverLimit(const Stream& stream) const;
  void Offer(Watcher& watcher, const storage::Event& event, uint32_t* position);
  // Sends what is due, its headers saying `revision`; a watcher whose stream is full falls behind instead.
  void Flush(int64_t revision);
  void SendDue(Stream& stream, const base::SharedBytes& header);
  void FallBehind(const DueEvents::Watch& watch);
  int64_t AppendResponse(const DueEvents::Watch& watch, ResponseBatch& responses);
  const base::SharedBytes& PieceFor(const Watcher& watcher, EncodedEvent& event);
  void SendHead(Stream& stream, int64_t revision, const ResponseHead& head);

  // Catch-up.
  void CatchUp();
  SliceQuery QueryFor(const std::vector<Watcher*>& cohort) const;
  void OnSlice(Slice slice);
  void Deliver(std::vector<Watcher*>& cohort, Slice slice, bool last_stretch);
  void Compacted(Watcher& watcher, int64_t compact_revision);
  void CancelCompacted(std::vector<Watcher*>& cohort, int64_t compact_revision);

  const Options options_;
  const storage::Store& store_;
  const HeaderSource& headers_;
  base::Executor& watch_;
  base::Executor& background_;
  std::atomic<bool> abandoned_{false};
  std::atomic<uint64_t> next_stream_{1};

  std::mutex intake_mu_;
  Intake intake_;  // under intake_mu_

  int64_t revision_;  // everything up to it has been given to the synced watchers
  base::Random random_;
  WatcherIndex index_;
  std::map<uint64_t, Stream> streams_;
  uint64_t next_watcher_ = 1;
  std::vector<uint64_t> progress_waiting_;  // streams
  bool shut_down_ = false;
  absl::StatusCode shutdown_code_ = absl::StatusCode::kUnavailable;
  std::string shutdown_message_;

  std::vector<EncodedEvent> batch_;
  DueEvents due_;

  // Watchers in kReady, by (next_revision, serial).
  std::map<std::pair<int64_t, uint64_t>, Watcher*> ready_;
  std::vector<Watcher*> cohort_;  // in kScanning; null where one was cancelled meanwhile
  bool reading_ = false;
  bool nearest_first_ = true;

  // Shared: for stats().
  std::atomic<int64_t> stream_count_{0};
  std::atomic<int64_t> watcher_count_{0};
  std::atomic<int64_t> unsynced_count_{0};
  std::atomic<int64_t> events_sent_{0};
  std::atomic<int64_t> backlog_events_{0};
};

template <typename F>
void WatchHub::Core::Run(F f) {
  watch_.Post([self = shared_from_this(), f = std::move(f)]() mutable {
    if (!self->abandoned_.load(std::memory_order_relaxed)) f(*self);
  });
}

}  // namespace kvd::server
