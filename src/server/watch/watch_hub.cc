#include "server/watch/watch_hub.h"

#include <algorithm>
#include <utility>

#include "base/sites.h"
#include "server/watch/hub_core.h"
#include "storage/store.h"

namespace kvd::server {
namespace {
// Deliveries that are sent before more of them are gathered, at the next revision.
constexpr size_t kManyDue = size_t{64} * 1024;
}  // namespace

WatchHub::Core::Core(Options options, const storage::Store& store, const HeaderSource& headers,
                     base::Executor& watch, base::Executor& background)
    : options_(options),
      store_(store),
      headers_(headers),
      watch_(watch),
      background_(background),
      revision_(store_.current_revision()),
      random_(base::Random(options.seed).Split("watch progress")) {}

void WatchHub::Core::OnCommit(int64_t last_revision, absl::Span<const storage::Event> events) {
  bool post;
  {
    std::lock_guard lock(intake_mu_);
    if (intake_.streams == 0 && !intake_.posted) {
      intake_.skipped_to = last_revision;
      return;
    }
    size_t bytes = 0;
    for (const storage::Event& e : events) bytes += sizeof e + e.kv.size();
    if (intake_.skipped_to != 0 || intake_.bytes + bytes > options_.max_backlog_bytes ||
        KVD_BUGGIFY("watch/left to history")) {
      KVD_PROBE("watch/backlog full");
      intake_.skipped_to = last_revision;
    } else {
      intake_.commits.push_back({last_revision, {events.begin(), events.end()}, bytes});
      intake_.bytes += bytes;
      backlog_events_.fetch_add(static_cast<int64_t>(events.size()), std::memory_order_relaxed);
    }
    post = !std::exchange(intake_.posted, true);
  }
  if (post) OfferTurn();
}

// The apply thread takes the hub's turn itself if the hub is idle, which saves waking another; but at the end
// of what it is at, when those who wait for the commit have been answered.
void WatchHub::Core::OfferTurn() {
  base::Executor* const here = base::Executor::OfThisThread();
  if (here == nullptr) return Run([](Core& core) { core.TakeTurn(); });
  here->Post([self = shared_from_this()] {
    self->watch_.PostOrRun([self] {
      if (!self->abandoned_.load(std::memory_order_relaxed)) self->TakeTurn();
    });
  });
}

// On the hub's own thread, or another's, which is not to be kept.
void WatchHub::Core::TakeTurn() {
  if (base::Executor::OfThisThread() == &watch_ || IsShortTurn()) return Drain();
  KVD_PROBE("watch/long turn");
  Run([](Core& core) { core.Drain(); });
}

bool WatchHub::Core::IsShortTurn() {
  constexpr size_t kFewEvents = 8;
  constexpr size_t kFewDeliveries = 32;
  constexpr size_t kFewBytes = size_t{64} * 1024;
  if (!progress_waiting_.empty()) return false;
  std::lock_guard lock(intake_mu_);
  if (intake_.skipped_to != 0 || intake_.bytes > kFewBytes) return false;
  size_t events = 0;
  size_t deliveries = 0;
  for (const Intake::Commit& commit : intake_.commits) {
    for (const storage::Event& event : commit.events) {
      const auto takes_little = [&deliveries](Watcher& watcher) {
        // The record before an event has to be read.
        return ++deliveries <= kFewDeliveries && !watcher.has(Watcher::kPrevKv);
      };
      if (++events > kFewEvents || !index_.Match(event.key, takes_little)) return false;
    }
  }
  return true;
}

void WatchHub::Core::OnReplaced(int64_t current_revision) {
  bool post;
  {
    std::lock_guard lock(intake_mu_);
    KVD_PROBE("watch/store replaced");
    int64_t dropped = 0;
    for (const Intake::Commit& commit : intake_.commits)
      dropped += static_cast<int64_t>(commit.events.size());
    backlog_events_.fetch_sub(dropped, std::memory_order_relaxed);
    intake_.commits.clear();
    intake_.bytes = 0;
    intake_.skipped_to = current_revision;
    post = !std::exchange(intake_.posted, true);
  }
  if (post) Run([](Core& core) { core.Drain(); });
}

// Takes about one slice of commits, so that other tasks get their turn.
void WatchHub::Core::Drain() {
  std::vector<Intake::Commit> commits;
  int64_t skipped_to = 0;
  bool more = false;
  {
    std::lock_guard lock(intake_mu_);
    size_t bytes = 0;
    while (!intake_.commits.empty() && bytes < options_.slice_bytes) {
      bytes += intake_.commits.front().bytes;
      commits.push_back(std::move(intake_.commits.front()));
      intake_.commits.pop_front();
    }
    intake_.bytes -= bytes;
    more = intake_.posted = !intake_.commits.empty();
    if (!more) skipped_to = std::exchange(intake_.skipped_to, 0);
  }
  size_t batch_bytes = 0;
  for (const Intake::Commit& commit : commits) {
    int64_t current = 0;
    for (const storage::Event& event : commit.events) {
      if (event.revision.main != current) {
        if (batch_bytes >= options_.slice_bytes || due_.size() >= kManyDue) {
          Flush(current);
          batch_bytes = 0;
        }
        current = event.revision.main;
      }
      batch_bytes += event.kv.size();
      uint32_t position = Watcher::kNoSlot;
      index_.Match(event.key, [&](Watcher& watcher) {
        if (watcher.state == Watcher::State::kSynced) Offer(watcher, event, &position);
        return true;
      });
    }
    revision_ = commit.last_revision;
    backlog_events_.fetch_sub(static_cast<int64_t>(commit.events.size()), std::memory_order_relaxed);
  }
  Flush(revision_);
  if (skipped_to != 0) SkipTo(skipped_to);
  AnswerProgress();
  if (more) Run([](Core& core) { core.Drain(); });
}

// The events after revision_ up to `revision` were not kept: who may be missing some reads them from history.
void WatchHub::Core::SkipTo(int64_t revision) {
  for (auto& [serial, stream] : streams_) {
    for (auto& [id, watcher] : stream.watchers) {
      if (watcher.state != Watcher::State::kSynced) continue;
      const int64_t next = std::max(watcher.next_revision, revision_ + 1);
      if (next <= revision) SetState(watcher, Watcher::State::kReady, next);
    }
  }
  revision_ = std::max(revision_, revision);
  CatchUp();
}

WatchHub::Stats WatchHub::Core::stats() const {
  Stats s;
  s.streams = stream_count_.load(std::memory_order_relaxed);
  s.watchers = watcher_count_.load(std::memory_order_relaxed);
  s.unsynced_watchers = unsynced_count_.load(std::memory_order_relaxed);
  s.events_sent = events_sent_.load(std::memory_order_relaxed);
  s.backlog_events = backlog_events_.load(std::memory_order_relaxed);
  return s;
}

namespace {

class StreamHandle final : public WatchStream {
 public:
  StreamHandle(std::shared_ptr<WatchHub::Core> core, uint64_t serial)
      : core_(std::move(core)), serial_(serial) {}
  ~StreamHandle() override { Close(); }
  void OnRequest(std::string_view encoded) override { core_->Request(serial_, encoded); }
  void OnWritable() override { core_->Writable(serial_); }
  void Close() override { core_->Close(serial_); }

 private:
  std::shared_ptr<WatchHub::Core> core_;
  uint64_t serial_;
};

}  // namespace

class WatchHub::Observer final : public storage::StoreObserver {
 public:
  explicit Observer(Core& core) : core_(core) {}
  void OnCommit(int64_t, int64_t last_revision, absl::Span<const storage::Event> events) override {
    core_.OnCommit(last_revision, events);
  }
  void OnReplaced(int64_t current_revision) override { core_.OnReplaced(current_revision); }

 private:
  Core& core_;
};

WatchHub::WatchHub(Options options, const storage::Store& store, const HeaderSource& headers,
                   base::Executor& watch, base::Executor& background)
    : core_(std::make_shared<Core>(options, store, headers, watch, background)),
      observer_(std::make_unique<Observer>(*core_)) {}

WatchHub::~WatchHub() {
  core_->Abandon();
}

storage::StoreObserver& WatchHub::observer() {
  return *observer_;
}

std::unique_ptr<WatchStream> WatchHub::Open(std::shared_ptr<WatchSink> sink, WatchStreamOptions options) {
  const uint64_t serial = core_->Open(std::move(sink), std::move(options));
  return std::make_unique<StreamHandle>(core_, serial);
}

void WatchHub::Shutdown(absl::StatusCode code, std::string_view message) {
  core_->Shutdown(code, std::string(message));
}

bool WatchHub::has_streams() const {
  return core_->has_streams();
}
WatchHub::Stats WatchHub::stats() const {
  return core_->stats();
}
size_t WatchHub::max_queued_bytes() const {
  return core_->options().max_queued_bytes;
}

}  // namespace kvd::server
