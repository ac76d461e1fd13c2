#include "watch_client.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace kvd::sim {

// Messages wait until the client has read those before them.
class WatchClient::Sink final : public server::WatchSink, public std::enable_shared_from_this<Sink> {
 public:
  Sink(WatchClient& client, uint64_t generation) : client_(&client), generation_(generation) {}
  void Detach() { client_ = nullptr; }

  void Send(std::vector<base::SharedBytes> pieces) override {
    if (client_ == nullptr) return;
    std::string message;
    for (const base::SharedBytes& piece : pieces) message.append(piece.view());
    queued_ += message.size();
    messages_.push_back(std::move(message));
    if (!reading_) ReadLater();
  }
  size_t queued_bytes() override { return queued_; }
  void Finish(absl::StatusCode, std::string_view) override {}

 private:
  void ReadLater() {
    reading_ = true;
    client_->cluster_.wire().PostAfter(client_->options_.read_pause + base::Nanos(1),
                                       [self = shared_from_this()] { self->Read(); });
  }
  void Read() {
    reading_ = false;
    if (client_ == nullptr || !client_->cluster_.alive(client_->member_)) return;
    std::string message = std::move(messages_.front());
    messages_.pop_front();
    size_t half = client_->options_.resume_at_half;
    bool above = queued_ > half;
    queued_ -= message.size();
    WatchClient* client = client_;
    if (above && queued_ <= half && client->stream_ != nullptr) client->stream_->OnWritable();
    client->OnMessage(generation_, message);
    if (client_ != nullptr && !messages_.empty()) ReadLater();
  }

  WatchClient* client_;
  const uint64_t generation_;
  std::deque<std::string> messages_;
  size_t queued_ = 0;
  bool reading_ = false;
};

WatchClient::WatchClient(SimCluster& cluster, const Truth& truth, Verdict& verdict, Options options)
    : cluster_(cluster), truth_(truth), verdict_(verdict), options_(std::move(options)) {}

void WatchClient::Start(size_t member) {
  Stop();
  member_ = member;
  sink_ = std::make_shared<Sink>(*this, ++generation_);
  stream_ = cluster_.node(member).watch_hub().Open(sink_, {});
  etcdserverpb::WatchRequest request;
  etcdserverpb::WatchCreateRequest& create = *request.mutable_create_request();
  create.set_key(options_.key);
  create.set_range_end(options_.range_end);
  create.set_prev_kv(options_.prev_kv);
  create.set_fragment(options_.fragment);
  create.set_progress_notify(options_.progress);
  if (next_ == 0 && options_.start_ahead > 0) next_ = truth_.revision() + options_.start_ahead;
  create.set_start_revision(next_);
  fragments_.clear();
  fragment_revision_ = 0;
  stream_->OnRequest(request.SerializeAsString());
}

void WatchClient::Stop() {
  if (sink_ != nullptr) sink_->Detach();
  sink_.reset();
  stream_.reset();
}

void WatchClient::RequestProgress() {
  if (stream_ == nullptr) return;
  etcdserverpb::WatchRequest request;
  request.mutable_progress_request();
  stream_->OnRequest(request.SerializeAsString());
}

std::string WatchClient::Describe() const {
  return absl::StrCat("watch of [", options_.key, ", ", options_.range_end, ") on member ", member_, " at ",
                      next_);
}

void WatchClient::Fail(const std::string& what) {
  verdict_.Fail("watch", absl::StrCat(Describe(), ": ", what));
}

bool WatchClient::CaughtUp(int64_t revision) const {
  return next_ > 0 &&
         (next_ > revision || !truth_.Touched(options_.key, options_.range_end, next_, revision));
}

void WatchClient::OnMessage(uint64_t generation, const std::string& bytes) {
  if (generation != generation_) return;
  etcdserverpb::WatchResponse response;
  if (!response.ParseFromString(bytes)) return Fail("a response that does not parse");
  if (response.created()) {
    if (response.canceled()) return Fail(absl::StrCat("refused: ", response.cancel_reason()));
    if (next_ == 0) next_ = response.header().revision() + 1;
    return;
  }
  if (response.canceled()) {
    if (response.compact_revision() <= next_) {
      return Fail(absl::StrCat("cancelled as compacted at ", response.compact_revision()));
    }
    next_ = response.compact_revision();
    size_t member = member_;
    uint64_t life = cluster_.life(member);
    Stop();
    cluster_.wire().PostAfter(std::chrono::milliseconds(10), [this, member, life] {
      if (cluster_.alive(member) && cluster_.life(member) == life && !running()) Start(member);
    });
    return;
  }
  if (response.events_size() > 0) return OnEvents(response);
  if (response.fragment()) return Fail("an empty fragment");
  // Progress: nothing up to this revision is still to come.
  int64_t revision = response.header().revision();
  if (revision >= next_ && truth_.Touched(options_.key, options_.range_end, next_, revision)) {
    return Fail(absl::StrCat("progress to ", revision, " ahead of events"));
  }
  if (revision >= next_) next_ = revision + 1;
}

void WatchClient::OnEvents(const etcdserverpb::WatchResponse& response) {
  for (const mvccpb::Event& event : response.events()) fragments_.push_back(event);
  if (response.fragment()) {
    if (!options_.fragment) Fail("a fragment that was not asked for");
    return;
  }
  std::vector<mvccpb::Event> events = std::move(fragments_);
  fragments_.clear();
  // What must be told from where the watch stands up to the last revision of this response, all of it.
  int64_t last = events.back().kv().mod_revision();
  if (response.header().revision() < last) return Fail("a header older than its events");
  size_t at = 0;
  for (int64_t revision = next_; revision <= last; ++revision) {
    const auto* changes = truth_.At(revision);
    if (changes == nullptr) return Fail(absl::StrCat("an event of revision ", last, ", which nobody wrote"));
    for (const Truth::Change& change : *changes) {
      if (!InRange(change.kv.key(), options_.key, options_.range_end)) continue;
      std::string wanted =
          absl::StrCat(change.is_delete ? "delete {" : "put {", change.kv.ShortDebugString(), "}");
      if (at == events.size()) return Fail(absl::StrCat("misses ", wanted));
      const mvccpb::Event& event = events[at++];
      if ((event.type() == mvccpb::Event::DELETE) != change.is_delete ||
          event.kv().SerializeAsString() != change.kv.SerializeAsString()) {
        return Fail(absl::StrCat("should say ", wanted, ", says {", event.ShortDebugString(), "}"));
      }
      if (!options_.prev_kv && event.has_prev_kv()) return Fail("a previous value that was not asked for");
      if (!options_.prev_kv) continue;
      const mvccpb::KeyValue* previous = truth_.KeyAt(change.kv.key(), revision - 1);
      bool expected = previous != nullptr && (change.is_delete || change.kv.version() > 1);
      // A compaction may have taken it; then there is none.
      if (event.has_prev_kv() &&
          (!expected || event.prev_kv().SerializeAsString() != previous->SerializeAsString())) {
        return Fail(
            absl::StrCat("wrong previous value of ", wanted, ": {", event.prev_kv().ShortDebugString(), "}"));
      }
      int64_t compacted = cluster_.node(member_).store().compact_revision();
      if (expected && !event.has_prev_kv() && revision - 1 >= compacted) {
        return Fail(absl::StrCat("no previous value of ", wanted));
      }
    }
  }
  if (at != events.size()) {
    return Fail(
        absl::StrCat("repeats or reorders, or tells what is not its: {", events[at].ShortDebugString(), "}"));
  }
  events_ += events.size();
  next_ = last + 1;
}

}  // namespace kvd::sim
