// etcdserverpb.Watch: joins a gRPC stream to a watch stream of the hub.

#include <utility>

#include "net/grpc_server.h"
#include "server/api/leader_guard.h"
#include "server/api/services.h"

namespace kvd::server {
namespace {

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
  void Finish(absl::StatusCode code, std::string_view message) override {
    call_->Finish(static_cast<net::StatusCode>(code), std::string(message));
  }

 private:
  std::shared_ptr<net::StreamCall> call_;
};

// And what the client says goes to the hub.
class Handler final : public net::StreamHandler {
 public:
  Handler(std::shared_ptr<net::StreamCall> call, std::unique_ptr<WatchStream> stream)
      : call_(std::move(call)), stream_(std::move(stream)) {}
  void OnMessage(std::string_view message) override { stream_->OnRequest(message); }
  void OnHalfClose() override {}  // who has nothing more to ask still wants to be told
  void OnWritable() override { stream_->OnWritable(); }
  void OnClosed() override { stream_->Close(); }

 private:
  std::shared_ptr<net::StreamCall> call_;
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
                      auto stream = node_.watch_hub().Open(std::make_shared<Sink>(call));
                      return std::make_shared<Handler>(call, std::move(stream));
                    });
}

}  // namespace kvd::server
