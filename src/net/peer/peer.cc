#include "net/peer/peer.h"

#include <algorithm>
#include <utility>

#include "absl/time/time.h"
#include "base/log.h"
#include "base/strings.h"
#include "net/peer/send_buffer.h"
#include "net/peer/stream_reader.h"
#include "net/peer/stream_writer.h"
#include "raftpb/raft.pb.h"

namespace kvd::net {
namespace {

// The way by POST is for the moments without a stream: a short queue, and few requests at a time.
constexpr size_t kPipelineMessages = 64;
constexpr size_t kPipelineRequests = 4;

constexpr size_t kFewMessages = 2;
constexpr size_t kFewEntries = 4;

// The time in {"OK":true,"Now":"2006-01-02T15:04:05.999999999Z"}; nothing if the answer is not that.
std::optional<base::Nanos> ParseProbe(std::string_view body) {
  if (body.find("\"OK\":true") == std::string_view::npos) return std::nullopt;
  constexpr std::string_view kNow = "\"Now\":\"";
  size_t begin = body.find(kNow);
  if (begin == std::string_view::npos) return std::nullopt;
  begin += kNow.size();
  size_t end = body.find('"', begin);
  if (end == std::string_view::npos) return std::nullopt;
  absl::Time now;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, base::ToAbsl(body.substr(begin, end - begin)), &now, &error))
    return std::nullopt;
  return base::Nanos(absl::ToUnixNanos(now));
}

// Whether the thread that brings these may write them itself, which saves waking the I/O thread. More of them
// are load: that the I/O thread shares, and what comes until it gets to them goes out in the same write.
bool AreFew(const std::vector<OutgoingMessage>& messages) {
  if (messages.size() > kFewMessages) return false;
  size_t entries = 0;
  for (const OutgoingMessage& m : messages) entries += m.entries.size();
  return entries <= kFewEntries;
}

}  // namespace

Peer::Peer(std::shared_ptr<PeerCore> core, uint64_t id, std::vector<std::string> urls, bool remote)
    : core_(std::move(core)), id_(id), hex_id_(base::HexId(id)), remote_(remote), urls_(std::move(urls)) {}

Peer::~Peer() = default;

size_t Peer::QueueBytes(const OutgoingMessage& m) {
  size_t bytes = sizeof m + m.context.size();
  for (const OutgoingEntry& e : m.entries) bytes += sizeof e + e.data.size();
  return bytes;
}

bool Peer::Push(OutgoingMessage&& m) {
  size_t at = kPipeline;
  if (m.type == raftpb::MsgApp && lanes_[0].attached) {
    at = 0;
  } else if (lanes_[1].attached) {
    at = 1;
  }
  Lane& lane = lanes_[at];
  size_t bytes = QueueBytes(m);
  const PeerTransportOptions& o = core_->options;
  size_t limit = at == kPipeline ? std::min(kPipelineMessages, o.max_queued_messages) : o.max_queued_messages;
  bool full = lane.queue.size() >= limit || (!lane.queue.empty() && lane.bytes + bytes > o.max_queued_bytes);
  if (full) return false;
  lane.bytes += bytes;
  lane.queue.push_back(std::move(m));
  return true;
}

void Peer::Wake() {
  if (woken_) return;
  woken_ = shared_from_this();
  core_->thread.Push(this);
}

void Peer::Send(std::vector<OutgoingMessage>&& messages) {
  std::array<std::shared_ptr<StreamWriter>, 2> writers;
  const bool few = AreFew(messages);
  {
    std::lock_guard lock(mutex_);
    if (closed_ || messages.empty()) return;
    for (OutgoingMessage& m : messages) {
      if (Push(std::move(m))) continue;
      ++send_failures_;
      overflow_ = true;
    }
    if (!few || overflow_ || !lanes_[kPipeline].queue.empty() || core_->thread.IsCurrent()) return Wake();
    for (size_t i = 0; i < writers.size(); ++i) {
      if (!lanes_[i].queue.empty()) writers[i] = writers_[i];
    }
  }
  for (const std::shared_ptr<StreamWriter>& writer : writers) {
    if (writer == nullptr || writer->SendHere()) continue;
    std::lock_guard lock(mutex_);
    Wake();
  }
}

void Peer::Run(bool thread_stopped) {
  std::shared_ptr<Peer> keep;
  std::array<std::shared_ptr<StreamWriter>, 2> writers;
  bool overflow;
  {
    std::lock_guard lock(mutex_);
    keep = std::exchange(woken_, nullptr);
    overflow = std::exchange(overflow_, false);
    writers = writers_;
  }
  if (thread_stopped || stopped_) return;
  IoThread::Batch batch(core_->thread);
  for (const std::shared_ptr<StreamWriter>& writer : writers) {
    if (writer) writer->Pump();
  }
  PumpPipeline();
  if (overflow && !stopped_) core_->NotifyUnreachable(id_);
}

std::vector<OutgoingMessage> Peer::Take(StreamKind kind, size_t max_bytes, bool* more) {
  std::vector<OutgoingMessage> out;
  size_t taken = 0;
  std::lock_guard lock(mutex_);
  Lane& lane = lanes_[LaneOf(kind)];
  while (!lane.queue.empty()) {
    size_t bytes = QueueBytes(lane.queue.front());
    if (!out.empty() && taken + bytes > max_bytes) break;
    taken += bytes;
    lane.bytes -= bytes;
    out.push_back(std::move(lane.queue.front()));
    lane.queue.pop_front();
  }
  *more = !lane.queue.empty();
  return out;
}

void Peer::Start() {
  for (StreamKind kind : {StreamKind::kMsgApp, StreamKind::kMessage}) {
    auto& reader = readers_[LaneOf(kind)];
    reader = std::make_shared<StreamReader>(core_, shared_from_this(), kind);
    reader->Start();
  }
}

void Peer::Stop() {
  if (std::exchange(stopped_, true)) return;
  std::array<std::shared_ptr<StreamWriter>, 2> writers;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    lanes_ = {};
    writers.swap(writers_);
    active_since_.reset();
  }
  for (auto& reader : readers_) {
    if (auto held = std::exchange(reader, nullptr)) held->Stop();
  }
  for (const std::shared_ptr<StreamWriter>& writer : writers) {
    if (writer) writer->Close(absl::CancelledError("peer removed"));
  }
}

void Peer::Attach(StreamKind kind, const std::shared_ptr<StreamWriter>& writer) {
  std::shared_ptr<StreamWriter> old = writer;
  {
    std::lock_guard lock(mutex_);
    old.swap(writers_[LaneOf(kind)]);
  }
  if (old) {
    old->Close(absl::CancelledError("replaced by a new stream of the same peer"));
    if (stopped_) return;
  }
  {
    std::lock_guard lock(mutex_);
    lanes_[LaneOf(kind)].attached = true;
  }
  Activate();
  KVD_LOG(kInfo, "established TCP streaming connection with remote peer",
          {"stream-writer-type", kind == StreamKind::kMsgApp ? "stream MsgApp v2" : "stream Message"},
          {"local-member-id", core_->member_hex}, {"remote-peer-id", hex_id_});
  writer->Start();
}

void Peer::Detach(StreamKind kind, StreamWriter* writer, bool unsent) {
  {
    std::lock_guard lock(mutex_);
    auto& slot = writers_[LaneOf(kind)];
    if (slot.get() == writer) {
      slot.reset();
      Lane& lane = lanes_[LaneOf(kind)];
      lane.attached = false;
      send_failures_ += lane.queue.size();
      lane.queue.clear();
      lane.bytes = 0;
    }
  }
  if (unsent) ++send_failures_;
  // What the socket took may not have arrived either, so this is told even when nothing waited.
  if (!stopped_) core_->NotifyUnreachable(id_);
}

void Peer::PumpPipeline() {
  while (posts_ < kPipelineRequests && !stopped_) {
    OutgoingMessage message;
    {
      std::lock_guard lock(mutex_);
      Lane& lane = lanes_[kPipeline];
      if (lane.queue.empty()) return;
      message = std::move(lane.queue.front());
      lane.bytes -= QueueBytes(message);
      lane.queue.pop_front();
    }
    Post(message);
  }
}

void Peer::Post(const OutgoingMessage& message) {
  SendBuffer encoded;
  AppendEncoded(message, encoded);
  PeerRequest request;
  request.method = "POST";
  request.path = "/raft";
  request.headers.Add("Content-Type", "application/protobuf");
  core_->AddRequestFields(request.headers);
  request.body.assign(encoded.data(), encoded.size());
  HttpCallOptions options;
  options.connect_timeout = core_->options.dial_timeout;
  options.timeout = core_->options.dial_timeout + core_->options.write_timeout + core_->options.read_timeout;
  options.max_body_bytes = 65536;
  ++posts_;
  std::string url = Url();
  core_->client.Call(
      url, request, options,
      [self = shared_from_this(), url, bytes = encoded.size()](const absl::StatusOr<PeerResponse>& response) {
        self->OnPosted(url, bytes, response);
      });
}

void Peer::OnPosted(const std::string& url, size_t bytes, const absl::StatusOr<PeerResponse>& response) {
  --posts_;
  if (stopped_) return;
  absl::Status status = response.status();
  if (response.ok() && response->status != 204) {
    status = absl::UnavailableError(
        base::StrCat("HTTP status ", response->status, " for a message: ", response->body));
  }
  if (status.ok()) {
    CountSent(bytes);
    Activate();
  } else {
    ++send_failures_;
    UrlFailed(url);
    Deactivate("write", status);
    bool removed = response.ok() && (response->status == 403 || response->status == 410) &&
                   response->body.find("remove") != std::string::npos;
    if (removed) core_->NotifyRemoved(id_);
    core_->NotifyUnreachable(id_);
  }
  PumpPipeline();
}

void Peer::ProbeIfDue(base::Nanos now) {
  if (remote_ || probing_ || stopped_ || now < next_probe_) return;
  probing_ = true;
  next_probe_ = now + core_->options.probe_interval;
  PeerRequest request;
  request.path = "/raft/probing";
  HttpCallOptions options;
  options.connect_timeout = core_->options.dial_timeout;
  options.timeout = core_->options.dial_timeout + core_->options.read_timeout;
  options.max_body_bytes = 4096;
  core_->client.Call(Url(), request, options,
                     [self = shared_from_this(), now](const absl::StatusOr<PeerResponse>& response) {
                       self->OnProbed(now, response);
                     });
}

void Peer::OnProbed(base::Nanos started, const absl::StatusOr<PeerResponse>& response) {
  probing_ = false;
  if (stopped_ || !response.ok() || response->status != 200) return;
  std::optional<base::Nanos> theirs = ParseProbe(response->body);
  if (!theirs) return;
  base::Nanos round_trip = core_->Now() - started;
  // The answer was written about half a round trip ago.
  base::Nanos difference = *theirs + round_trip / 2 - core_->clock.Wall();
  {
    std::lock_guard lock(mutex_);
    round_trip_ = round_trip;
    clock_difference_ = difference;
  }
  if (difference > std::chrono::seconds(1) || difference < -std::chrono::seconds(1)) {
    KVD_LOG(kWarn, "prober found high clock drift", {"remote-peer-id", hex_id_},
            {"clock-drift", absl::FormatDuration(absl::Nanoseconds(difference.count()))},
            {"rtt", absl::FormatDuration(absl::Nanoseconds(round_trip.count()))});
  }
}

void Peer::UpdateUrls(std::vector<std::string> urls) {
  std::lock_guard lock(mutex_);
  urls_ = std::move(urls);
  url_ = 0;
}

std::string Peer::Url() const {
  std::lock_guard lock(mutex_);
  return urls_.empty() ? std::string() : urls_[url_ % urls_.size()];
}

void Peer::UrlFailed(std::string_view failed) {
  std::lock_guard lock(mutex_);
  if (!urls_.empty() && urls_[url_ % urls_.size()] == failed) url_ = (url_ + 1) % urls_.size();
}

void Peer::Activate() {
  {
    std::lock_guard lock(mutex_);
    if (active_since_ || closed_) return;
    active_since_ = core_->Now();
  }
  KVD_LOG(kInfo, "peer became active", {"peer-id", hex_id_});
}

void Peer::Deactivate(std::string_view action, const absl::Status& why) {
  {
    std::lock_guard lock(mutex_);
    if (!active_since_) return;
    active_since_.reset();
  }
  KVD_LOG(kWarn, "peer became inactive (message send to peer failed)", {"peer-id", hex_id_},
          {"action", action}, {"error", why});
}

std::optional<base::Nanos> Peer::ActiveSince() const {
  std::lock_guard lock(mutex_);
  return active_since_;
}

PeerCounters Peer::Counters() const {
  PeerCounters c;
  c.sent_bytes = sent_bytes_;
  c.received_bytes = received_bytes_;
  c.sent_failures = send_failures_;
  c.received_failures = receive_failures_;
  c.snapshots_sent = snapshots_sent_;
  c.snapshot_send_failures = snapshot_failures_;
  std::lock_guard lock(mutex_);
  for (const Lane& lane : lanes_) {
    c.queued_messages += lane.queue.size();
    c.queued_bytes += lane.bytes;
  }
  c.round_trip = round_trip_;
  c.clock_difference = clock_difference_;
  c.stream_msgapp = lanes_[0].attached;
  c.stream_message = lanes_[1].attached;
  return c;
}

}  // namespace kvd::net
