// A plain HTTP request (HTTP/1.1, or HTTP/2 without gRPC's content type) as its handler sees it.
//
// Thread: the handler runs on the I/O thread of the connection and must not block. HttpCall's methods may be
// called from any thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/executor.h"
#include "net/message.h"

namespace kvd::net {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;   // "GET"
  std::string target;   // "/health?serializable=true", as it was sent
  std::string path;     // "/health", percent-decoded
  std::string query;    // "serializable=true", as it was sent
  std::string host;     // Host or :authority
  HttpHeaders headers;  // names in lower case
  std::string body;
  std::string peer;  // "address:port"

  // The first value of a header (lower case), or "" if it is absent.
  std::string_view Header(std::string_view name) const;
  // The percent-decoded values of a query parameter, in order.
  std::vector<std::string> Query(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  HttpHeaders headers;  // without Content-Length, Connection and Transfer-Encoding, which the front door sets
  Message body;
};

class HttpCall {
 public:
  virtual ~HttpCall() = default;
  // Valid as long as this object.
  virtual const HttpRequest& request() const = 0;
  virtual base::Executor& executor() const = 0;
  // True once the connection is lost or the request was reset.
  virtual bool cancelled() const = 0;

  // The whole answer. Exactly one of Reply and StartBody, once; if every pointer is dropped without either,
  // the client gets 503.
  virtual void Reply(HttpResponse response) = 0;

  // An answer whose body comes in parts (chunked on HTTP/1.1); `response.body` is its first part. EndBody is
  // due also when the call was cancelled.
  virtual void StartBody(HttpResponse response) = 0;
  virtual void WriteBody(Message part) = 0;
  virtual void EndBody() = 0;
  // Bytes handed over and not yet taken by the connection.
  virtual size_t queued_bytes() const = 0;
};

using HttpHandler = absl::AnyInvocable<void(std::shared_ptr<HttpCall> call) const>;
// Sees every plain HTTP request first; true: it has answered.
using HttpFilter = absl::AnyInvocable<bool(const std::shared_ptr<HttpCall>& call) const>;

}  // namespace kvd::net
