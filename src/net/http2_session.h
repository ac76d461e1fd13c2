// HTTP/2 on one connection: nghttp2 does the frames, this class the rules of a gRPC server around them
// (keepalive enforcement, limits, orderly end), Http2Stream the calls.
//
// Thread-safety: on the connection's I/O thread only.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "net/connection.h"
#include "net/http2_stream.h"
#include "net/ping_policy.h"

namespace kvd::net {

std::unique_ptr<Session> NewHttp2Session(Connection& connection);

class Http2Session final : public Session, public WheelTimer {
 public:
  explicit Http2Session(Connection& connection);
  ~Http2Session() override;

  After Receive(std::string_view data) override;
  bool ReceiveEnd() override { return false; }
  void Produce(OutBuffer& out) override;
  bool finished() const override;
  bool congested(bool blocked) const override;
  void Drain() override;
  void Lost() override;

  // For the streams.
  nghttp2_session* frames() { return frames_; }
  Connection& connection() { return connection_; }
  const FrontDoorOptions& options() const { return connection_.config().options; }
  void OutputReady() { connection_.OutputReady(); }
  void AddQueued(ptrdiff_t bytes) { queued_bytes_ += static_cast<size_t>(bytes); }
  // Has the stream's callbacks run once nghttp2 is not on the stack.
  void Defer(Http2Stream* stream) { deferred_.push_back(Http2Stream::Ref(stream)); }
  OutBuffer& out() { return *out_; }

 private:
  friend struct Http2Callbacks;

  void OnTimer() override;
  void ArmKeepalive();
  void RunDeferred();
  void OnPing(const nghttp2_frame& frame);
  void SendAway(uint32_t error, std::string_view why);

  Connection& connection_;
  nghttp2_session* frames_ = nullptr;
  OutBuffer* out_ = nullptr;  // while producing
  Http2Stream* streams_ = nullptr;
  size_t stream_count_ = 0;
  size_t queued_bytes_ = 0;
  std::vector<Http2Stream::Ref> deferred_;
  PingPolicy ping_policy_;
  bool established_ = false;
  bool going_away_ = false;

  // Orderly end: a first GOAWAY that refuses nothing, a ping, and once that came back the final one.
  enum class Draining { kNo, kNoticeSent, kFinal } draining_ = Draining::kNo;

  base::Nanos last_received_{0};
  bool keepalive_sent_ = false;
};

}  // namespace kvd::net
