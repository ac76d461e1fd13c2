// A small HTTP/1.1 client for what members ask of one another: bounded in time and in size, with connections
// kept alive for a few seconds per host. Streams and snapshots have their own code; this one holds a whole
// body.
//
// Thread-safety: thread-safe. Callbacks run on the I/O thread given.
// Errors: kUnavailable (resolve, connect, connection lost), kDeadlineExceeded, kResourceExhausted (body too
// large), kInvalidArgument (a URL that is none), kUnimplemented (a scheme other than http, or https without
// TLS), kCancelled (client stopped). An HTTP status other than 200 is not an error here.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "net/peer/http_types.h"

namespace boost::asio {
class io_context;
}

namespace kvd::net {

class IoThread;
class TlsContext;

// http://host:port or https://host:port, the only part of a member's URL that peers use.
struct HttpUrl {
  std::string scheme;
  std::string host;  // without brackets
  std::string port;
  bool Secure() const { return scheme == "https"; }
  // What a Host header says.
  std::string Authority() const;
};
absl::StatusOr<HttpUrl> ParseHttpUrl(std::string_view url);

struct HttpCallOptions {
  base::Nanos connect_timeout = std::chrono::seconds(2);
  base::Nanos timeout = std::chrono::seconds(5);  // of the whole call
  size_t max_body_bytes = 4 << 20;
};

class HttpClient {
 public:
  using Done = absl::AnyInvocable<void(absl::StatusOr<PeerResponse>)>;

  // `tls` is for URLs of https; null: there are none.
  explicit HttpClient(IoThread& thread, std::shared_ptr<const TlsContext> tls = nullptr);
  // For an event loop that the caller runs, on one thread.
  explicit HttpClient(boost::asio::io_context& io, std::shared_ptr<const TlsContext> tls = nullptr);
  ~HttpClient();  // Stop()s

  // `base_url` is one of a member's URLs; the request's path and query are appended to its host and port.
  // `done` is called exactly once, never from within the call.
  void Call(std::string_view base_url, const PeerRequest& request, HttpCallOptions options, Done done);
  // Fails what is under way with kCancelled and drops idle connections. Later calls fail. Does not wait.
  void Stop();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

// For start-up code: runs the call on the calling thread with an event loop of its own.
absl::StatusOr<PeerResponse> HttpCallBlocking(std::string_view base_url, const PeerRequest& request,
                                              HttpCallOptions options);
// Asks the URLs in order until one answers with status 200; otherwise the last failure. Each gets
// options.timeout.
absl::StatusOr<PeerResponse> HttpGetFromAny(const std::vector<std::string>& base_urls, std::string_view path,
                                            HttpCallOptions options);

}  // namespace kvd::net
