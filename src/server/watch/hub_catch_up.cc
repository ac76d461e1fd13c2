// Watchers that are behind are served out of the revision store. One slice is read at a time, for all
// watchers that stand in its reach, on the background executor; in turn for those nearest to the present, who
// are done soon, and for those furthest back. The last stretch is read on the watch executor itself: no
// revision can pass there meanwhile, so a watcher catches up however fast the writes are.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/mutant.h"
#include "base/sites.h"
#include "server/watch/hub_core.h"
#include "storage/store.h"

namespace kvd::server {
namespace {

// Enough for a client that cancels what it was told is over; one that never does does not grow the member.
constexpr size_t kMaxSpentIds = 10'000;

constexpr size_t kMaxCohort = 1024;

}  // namespace

base::KeyInterval SliceQuery::interval() const {
  switch (kind) {
    case Kind::kSingle:
      return base::KeyInterval::Single(start);
    case Kind::kOpen:
      return base::KeyInterval::From(start);
    case Kind::kHalfOpen:
      break;
  }
  return base::KeyInterval::Between(start, end);
}

Slice ReadSlice(const storage::Store& store, const SliceQuery& query) {
  storage::EventHistory history = store.Events(query.interval(), {.from_revision = query.from_revision,
                                                                  .to_revision = query.to_revision,
                                                                  .max_events = query.max_events,
                                                                  .max_bytes = query.max_bytes});
  Slice slice;
  slice.compacted = history.error != storage::StoreError::kNone;
  slice.compact_revision = history.compact_revision;
  slice.next_revision = history.next_revision;
  slice.events.reserve(history.events.size());
  for (storage::Event& event : history.events) {
    EncodedEvent& encoded = slice.events.emplace_back(std::move(event));
    const storage::Event& e = encoded.event();
    if (query.with_previous && !e.is_create()) {
      encoded.WithPrevious(
          [&](std::string* record) { return store.GetAt(e.key, e.revision.main - 1, record); });
    }
    if (query.without_previous || e.is_create()) encoded.WithoutPrevious();
  }
  return slice;
}

// The least interval that holds those of all the watchers.
SliceQuery WatchHub::Core::QueryFor(const std::vector<Watcher*>& cohort) const {
  SliceQuery query;
  const auto first = WatcherIndex::IntervalOf(*cohort.front());
  std::string_view start = first.start();
  std::string_view end = first.is_single() || first.is_open() ? std::string_view() : first.end();
  std::string past_single;  // the end that holds a single key and no more
  bool open = false;
  bool one_key = true;
  query.from_revision = cohort.front()->next_revision;
  for (const Watcher* watcher : cohort) {
    const auto interval = WatcherIndex::IntervalOf(*watcher);
    one_key = one_key && interval.is_single() && interval.start() == first.start();
    start = std::min(start, interval.start());
    open = open || interval.is_open();
    if (interval.is_single()) {
      if (interval.start() >= end) {
        past_single = std::string(interval.start()) + '\0';
        end = past_single;
      }
    } else if (!interval.is_open()) {
      end = std::max(end, interval.end());
    }
    query.from_revision = std::min(query.from_revision, watcher->next_revision);
    (watcher->has(Watcher::kPrevKv) ? query.with_previous : query.without_previous) = true;
  }
  query.kind = one_key ? SliceQuery::Kind::kSingle
               : open  ? SliceQuery::Kind::kOpen
                       : SliceQuery::Kind::kHalfOpen;
  query.start = std::string(start);
  if (query.kind == SliceQuery::Kind::kHalfOpen) query.end = std::string(end);
  query.to_revision = revision_;
  query.max_events = KVD_BUGGIFY("watch/one event at a time") ? 1 : options_.slice_events;
  query.max_bytes = options_.slice_bytes;
  return query;
}

// Starts the next read, unless one is under way.
void WatchHub::Core::CatchUp() {
  if (reading_ || ready_.empty()) return;
  const int64_t reach = static_cast<int64_t>(options_.slice_events);
  const int64_t compact_revision = store_.compact_revision();
  auto it = ready_.begin();
  if (nearest_first_) it = ready_.lower_bound({ready_.rbegin()->first.first - reach + 1, 0});
  nearest_first_ = !nearest_first_;
  const int64_t limit = it->first.first + reach;
  size_t seen = 0;
  while (it != ready_.end() && it->first.first < limit && seen++ < kMaxCohort) {
    Watcher& watcher = *(it++)->second;
    if (watcher.next_revision < compact_revision) {
      Compacted(watcher, compact_revision);
    } else if (watcher.next_revision > revision_) {
      SetState(watcher, Watcher::State::kSynced, watcher.next_revision);
    } else if (OverLimit(*watcher.stream)) {
      SetState(watcher, Watcher::State::kBlocked, watcher.next_revision);
    } else {
      SetState(watcher, Watcher::State::kScanning, watcher.next_revision);
      cohort_.push_back(&watcher);
    }
  }
  if (cohort_.empty()) {
    if (!ready_.empty()) Run([](Core& core) { core.CatchUp(); });
    return;
  }
  reading_ = true;
  background_.Post([self = shared_from_this(), query = QueryFor(cohort_)] {
    if (self->abandoned_.load(std::memory_order_relaxed)) return;
    Slice slice = ReadSlice(self->store_, query);
    self->Run([slice = std::move(slice)](Core& core) mutable { core.OnSlice(std::move(slice)); });
  });
}

void WatchHub::Core::OnSlice(Slice slice) {
  reading_ = false;
  std::vector<Watcher*> cohort = std::exchange(cohort_, {});
  std::erase(cohort, nullptr);
  if (slice.compacted) {
    KVD_PROBE("watch/compaction overtakes a read");
    CancelCompacted(cohort, slice.compact_revision);
  } else {
    Deliver(cohort, std::move(slice), /*last_stretch=*/false);
    // Who is within reach of the present now goes the rest of the way at once.
    std::vector<Watcher*> near;
    for (Watcher* watcher : cohort) {
      if (watcher->state != Watcher::State::kScanning) continue;
      if (revision_ - watcher->next_revision < static_cast<int64_t>(options_.slice_events)) {
        near.push_back(watcher);
      } else {
        SetState(*watcher, Watcher::State::kReady, watcher->next_revision);
      }
    }
    if (!near.empty()) {
      Slice rest = ReadSlice(store_, QueryFor(near));
      if (rest.compacted) {
        CancelCompacted(near, rest.compact_revision);
      } else {
        Deliver(near, std::move(rest), /*last_stretch=*/true);
      }
    }
  }
  CatchUp();
}

// Afterwards a watcher of the cohort is synced, blocked, or still behind: then it is kReady if this was the
// last stretch, else kScanning.
void WatchHub::Core::Deliver(std::vector<Watcher*>& cohort, Slice slice, bool last_stretch) {
  batch_ = std::move(slice.events);
  for (uint32_t i = 0; i < batch_.size(); ++i) {
    const EncodedEvent& event = batch_[i];
    index_.Match(event.event().key, [&](Watcher& watcher) {
      if (watcher.state != Watcher::State::kScanning || !watcher.wants(event.is_delete())) return true;
      if (event.event().revision.main >= watcher.next_revision) due_.Add(watcher, i);
      return true;
    });
  }
  Flush(slice.next_revision - 1);
  for (Watcher* watcher : cohort) {
    if (watcher->state == Watcher::State::kBlocked) KVD_PROBE("watch/blocked while it catches up");
    if (watcher->state != Watcher::State::kScanning) continue;
    const int64_t next = std::max(watcher->next_revision, slice.next_revision);
    if (next > revision_) {
      SetState(*watcher, Watcher::State::kSynced, next + (KVD_MUTANT("watch_skips_when_synced") ? 1 : 0));
    } else {
      SetState(*watcher, last_stretch ? Watcher::State::kReady : Watcher::State::kScanning, next);
    }
  }
}

void WatchHub::Core::Compacted(Watcher& watcher, int64_t compact_revision) {
  KVD_PROBE("watch/cancelled by a compaction");
  Stream& stream = *watcher.stream;
  const int64_t id = watcher.id;
  EraseWatcher(watcher);
  stream.spent_ids.insert(id);
  if (stream.spent_ids.size() > kMaxSpentIds) stream.spent_ids.erase(stream.spent_ids.begin());
  SendHead(stream, 0, {.watch_id = id, .canceled = true, .compact_revision = compact_revision});
}

// A compaction has overtaken the read: those it has cut off end, the others try again.
void WatchHub::Core::CancelCompacted(std::vector<Watcher*>& cohort, int64_t compact_revision) {
  for (Watcher* watcher : cohort) {
    if (watcher->next_revision < compact_revision) {
      Compacted(*watcher, compact_revision);
    } else {
      SetState(*watcher, Watcher::State::kReady, watcher->next_revision);
    }
  }
}

}  // namespace kvd::server
