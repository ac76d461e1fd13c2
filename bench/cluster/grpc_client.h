// A gRPC client that costs the machine little, for a load generator that shares it with the servers: HTTP/2
// frames by nghttp2 on the thread of an event loop, requests whose bytes stand ready, many of them per write.
//
// Thread-safety: one thread, the loop's. Ownership: a Connection owns its socket; a Call belongs to the
// caller and outlives its stream (until OnEnd, or until its connection is destroyed).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "event_loop.h"

struct nghttp2_session;

namespace kvd::bench {

// gRPC's status codes, as far as the client gives them itself.
inline constexpr int kOk = 0;
inline constexpr int kCancelled = 1;
inline constexpr int kUnavailable = 14;

class Connection;

// One call. A unary one is used again and again: its request stays, patched or replaced.
class Call {
 public:
  virtual ~Call() = default;

  // Each message of the answer, valid during the call.
  virtual void OnMessage(std::string_view message) = 0;
  // The end; the call may be started again from here. `text` is grpc-message as it came.
  virtual void OnEnd(int status, std::string_view text) = 0;

  // The framed request of the next Start. REQUIRES: no stream is open.
  std::string& request() { return out_; }
  bool open() const { return stream_ != 0; }

 private:
  friend class Connection;
  void Receive(std::string_view data);

  Connection* connection_ = nullptr;
  int32_t stream_ = 0;
  size_t place_ = 0;  // in connection_->open_
  bool half_close_ = false;
  std::string out_;    // what is sent, or still to send on a stream
  size_t out_at_ = 0;  // how far nghttp2 has taken it
  std::string in_;     // a message that has begun
  int status_ = kUnavailable;
  std::string text_;
};

class Connection final : public EventLoop::Source {
 public:
  // Flow-control windows that the client offers.
  struct Windows {
    uint32_t stream_bytes = 1 << 20;
    uint32_t connection_bytes = 16 << 20;
    bool open_again = true;  // false: the peer may send as much as the windows hold, and no more
  };

  // Connects to "host:port" (an IPv4 address); null if nobody listens. `loop` outlives the connection.
  static std::unique_ptr<Connection> Open(EventLoop& loop, const std::string& endpoint, Windows windows);
  ~Connection() override;

  // Sends call->request(). `path` ("/package.Service/Method") stays valid while the connection lives. With
  // `half_close`, no Send follows.
  void Start(const std::string& path, Call* call, bool half_close = true);
  // One more framed message on a stream.
  static void Send(Call* call, std::string_view frame);
  // Gives the call up; OnEnd follows with kCancelled.
  static void Cancel(Call* call);

  // False once the peer or an error has closed it; all of its calls have then ended with kUnavailable.
  bool alive() const { return !broken_; }
  uint64_t bytes_received() const { return bytes_received_; }

  void OnReady(uint32_t events) override;
  void Flush() override;

 private:
  struct Callbacks;

  Connection(EventLoop& loop, int fd, std::string authority, Windows windows);
  void Touch();
  void Receive();
  void Break();
  void End(Call* call);

  EventLoop& loop_;
  const int fd_;
  const std::string authority_;
  nghttp2_session* session_ = nullptr;
  std::vector<Call*> open_;
  std::string out_;
  size_t out_at_ = 0;
  uint64_t bytes_received_ = 0;
  bool dirty_ = false;
  bool want_write_ = false;
  bool broken_ = false;
};

}  // namespace kvd::bench
