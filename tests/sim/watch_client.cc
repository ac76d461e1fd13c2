#include "watch_client.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace kvd::sim {

// Messages wait until the client has read those before them.
class WatchClient::Sink final : public server::WatchSink, public std::enable_shared_from_this<Sink> {
 public:
  Sink(WatchClient& client, uint64_t generation) : client_(&client), generation_(generation) {}
  void Detach() { client_ = nullptr; }

  void Send(server::ResponseBatch responses) override {
    if (client_ == nullptr) return;
    responses.ForEach([this](std::string_view message) {
      queued_ += message.size();
      messages_.emplace_back(message);
    });
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
    : cluster_(cluster),
      truth_(truth),
      verdict_(verdict),
      options_(std::move(options)),
      checker_(
          truth, {options_.key, options_.range_end, options_.prev_kv, options_.fragment},
          [this](const std::string& what) { Fail(what); },
          [this] { return cluster_.node(member_).store().compact_revision(); }) {}

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
  if (checker_.next() == 0 && options_.start_ahead > 0) {
    checker_.StartAt(truth_.revision() + options_.start_ahead);
  }
  create.set_start_revision(checker_.next());
  checker_.BeginStream();
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
                      checker_.next());
}

void WatchClient::Fail(const std::string& what) {
  verdict_.Fail("watch", absl::StrCat(Describe(), ": ", what));
}

void WatchClient::OnMessage(uint64_t generation, const std::string& bytes) {
  if (generation != generation_) return;
  etcdserverpb::WatchResponse response;
  if (!response.ParseFromString(bytes)) return Fail("a response that does not parse");
  if (checker_.OnResponse(response) == WatchChecker::After::kGoOn) return;
  size_t member = member_;
  uint64_t life = cluster_.life(member);
  Stop();
  cluster_.wire().PostAfter(std::chrono::milliseconds(10), [this, member, life] {
    if (cluster_.alive(member) && cluster_.life(member) == life && !running()) Start(member);
  });
}

}  // namespace kvd::sim
