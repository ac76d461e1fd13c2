// HTTP/1.1 as the peer port and the peer client speak it: heads, and which bodies follow them.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "net/http_body_reader.h"
#include "net/peer/http_types.h"

namespace kvd::net {

inline constexpr size_t kMaxHttpHeadBytes = 32 * 1024;

struct HttpHead {
  std::string method;  // requests
  std::string target;  // requests, as on the wire
  int status = 0;      // responses
  HttpFields fields;
  bool keep_alive = false;
  bool chunked = false;
  std::optional<uint64_t> content_length;
};

// The length of the head at the start of `bytes`, its empty line included. 0: not complete yet.
// kResourceExhausted: it is longer than kMaxHttpHeadBytes; kInvalidArgument: this cannot become HTTP.
absl::StatusOr<size_t> FindHttpHead(std::string_view bytes);
// `bytes` is exactly one head. Errors: kInvalidArgument.
absl::StatusOr<HttpHead> ParseHttpRequestHead(std::string_view bytes);
absl::StatusOr<HttpHead> ParseHttpResponseHead(std::string_view bytes);

// The body that follows a head.
HttpBodyReader BodyOfRequest(const HttpHead& head);
HttpBodyReader BodyOfResponse(const HttpHead& head, std::string_view request_method);

// "HTTP/1.1 200 OK\r\n" and so on, without the fields.
std::string HttpStatusLine(int status);
std::string_view HttpStatusText(int status);
void AppendHttpField(std::string& head, std::string_view name, std::string_view value);
// A complete response with Content-Length (except for 204) and Connection.
std::string EncodeHttpResponse(const PeerResponse& response, bool keep_alive, bool with_body);
// A request with Host and, if it has a body or needs to say that it has none, Content-Length.
std::string EncodeHttpRequest(const PeerRequest& request, std::string_view authority, bool keep_alive);
// %XX decoded; false for a broken escape.
bool PercentDecode(std::string_view text, std::string* out);

}  // namespace kvd::net
