// One connection: reads from its transport, finds out what the client speaks, hands the bytes to that
// protocol's session and sends what the session produces.
//
// Thread-safety: on its I/O thread only.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "net/grpc_server.h"
#include "net/io_thread.h"
#include "net/out_buffer.h"
#include "net/router.h"
#include "net/timer_wheel.h"
#include "net/transport.h"

namespace kvd::net {

// What all connections of a front door share. Immutable once it serves.
struct ServerConfig {
  FrontDoorOptions options;
  Router router;
};

class Connection;

// One protocol's side of a connection. Calls of the connection into the session never nest.
class Session {
 public:
  virtual ~Session() = default;
  // kClosing: nothing more is to be read; the connection closes once what is queued has been sent. kBroken:
  // it closes at once.
  enum class After { kOpen, kClosing, kBroken };
  virtual After Receive(std::string_view data) = 0;
  // The client sends nothing more. False: close now.
  virtual bool ReceiveEnd() = 0;
  // Appends output while `out` is shorter than kOutputBytes.
  virtual void Produce(OutBuffer& out) = 0;
  // Nothing more will come either way.
  virtual bool finished() const = 0;
  // Reading should wait until output has gone; `blocked`: the socket takes none now.
  virtual bool congested(bool blocked) const = 0;
  // No new requests: finish those that run, then be finished().
  virtual void Drain() = 0;
  // The connection is gone: end every call. The last call before destruction.
  virtual void Lost() = 0;

  static constexpr size_t kOutputBytes = size_t{256} * 1024;
};

class Connection final : public Flushable,
                         public WheelTimer,
                         public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<const ServerConfig> config, ListenOptions listen, IoThread& thread,
             std::unique_ptr<Transport> transport, std::string peer,
             std::function<void(Connection&)> on_closed);
  ~Connection() override;

  void Start();
  void Drain();
  void Close();  // at once

  // For the session.
  const ServerConfig& config() const { return *config_; }
  const std::shared_ptr<const ServerConfig>& shared_config() const { return config_; }
  const ListenOptions& listen() const { return listen_; }
  IoThread& thread() const { return thread_; }
  const std::shared_ptr<const std::string>& peer() const { return peer_; }
  void OutputReady() { thread_.FlushLater(shared_from_this()); }
  // The client has shown that it speaks the protocol: the first-bytes timeout is over.
  void Established() { Disarm(); }

  void Flush() override;

 private:
  enum class State { kDetecting, kServing, kClosing, kLingering, kClosed };

  void OnTimer() override;
  void WaitReadable();
  void OnReadable();
  void OnWritable();
  bool ReadSome();
  void OnData(std::string_view data);
  void OnEnd();
  void Detect(std::string_view data);
  bool WriteOut(size_t* budget);
  void Linger();

  const std::shared_ptr<const ServerConfig> config_;
  const ListenOptions listen_;
  IoThread& thread_;
  std::unique_ptr<Transport> transport_;
  const std::shared_ptr<const std::string> peer_;
  std::function<void(Connection&)> on_closed_;

  State state_ = State::kDetecting;
  std::string first_bytes_;  // while detecting
  std::unique_ptr<Session> session_;
  OutBuffer out_;
  bool waiting_readable_ = false;
  bool waiting_writable_ = false;
  bool read_ended_ = false;
};

}  // namespace kvd::net
