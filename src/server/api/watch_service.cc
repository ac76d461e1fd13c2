// etcdserverpb.Watch: joins a gRPC stream to a watch stream of the hub.
//
// A client that asks without reading the answers, or faster than they can be made, is not read any further
// until they have gone: what it may have under way is bounded by its window.

#include <atomic>
#include <utility>

#include "net/grpc_server.h"
#include "server/api/leader_guard.h"
#include "server/api/services.h"

namespace kvd::server {
namespace {

// Requests of one stream that wait for the hub, as bytes and so much for each.
constexpr size_t kMostWaitingBytes = size_t{64} * 1024;
constexpr size_t kRequestOverhead = 128;
// And what waits for the client: requests are read while there is less.
constexpr size_t kMostQueuedBytes = size_t{1} << 20;
static_assert(kMostQueuedBytes >= net::FrontDoorOptions{}.stream_high_bytes, "OnWritable must follow");

// What the hub has to say goes into the gRPC stream.
class Sink final : public WatchSink {
 public:
  explicit Sink(std::shared_ptr<net::StreamCall> call) : call_(std::move(call)) {}
  void Send(std::vector<base::SharedBytes> pieces) override {
    std::vector<net::Piece> message;
    message.reserve(pieces.size());
    for (base::SharedBytes& piece : pieces) message.emplace_back(std::move(piece));
    call_->Write(net::Message(std::move(message)));
  }
  size_t queued_bytes() override { return call_->queued_bytes(); }
  void RequestDone(size_t bytes) override {
    waiting_bytes_.fetch_sub(bytes + kRequestOverhead);
    if (MayRead()) call_->ResumeReading();
  }

  // On the I/O thread: a request is on its way to the hub.
  void RequestAsked(size_t bytes) {
    waiting_bytes_.fetch_add(bytes + kRequestOverhead);
    if (MayRead()) return;
    call_->PauseReading();
    if (MayRead()) call_->ResumeReading();  // it has become true meanwhile
  }
  // On the I/O thread. If requests still wait, the next one that comes stops it again.
  void Writable() { call_->ResumeReading(); }
  void Finish(absl::StatusCode code, std::string_view message) override {
    call_->Finish(static_cast<net::StatusCode>(code), std::string(message));
  }

 private:
  bool MayRead() { return waiting_bytes_.load() <= kMostWaitingBytes && queued_bytes() <= kMostQueuedBytes; }

  std::shared_ptr<net::StreamCall> call_;
  std::atomic<size_t> waiting_bytes_{0};
};

// And what the client says goes to the hub.
class Handler final : public net::StreamHandler {
 public:
  Handler(std::shared_ptr<Sink> sink, std::unique_ptr<WatchStream> stream)
      : sink_(std::move(sink)), stream_(std::move(stream)) {}
  void OnMessage(std::string_view message) override {
    sink_->RequestAsked(message.size());
    stream_->OnRequest(message);
  }
  void OnHalfClose() override {}  // who has nothing more to ask still wants to be told
  void OnWritable() override {
    stream_->OnWritable();
    sink_->Writable();
  }
  void OnClosed() override { stream_->Close(); }

 private:
  std::shared_ptr<Sink> sink_;
  std::unique_ptr<WatchStream> stream_;
};

}  // namespace

void Services::RegisterWatch(net::FrontDoor& door) {
  door.RegisterBidi("/etcdserverpb.Watch/Watch",
                    [this](std::shared_ptr<net::StreamCall> call) -> std::shared_ptr<net::StreamHandler> {
                      if (Error error = AdmitStream(*call); error != Error::kOk) {
                        Finish(*call, error);
                        return nullptr;
                      }
                      if (RequiresLeader(*call)) guard_->Add(call);
                      auto sink = std::make_shared<Sink>(call);
                      auto stream = node_.watch_hub().Open(sink);
                      return std::make_shared<Handler>(std::move(sink), std::move(stream));
                    });
}

}  // namespace kvd::server
