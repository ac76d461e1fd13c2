// A small gRPC client for what a process asks before its threads run: one connection, one call at a
// time, on a BlockingLoop. (Clients that are programs of their own use the gRPC library.)
//
// Thread-safety: thread-compatible. Ownership: borrows the loop.
// Errors: the status of the call as the server sent it; kUnavailable when the connection cannot be made or is
// lost, kDeadlineExceeded, kCancelled (interrupted), kInternal for an answer that is not gRPC. After any of
// the latter the connection is of no more use.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "base/clock.h"

namespace kvd::net {

class BlockingLoop;
class TlsContext;

class GrpcConnection {
 public:
  struct Options {
    base::Nanos dial_timeout = std::chrono::seconds(2);
    // After this time without a byte, while a call waits, the server is asked for a sign of life...
    base::Nanos keepalive_time = std::chrono::seconds(10);
    // ...and given up after that one.
    base::Nanos keepalive_timeout = std::chrono::seconds(6);
    uint32_t max_message_bytes = 4 << 20;
    std::shared_ptr<const TlsContext> tls = nullptr;  // for a URL of https
  };
  using Metadata = std::vector<std::pair<std::string, std::string>>;  // names in lower case

  // `url` is "http://host:port" or "https://host:port".
  static absl::StatusOr<std::unique_ptr<GrpcConnection>> Connect(BlockingLoop& loop, std::string_view url,
                                                                 const Options& options);
  ~GrpcConnection();
  GrpcConnection(const GrpcConnection&) = delete;
  GrpcConnection& operator=(const GrpcConnection&) = delete;

  // `method` is "/package.Service/Method". The answer's message.
  absl::StatusOr<std::string> Unary(std::string_view method, const Metadata& metadata,
                                    std::string_view message, base::Nanos timeout);
  // Sends `message`, leaves the stream open, and hands over the server's messages until `on_message` returns
  // false: then the stream is reset and the call is OK. OK also if the server ends the stream with OK.
  absl::Status Stream(std::string_view method, const Metadata& metadata, std::string_view message,
                      base::Nanos timeout, absl::FunctionRef<bool(std::string_view)> on_message);

 private:
  struct Impl;
  explicit GrpcConnection(std::shared_ptr<Impl> impl);

  const std::shared_ptr<Impl> impl_;
};

}  // namespace kvd::net
