// What streams ask: creating and cancelling watches, progress, and the life of the streams themselves.
#include <algorithm>
#include <chrono>

#include "base/check.h"
#include "base/mutant.h"
#include "base/sites.h"
#include "etcdserverpb/rpc.pb.h"
#include "server/watch/hub_core.h"
#include "storage/store.h"

namespace kvd::server {
namespace {

// The watch ID of a response that belongs to no watch, or to all of the stream.
constexpr int64_t kNoWatch = -1;
constexpr base::Nanos kMinProgressInterval = std::chrono::milliseconds(100);

constexpr std::string_view kCompactedReason = "etcdserver: mvcc: required revision has been compacted";
constexpr std::string_view kEmptyRangeReason = "mvcc: watcher range is empty";
constexpr std::string_view kDuplicateIdReason = "mvcc: duplicate watch ID provided on the WatchStream";

uint8_t FlagsOf(const etcdserverpb::WatchCreateRequest& request) {
  uint8_t flags = 0;
  for (const int filter : request.filters()) {
    if (filter == etcdserverpb::WatchCreateRequest::NOPUT) flags |= Watcher::kNoPut;
    if (filter == etcdserverpb::WatchCreateRequest::NODELETE) flags |= Watcher::kNoDelete;
  }
  if (request.prev_kv()) flags |= Watcher::kPrevKv;
  if (request.progress_notify()) flags |= Watcher::kProgressNotify;
  if (request.fragment()) flags |= Watcher::kFragment;
  return flags;
}

bool IsUsed(const Stream& stream, int64_t id) {
  return stream.watchers.contains(id) || stream.spent_ids.contains(id);
}

}  // namespace

uint64_t WatchHub::Core::Open(std::shared_ptr<WatchSink> sink, WatchStreamOptions options) {
  const uint64_t serial = next_stream_.fetch_add(1, std::memory_order_relaxed);
  Run([serial, sink = std::move(sink), options = std::move(options)](Core& core) mutable {
    core.AddStream(serial, std::move(sink), std::move(options));
  });
  return serial;
}

void WatchHub::Core::Request(uint64_t stream, std::string_view encoded) {
  Run([stream, bytes = std::string(encoded)](Core& core) {
    if (Stream* s = core.Find(stream)) core.HandleRequest(*s, bytes);
    if (Stream* s = core.Find(stream)) s->sink->RequestDone(bytes.size());
  });
}

void WatchHub::Core::Writable(uint64_t stream) {
  Run([stream](Core& core) {
    if (Stream* s = core.Find(stream)) core.HandleWritable(*s);
  });
}

void WatchHub::Core::Close(uint64_t stream) {
  Run([stream](Core& core) { core.RemoveStream(stream); });
}

void WatchHub::Core::Shutdown(absl::StatusCode code, std::string message) {
  Run([code, message = std::move(message)](Core& core) {
    if (std::exchange(core.shut_down_, true)) return;
    core.shutdown_code_ = code;
    core.shutdown_message_ = message;
    while (!core.streams_.empty()) {
      const auto first = core.streams_.begin();
      first->second.sink->Finish(code, message);
      core.RemoveStream(first->first);
    }
  });
}

Stream* WatchHub::Core::Find(uint64_t serial) {
  const auto it = streams_.find(serial);
  return it == streams_.end() ? nullptr : &it->second;
}

void WatchHub::Core::AddStream(uint64_t serial, std::shared_ptr<WatchSink> sink, WatchStreamOptions options) {
  if (shut_down_) {
    sink->Finish(shutdown_code_, shutdown_message_);
    return;
  }
  Stream& stream = streams_[serial];
  stream.serial = serial;
  stream.sink = std::move(sink);
  stream.options = std::move(options);
  stream_count_.fetch_add(1, std::memory_order_relaxed);
  int64_t skipped_to = 0;
  {
    std::lock_guard lock(intake_mu_);
    ++intake_.streams;
    if (!intake_.posted) skipped_to = std::exchange(intake_.skipped_to, 0);
  }
  if (skipped_to != 0) SkipTo(skipped_to);
}

void WatchHub::Core::RemoveStream(uint64_t serial) {
  const auto it = streams_.find(serial);
  if (it == streams_.end()) return;
  Stream& stream = it->second;
  while (!stream.watchers.empty()) EraseWatcher(stream.watchers.begin()->second);
  if (stream.progress_timer != 0) watch_.Cancel(stream.progress_timer);
  streams_.erase(it);
  stream_count_.fetch_sub(1, std::memory_order_relaxed);
  std::lock_guard lock(intake_mu_);
  --intake_.streams;
}

void WatchHub::Core::HandleRequest(Stream& stream, const std::string& encoded) {
  etcdserverpb::WatchRequest request;
  if (!request.ParseFromString(encoded)) {
    stream.sink->Finish(absl::StatusCode::kInternal, "grpc: failed to unmarshal the received message");
    RemoveStream(stream.serial);
    return;
  }
  switch (request.request_union_case()) {
    case etcdserverpb::WatchRequest::kCreateRequest:
      HandleCreate(stream, request.create_request());
      break;
    case etcdserverpb::WatchRequest::kCancelRequest:
      HandleCancel(stream, request.cancel_request().watch_id());
      break;
    case etcdserverpb::WatchRequest::kProgressRequest:
      HandleProgress(stream);
      break;
    case etcdserverpb::WatchRequest::REQUEST_UNION_NOT_SET:
      break;
  }
}

void WatchHub::Core::HandleCreate(Stream& stream, const etcdserverpb::WatchCreateRequest& request) {
  static constexpr std::string_view kFirstKey("\0", 1);
  const std::string_view key = request.key().empty() ? kFirstKey : std::string_view(request.key());
  const auto interval = base::KeyInterval::FromRequest(key, request.range_end());
  if (stream.options.permission) {
    if (const auto refusal = stream.options.permission(interval)) return Refuse(stream, *refusal);
  }
  const int64_t start = request.start_revision();
  if (start < 0) return Refuse(stream, kCompactedReason);
  if (interval.empty()) return Refuse(stream, kEmptyRangeReason);
  int64_t id = request.watch_id();
  if (id == 0) {
    while (IsUsed(stream, stream.next_id)) ++stream.next_id;
    id = stream.next_id++;
  } else if (IsUsed(stream, id)) {
    return Refuse(stream, kDuplicateIdReason);
  }

  // The store may be ahead of what the hub has given out: a watch from "now" must not be told of a write that
  // its client may already know to be done.
  const int64_t current = store_.current_revision();
  Watcher& watcher = stream.watchers[id];
  watcher.stream = &stream;
  watcher.id = id;
  watcher.serial = next_watcher_++;
  watcher.flags = FlagsOf(request);
  watcher.next_revision = start == 0 ? current + 1 : start;
  watcher.progress_from = std::max(start, current);
  index_.Insert(watcher, interval);
  watcher_count_.fetch_add(1, std::memory_order_relaxed);
  SendHead(stream, current, {.watch_id = id, .created = true});
  if (watcher.has(Watcher::kProgressNotify) && stream.progress_watchers++ == 0) ArmProgress(stream);
  if (watcher.next_revision <= revision_ || watcher.next_revision < store_.compact_revision()) {
    SetState(watcher, Watcher::State::kReady, watcher.next_revision);
    CatchUp();
  }
}

void WatchHub::Core::Refuse(Stream& stream, std::string_view reason) {
  SendHead(stream, store_.current_revision(),
           {.watch_id = kNoWatch, .created = true, .canceled = true, .cancel_reason = reason});
}

void WatchHub::Core::HandleCancel(Stream& stream, int64_t id) {
  const auto it = stream.watchers.find(id);
  if (it != stream.watchers.end()) {
    EraseWatcher(it->second);
  } else if (stream.spent_ids.erase(id) == 0) {
    return;
  }
  SendHead(stream, store_.current_revision(), {.watch_id = id, .canceled = true});
}

void WatchHub::Core::EraseWatcher(Watcher& watcher) {
  Stream& stream = *watcher.stream;
  if (watcher.state == Watcher::State::kScanning) {
    std::replace(cohort_.begin(), cohort_.end(), &watcher, static_cast<Watcher*>(nullptr));
  }
  SetState(watcher, Watcher::State::kSynced, watcher.next_revision);  // out of the queues and counts
  index_.Remove(watcher);
  if (watcher.has(Watcher::kProgressNotify)) --stream.progress_watchers;
  watcher_count_.fetch_sub(1, std::memory_order_relaxed);
  stream.watchers.erase(watcher.id);
}

void WatchHub::Core::HandleWritable(Stream& stream) {
  if (stream.unsynced == 0 || OverLimit(stream)) return;
  for (auto& [id, watcher] : stream.watchers) {
    if (watcher.state == Watcher::State::kBlocked) {
      SetState(watcher, Watcher::State::kReady, watcher.next_revision);
    }
  }
  CatchUp();
}

// --- Progress ---

void WatchHub::Core::HandleProgress(Stream& stream) {
  if (stream.unsynced > 0) {  // nothing true could be said
    KVD_PROBE("watch/progress of who is behind");
    return;
  }
  // Whoever asks may have read the store's latest revision: the answer waits until the hub has come to it.
  stream.progress_target = store_.current_revision();
  if (stream.progress_requests++ > 0) return;  // already waiting
  if (!TryAnswerProgress(stream)) progress_waiting_.push_back(stream.serial);
}

void WatchHub::Core::AnswerProgress() {
  if (progress_waiting_.empty()) return;
  std::erase_if(progress_waiting_, [this](uint64_t serial) {
    Stream* stream = Find(serial);
    return stream == nullptr || TryAnswerProgress(*stream);
  });
}

bool WatchHub::Core::TryAnswerProgress(Stream& stream) {
  const bool true_for_all =
      stream.unsynced == 0 && std::all_of(stream.watchers.begin(), stream.watchers.end(), [&](const auto& w) {
        return w.second.progress_from <= std::max(revision_, stream.progress_target);
      });
  if (true_for_all && KVD_MUTANT("progress_ahead_of_events")) {
    SendHead(stream, stream.progress_target, {.watch_id = kNoWatch});
    stream.progress_requests = 0;
    return true;
  }
  if (true_for_all && revision_ < stream.progress_target) {
    KVD_PROBE("watch/progress waits for the hub");
    return false;
  }
  const int requests = std::exchange(stream.progress_requests, 0);
  for (int i = 0; true_for_all && i < requests; ++i) {
    SendHead(stream, revision_, {.watch_id = kNoWatch});
  }
  return true;
}

void WatchHub::Core::ArmProgress(Stream& stream) {
  if (stream.progress_timer != 0) return;
  base::Nanos delay = std::max(options_.progress_interval, kMinProgressInterval);
  delay += base::Nanos(static_cast<int64_t>(random_.Below(static_cast<uint64_t>(delay.count()) / 10)));
  stream.progress_timer = watch_.PostAfter(delay, [weak = weak_from_this(), serial = stream.serial] {
    const auto self = weak.lock();
    if (!self || self->abandoned_.load(std::memory_order_relaxed)) return;
    if (Stream* s = self->Find(serial)) self->ProgressTick(*s);
  });
}

void WatchHub::Core::ProgressTick(Stream& stream) {
  stream.progress_timer = 0;
  if (stream.progress_watchers == 0) return;
  const bool full = OverLimit(stream);
  for (auto& [id, watcher] : stream.watchers) {
    if (!watcher.has(Watcher::kProgressNotify)) continue;
    const bool idle = !watcher.has(Watcher::kSentSinceTick);
    watcher.flags &= static_cast<uint8_t>(~Watcher::kSentSinceTick);
    if (idle && !full && watcher.state == Watcher::State::kSynced && watcher.progress_from <= revision_) {
      SendHead(stream, revision_, {.watch_id = id});
    }
  }
  ArmProgress(stream);
}

}  // namespace kvd::server
