// How events reach watchers.
#include <utility>

#include "base/mutant.h"
#include "base/sites.h"
#include "server/watch/hub_core.h"
#include "storage/store.h"

namespace kvd::server {

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
  Offer(watcher, *position);
}

void WatchHub::Core::Offer(Watcher& watcher, uint32_t position) {
  if (watcher.slot == Watcher::kNoSlot) {
    watcher.slot = static_cast<uint32_t>(pending_used_);
    if (pending_used_ == pending_.size()) pending_.emplace_back();
    pending_[pending_used_++].watcher = &watcher;
  }
  pending_[watcher.slot].events.push_back(position);
}

void WatchHub::Core::Flush(int64_t revision) {
  for (size_t i = 0; i < pending_used_; ++i) {
    Pending& pending = pending_[i];
    Watcher& watcher = *pending.watcher;
    watcher.slot = Watcher::kNoSlot;
    if (OverLimit(*watcher.stream)) {
      KVD_PROBE("watch/slow stream falls behind");
      int64_t first = batch_[pending.events.front()].event().revision.main;
      if (KVD_MUTANT("slow_watch_loses_batch"))
        first = batch_[pending.events.back()].event().revision.main + 1;
      SetState(watcher, Watcher::State::kBlocked, first);
    } else {
      Send(watcher, pending.events, revision);
    }
    pending.events.clear();
  }
  constexpr size_t kKeep = 1024;  // what one wide batch has grown need not stay
  if (pending_.size() > kKeep && pending_used_ < pending_.size() / 4) pending_.resize(kKeep);
  pending_used_ = 0;
  batch_.clear();
}

const base::SharedBytes& WatchHub::Core::PieceFor(const Watcher& watcher, EncodedEvent& event) {
  // A re-created key starts anew: what stood before its deletion is not its previous value.
  if (!watcher.has(Watcher::kPrevKv) || event.event().is_create()) return event.WithoutPrevious();
  return event.WithPrevious([&](std::string* record) {
    const int64_t at = event.event().revision.main - (KVD_MUTANT("prev_kv_of_itself") ? 0 : 1);
    return store_.GetAt(event.event().key, at, record);
  });
}

void WatchHub::Core::Send(Watcher& watcher, const std::vector<uint32_t>& events, int64_t revision) {
  Stream& stream = *watcher.stream;
  ResponseHead head{.revision = revision, .watch_id = watcher.id};
  std::vector<base::SharedBytes> pieces;
  pieces.reserve(events.size() + 1);
  size_t bytes = 0;
  pieces.emplace_back();  // the head, once it is known whether a fragment follows
  for (const uint32_t position : events) {
    const base::SharedBytes& piece = PieceFor(watcher, batch_[position]);
    if (watcher.has(Watcher::kFragment) && pieces.size() > 1 &&
        (bytes + piece.size() >= options_.fragment_bytes || KVD_BUGGIFY("watch/fragment early"))) {
      KVD_PROBE("watch/fragment");
      head.fragment = true;
      pieces.front() = EncodeHead(headers_, head);
      stream.sink->Send(std::exchange(pieces, {}));
      pieces.emplace_back();
      bytes = 0;
    }
    bytes += piece.size();
    pieces.push_back(piece);
  }
  head.fragment = false;
  pieces.front() = EncodeHead(headers_, head);
  stream.sink->Send(std::move(pieces));
  watcher.flags |= Watcher::kSentSinceTick;
  events_sent_.fetch_add(static_cast<int64_t>(events.size()), std::memory_order_relaxed);
}

void WatchHub::Core::SendHead(Stream& stream, const ResponseHead& head) {
  stream.sink->Send({EncodeHead(headers_, head)});
}

}  // namespace kvd::server
