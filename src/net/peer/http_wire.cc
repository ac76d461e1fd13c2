#include "net/peer/http_wire.h"

#include <algorithm>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "base/hex.h"
#include "base/strings.h"

namespace kvd::net {
namespace http = boost::beast::http;

std::string_view HttpFields::Get(std::string_view name) const {
  for (const Field& f : fields_) {
    if (absl::EqualsIgnoreCase(f.first, base::ToAbsl(name))) return f.second;
  }
  return {};
}

void HttpFields::Remove(std::string_view name) {
  std::erase_if(fields_,
                [name](const Field& f) { return absl::EqualsIgnoreCase(f.first, base::ToAbsl(name)); });
}

namespace {

std::string_view View(boost::beast::string_view v) {
  return {v.data(), v.size()};
}

template <bool is_request>
absl::StatusOr<HttpHead> ParseHead(std::string_view bytes) {
  http::parser<is_request, http::empty_body> parser;
  parser.header_limit(static_cast<uint32_t>(kMaxHttpHeadBytes));
  parser.body_limit(std::numeric_limits<uint64_t>::max());
  boost::beast::error_code ec;
  parser.put(boost::asio::buffer(bytes.data(), bytes.size()), ec);
  // A head of a bodiless message is complete at once; one with a body ends where the body begins.
  if (ec && ec != http::error::need_more) return absl::InvalidArgumentError(ec.message());
  if (!parser.is_header_done()) return absl::InvalidArgumentError("incomplete head");
  HttpHead head;
  const auto& message = parser.get();
  if constexpr (is_request) {
    head.method = std::string(View(message.method_string()));
    head.target = std::string(View(message.target()));
  } else {
    head.status = static_cast<int>(message.result_int());
  }
  head.keep_alive = message.keep_alive();
  head.chunked = parser.chunked();
  if (auto length = parser.content_length()) head.content_length = *length;
  for (const auto& field : message) head.fields.Add(View(field.name_string()), View(field.value()));
  return head;
}

}  // namespace

absl::StatusOr<size_t> FindHttpHead(std::string_view bytes) {
  // Methods and "HTTP/" are upper-case letters: a TLS hello or other garbage is told by its first bytes.
  for (char c : bytes.substr(0, 3)) {
    if (c < 'A' || c > 'Z') return absl::InvalidArgumentError("not HTTP");
  }
  size_t end = bytes.substr(0, kMaxHttpHeadBytes).find("\r\n\r\n");
  if (end != std::string_view::npos) return end + 4;
  if (bytes.size() >= kMaxHttpHeadBytes) return absl::ResourceExhaustedError("the head is too long");
  return 0;
}

absl::StatusOr<HttpHead> ParseHttpRequestHead(std::string_view bytes) {
  return ParseHead<true>(bytes);
}
absl::StatusOr<HttpHead> ParseHttpResponseHead(std::string_view bytes) {
  return ParseHead<false>(bytes);
}

HttpBodyReader BodyOfRequest(const HttpHead& head) {
  return head.chunked ? HttpBodyReader::Chunked() : HttpBodyReader::OfLength(head.content_length);
}

HttpBodyReader BodyOfResponse(const HttpHead& head, std::string_view request_method) {
  if (request_method == "HEAD" || head.status / 100 == 1 || head.status == 204 || head.status == 304)
    return {};
  if (!head.chunked && !head.content_length) return HttpBodyReader::UntilClose();
  return BodyOfRequest(head);
}

std::string_view HttpStatusText(int status) {
  auto text = http::obsolete_reason(static_cast<http::status>(status));
  return {text.data(), text.size()};
}

std::string HttpStatusLine(int status) {
  return base::StrCat("HTTP/1.1 ", status, " ", HttpStatusText(status), "\r\n");
}

void AppendHttpField(std::string& head, std::string_view name, std::string_view value) {
  base::StrAppend(&head, name, ": ", value, "\r\n");
}

std::string EncodeHttpResponse(const PeerResponse& response, bool keep_alive, bool with_body) {
  std::string out = HttpStatusLine(response.status);
  for (const auto& [name, value] : response.headers.fields()) AppendHttpField(out, name, value);
  if (response.status != 204) AppendHttpField(out, "Content-Length", base::StrCat(response.body.size()));
  if (!keep_alive) AppendHttpField(out, "Connection", "close");
  out += "\r\n";
  if (with_body && response.status != 204) out += response.body;
  return out;
}

std::string EncodeHttpRequest(const PeerRequest& request, std::string_view authority, bool keep_alive) {
  std::string out = base::StrCat(request.method, " ", request.path, request.query.empty() ? "" : "?",
                                 request.query, " HTTP/1.1\r\n");
  AppendHttpField(out, "Host", authority);
  for (const auto& [name, value] : request.headers.fields()) AppendHttpField(out, name, value);
  if (!request.body.empty() || request.method == "POST" || request.method == "PUT") {
    AppendHttpField(out, "Content-Length", base::StrCat(request.body.size()));
  }
  if (!keep_alive) AppendHttpField(out, "Connection", "close");
  out += "\r\n";
  out += request.body;
  return out;
}

bool PercentDecode(std::string_view text, std::string* out) {
  out->clear();
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out->push_back(text[i]);
      continue;
    }
    int high = i + 2 < text.size() ? base::HexDigit(text[i + 1]) : -1;
    int low = i + 2 < text.size() ? base::HexDigit(text[i + 2]) : -1;
    if (high < 0 || low < 0) return false;
    out->push_back(static_cast<char>(high << 4 | low));
    i += 2;
  }
  return true;
}

}  // namespace kvd::net
