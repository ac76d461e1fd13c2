// How events reach watchers.
#include <algorithm>
#include <utility>

#include "base/mutant.h"
#include "base/sites.h"
#include "server/watch/hub_core.h"
#include "storage/store.h"

namespace kvd::server {
namespace {

// Of one stream's responses, about so many are handed over at a time.
constexpr size_t kHandOverBytes = size_t{256} * 1024;

}  // namespace

void WatchHub::Core::SetState(Watcher& watcher, Watcher::State state, int64_t next_revision) {
  using State = Watcher::State;
  if (watcher.state == State::kReady) ready_.erase({watcher.next_revision, watcher.serial});
  const int delta =
      static_cast<int>(state != State::kSynced) - static_cast<int>(watcher.state != State::kSynced);
  if (delta != 0) {
    watcher.stream->unsynced += static_cast<size_t>(delta);
    unsynced_count_.fetch_add(delta, std::memory_order_relaxed);
  }
  watcher.state = state;
  watcher.next_revision = next_revision;
  if (state == State::kReady) ready_.emplace(std::make_pair(next_revision, watcher.serial), &watcher);
}

bool WatchHub::Core::OverLimit(const Stream& stream) const {
  return stream.sink->queued_bytes() > options_.max_queued_bytes;
}

// The first watcher that takes an event puts it into the batch; events that nobody wants cost nothing more.
void WatchHub::Core::Offer(Watcher& watcher, const storage::Event& event, uint32_t* position) {
  const bool is_delete = event.type == storage::Event::Type::kDelete;
  if (event.revision.main < watcher.next_revision || !watcher.wants(is_delete)) return;
  if (*position == Watcher::kNoSlot) {
    *position = static_cast<uint32_t>(batch_.size());
    batch_.emplace_back(event);
  }
  due_.Add(watcher, *position);
}

void DueEvents::Add(Watcher& watcher, uint32_t position) {
  const auto event = static_cast<uint32_t>(events_.size());
  events_.push_back({position, kNone});
  if (watcher.slot != kNone) {
    Watch& watch = watches_[watcher.slot];
    events_[watch.last_event].next = event;
    watch.last_event = event;
    return;
  }
  watcher.slot = static_cast<uint32_t>(watches_.size());
  watches_.push_back({&watcher, event, event, kNone});
  Stream& stream = *watcher.stream;
  if (stream.first_due == kNone) {
    stream.first_due = watcher.slot;
    streams_.push_back(&stream);
  } else {
    watches_[stream.last_due].next = watcher.slot;
  }
  stream.last_due = watcher.slot;
}

void DueEvents::Clear() {
  for (const Watch& watch : watches_) watch.watcher->slot = kNone;
  for (Stream* stream : streams_) stream->first_due = stream->last_due = kNone;
  constexpr size_t kKeep = size_t{16} * 1024;  // what one wide batch has grown need not stay
  const auto empty = [](auto& v) {
    const bool wide = v.size() >= v.capacity() / 4;
    v.clear();
    if (!wide && v.capacity() > kKeep) v.shrink_to_fit();
  };
  empty(streams_);
  empty(watches_);
  empty(events_);
}

void WatchHub::Core::Flush(int64_t revision) {
  if (due_.size() > 0) {
    const base::SharedBytes header = EncodeHeader(headers_, revision);
    for (Stream* stream : due_.streams()) SendDue(*stream, header);
    due_.Clear();
  }
  batch_.clear();
}

// One hand-over for all of them, unless they are many bytes: then the stream can begin to send meanwhile.
void WatchHub::Core::SendDue(Stream& stream, const base::SharedBytes& header) {
  ResponseBatch responses(header);
  const size_t most = std::min(kHandOverBytes, options_.max_queued_bytes / 4);
  int64_t events = 0;
  for (uint32_t i = stream.first_due; i != DueEvents::kNone; i = due_.watch(i).next) {
    const DueEvents::Watch& watch = due_.watch(i);
    if (responses.empty() && OverLimit(stream)) {
      FallBehind(watch);
      continue;
    }
    events += AppendResponse(watch, responses);
    if (responses.size() > most) stream.sink->Send(std::exchange(responses, ResponseBatch(header)));
  }
  if (!responses.empty()) stream.sink->Send(std::move(responses));
  events_sent_.fetch_add(events, std::memory_order_relaxed);
}

void WatchHub::Core::FallBehind(const DueEvents::Watch& watch) {
  KVD_PROBE("watch/slow stream falls behind");
  const auto revision_of = [this](uint32_t event) {
    return batch_[due_.event(event).position].event().revision.main;
  };
  int64_t next = revision_of(watch.first_event);
  if (KVD_MUTANT("slow_watch_loses_batch")) next = revision_of(watch.last_event) + 1;
  SetState(*watch.watcher, Watcher::State::kBlocked, next);
}

// The response of one watcher, or the fragments of it. Returns how many events that are.
int64_t WatchHub::Core::AppendResponse(const DueEvents::Watch& watch, ResponseBatch& responses) {
  Watcher& watcher = *watch.watcher;
  int64_t events = 0;
  size_t bytes = 0;  // of the events of this response
  responses.Begin(watcher.id);
  for (uint32_t e = watch.first_event; e != DueEvents::kNone; e = due_.event(e).next) {
    const base::SharedBytes& piece = PieceFor(watcher, batch_[due_.event(e).position]);
    if (watcher.has(Watcher::kFragment) && bytes > 0 &&
        (bytes + piece.size() >= options_.fragment_bytes || KVD_BUGGIFY("watch/fragment early"))) {
      KVD_PROBE("watch/fragment");
      responses.MarkFragment();
      responses.Begin(watcher.id);
      bytes = 0;
    }
    responses.Append(piece);
    bytes += piece.size();
    ++events;
  }
  watcher.flags |= Watcher::kSentSinceTick;
  return events;
}

const base::SharedBytes& WatchHub::Core::PieceFor(const Watcher& watcher, EncodedEvent& event) {
  // A re-created key starts anew: what stood before its deletion is not its previous value.
  if (!watcher.has(Watcher::kPrevKv) || event.event().is_create()) return event.WithoutPrevious();
  return event.WithPrevious([&](std::string* record) {
    const int64_t at = event.event().revision.main - (KVD_MUTANT("prev_kv_of_itself") ? 0 : 1);
    return store_.GetAt(event.event().key, at, record);
  });
}

void WatchHub::Core::SendHead(Stream& stream, int64_t revision, const ResponseHead& head) {
  ResponseBatch responses(EncodeHeader(headers_, revision));
  responses.Begin(head.watch_id);
  if (base::SharedBytes rest = EncodeHead(head); !rest.empty()) responses.Append(rest);
  stream.sink->Send(std::move(responses));
}

}  // namespace kvd::server
