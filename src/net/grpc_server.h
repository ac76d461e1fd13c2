// The front door: gRPC over HTTP/2, plain HTTP/2 and HTTP/1.1 on the same port, told apart by what the client
// sends.
//
// A connection belongs to one I/O thread, where its handlers run. Frames of different streams interleave, and
// a stream sends only what its peer's window takes, so a slow reader holds its own queue and nobody else's.
//
// Thread-safety: Register*, Listen and Start from one thread, before Start resp. in that order; Shutdown from
// any thread but an I/O thread. Ownership: the IoThreads must outlive the FrontDoor and run until Shutdown
// has returned; calls may outlive it (their answers are dropped) but not the IoThreads.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "net/grpc_call.h"
#include "net/http_call.h"
#include "net/io_threads.h"

namespace kvd::net {

class TlsContext;  // net/tls/tls_context.h

struct FrontDoorOptions {
  // A larger request message is refused with RESOURCE_EXHAUSTED. etcd: max-request-bytes + 512 KiB.
  uint32_t max_receive_message_bytes = 1536 * 1024 + 512 * 1024;
  uint32_t max_concurrent_streams = UINT32_MAX;  // per connection; UINT32_MAX: not announced
  uint32_t max_header_list_bytes = 64 * 1024;
  uint64_t max_http_body_bytes = 4 * 1024 * 1024;

  // How much a client may send ahead of its handlers.
  uint32_t stream_window_bytes = 1024 * 1024;
  uint32_t connection_window_bytes = 16 * 1024 * 1024;
  // Marks of StreamCall::queued_bytes.
  size_t stream_high_bytes = 1024 * 1024;
  size_t stream_low_bytes = 256 * 1024;

  // Clients that ping more often than this (or, with no stream open and no permission, at all) are sent away
  // with GOAWAY "too_many_pings" at their third offence.
  base::Nanos keepalive_min_time = std::chrono::seconds(5);
  bool keepalive_permit_without_stream = false;
  // The server's own pings on a connection that is silent this long, and how long it waits for life.
  base::Nanos keepalive_interval = std::chrono::hours(2);
  base::Nanos keepalive_timeout = std::chrono::seconds(20);

  // A connection that sends nothing, an unfinished HTTP/1.1 request, or an unfinished TLS handshake, for this
  // long is closed.
  base::Nanos first_bytes_timeout = std::chrono::seconds(10);
  base::Nanos http1_idle_timeout = std::chrono::minutes(2);  // between two requests
};

struct ListenOptions {
  bool grpc = true;
  bool http = true;  // false: HTTP/1.1 connections are closed, HTTP/2 requests that are not gRPC get 415
  std::shared_ptr<const TlsContext> tls = nullptr;  // null: plaintext
};

class FrontDoor {
 public:
  explicit FrontDoor(IoThreads& threads, FrontDoorOptions options = {});
  ~FrontDoor();  // Shutdown(0)
  FrontDoor(const FrontDoor&) = delete;
  FrontDoor& operator=(const FrontDoor&) = delete;

  // `method` is the full path, "/etcdserverpb.KV/Put"; each once.
  void RegisterUnary(std::string_view method, UnaryHandler handler);
  void RegisterServerStream(std::string_view method, ServerStreamHandler handler);
  void RegisterBidi(std::string_view method, BidiHandler handler);

  // `method` "" takes every method; if only other methods are registered for a path, the client gets 405 with
  // Allow. A path that ends in "/" takes everything below it; the longest match wins. No match: 404.
  void RegisterHttp(std::string_view method, std::string_view path, HttpHandler handler);
  // One at most.
  void SetHttpFilter(HttpFilter filter);

  // Binds an IP address ("" or "0.0.0.0": any; names are resolved) and a TCP port (0: one that is free) and
  // returns the port. The backlog fills, but nobody is served before Start. Errors: kInvalidArgument for a
  // host that does not resolve, kAlreadyExists for an address in use, kUnavailable for another reason.
  absl::StatusOr<uint16_t> Listen(const std::string& host, uint16_t port, ListenOptions options = {});
  // Binds a Unix domain socket; a left-over socket file is replaced. Errors as above.
  absl::Status ListenUnix(const std::string& path, ListenOptions options = {});
  void Start();

  // Stops accepting, tells clients to go (GOAWAY), waits until their calls are finished or `grace` has
  // passed, then closes what is left: streams get OnClosed, calls are cancelled. Returns when all connections
  // are gone and no handler runs any more. Idempotent.
  void Shutdown(base::Nanos grace);

  // Connections now open.
  size_t connections() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace kvd::net
