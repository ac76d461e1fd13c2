// etcdserverpb.Watch: joins a gRPC stream to a watch stream of the hub.
//
// A client that asks without reading the answers, or faster than they can be made, is not read any further
// until they have gone: what it may have under way is bounded by its window.

#include <algorithm>
#include <atomic>
#include <string>
#include <utility>

#include "net/grpc_server.h"
#include "net/grpc_wire.h"
#include "server/api/leader_guard.h"
#include "server/api/services.h"

namespace kvd::server {
namespace {

// A piece of a response of this size is sent as it is, shared with other streams.
constexpr size_t kSharedPieceBytes = 4096;
// Responses of fewer bytes are encoded at once: they are no larger than what they are made of.
constexpr size_t kEncodedAtOnceBytes = 1024;
// Requests of one stream that wait for the hub, as bytes and so much for each.
constexpr size_t kMostWaitingBytes = size_t{64} * 1024;
constexpr size_t kRequestOverhead = 128;
// And what waits for the client: requests are read while there is less.
constexpr size_t kMostQueuedBytes = size_t{1} << 20;
static_assert(kMostQueuedBytes >= net::FrontDoorOptions{}.stream_high_bytes, "OnWritable must follow");

// Appends the pieces of response `i` to `bytes`; of those that are shared, what comes before them to
// `message`.
void AppendPieces(const ResponseBatch& responses, size_t i, std::string& bytes, net::Message& message) {
  if (responses.longest_piece() < kSharedPieceBytes) return responses.AppendPieces(i, bytes);
  responses.ForEachPiece(i, [&](const base::SharedBytes& piece) {
    if (piece.size() < kSharedPieceBytes) {
      bytes.append(piece.view());
      return;
    }
    message.Append(net::Piece(std::exchange(bytes, std::string())));
    message.Append(net::Piece(piece));
  });
}

// Responses from `*at` on that take up to `max_bytes`, at least one: small pieces copied together, since that
// costs less than counting references to them; large ones as they are.
net::Message Encode(const ResponseBatch& responses, size_t max_bytes, size_t* at) {
  net::Message message;
  std::string bytes;
  size_t left = std::min(max_bytes, responses.size());
  bytes.reserve(left);
  do {
    const size_t size = responses.SizeOf(*at);
    char prefix[net::kGrpcPrefixBytes];
    net::StoreGrpcPrefix(prefix, static_cast<uint32_t>(size));
    bytes.append(prefix, sizeof prefix);
    responses.AppendHead(*at, bytes);
    AppendPieces(responses, *at, bytes, message);
    left -= std::min(left, sizeof prefix + size);
  } while (++*at < responses.count() && responses.SizeOf(*at) + net::kGrpcPrefixBytes <= left);
  if (message.size() == 0) return net::Message(std::move(bytes));
  message.Append(net::Piece(std::move(bytes)));
  return message;
}

// The responses for many watchers of a stream, encoded when they are sent.
class Responses final : public net::MessageSource {
 public:
  explicit Responses(ResponseBatch batch) : batch_(std::move(batch)) {}
  net::Message Next(size_t max_bytes) override { return Encode(batch_, max_bytes, &next_); }

 private:
  const ResponseBatch batch_;
  size_t next_ = 0;
};

// What the hub has to say goes into the gRPC stream.
class Sink final : public WatchSink {
 public:
  explicit Sink(std::shared_ptr<net::StreamCall> call) : call_(std::move(call)) {}
  void Send(ResponseBatch responses) override {
    const size_t size = responses.size();
    if (size > kEncodedAtOnceBytes) {
      call_->WriteFrom(size, std::make_unique<Responses>(std::move(responses)));
      return;
    }
    size_t next = 0;
    call_->WriteFramed(Encode(responses, size, &next));
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
