#include "net/http1_session.h"

#include <algorithm>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <ctime>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "base/strings.h"
#include "net/http_body_reader.h"
#include "net/http_responder.h"

namespace kvd::net {
namespace {

namespace http = boost::beast::http;

// Pipelined requests wait in a buffer of this size while one is answered.
constexpr size_t kMaxAheadBytes = size_t{64} * 1024;

std::string HttpDate(base::Clock& clock) {
  auto seconds = static_cast<time_t>(std::chrono::duration_cast<std::chrono::seconds>(clock.Wall()).count());
  tm parts{};
  gmtime_r(&seconds, &parts);
  char text[64];
  size_t n = strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return std::string(text, n);
}

class Http1Session final : public Session, public WheelTimer {
 public:
  explicit Http1Session(Connection& connection)
      : connection_(connection), alive_(std::make_shared<Http1Session*>(this)) {
    NewParser();
  }
  ~Http1Session() override { *alive_ = nullptr; }

  After Receive(std::string_view data) override {
    if (closing_) return After::kOpen;
    in_.append(data);
    if (parser_->is_header_done()) ArmTimer(connection_.config().options.first_bytes_timeout);
    ParseRequests();
    return After::kOpen;
  }
  bool ReceiveEnd() override {
    ended_ = true;
    return call_ != nullptr || !pending_.empty();
  }
  void Produce(OutBuffer& out) override {
    size_t room = out.size() < kOutputBytes ? kOutputBytes - out.size() : 0;
    size_t n = std::min(room, pending_.size());
    if (n > 0) pending_.MoveTo(out, n);
    if (call_ != nullptr) call_->queued -= std::min(n, call_->queued.load());
  }
  bool finished() const override { return closing_ && call_ == nullptr && pending_.empty(); }
  bool congested(bool) const override { return in_.size() >= kMaxAheadBytes; }
  void Drain() override {
    draining_ = true;
    if (call_ == nullptr && in_.empty()) closing_ = true;
  }
  void Lost() override {
    Disarm();
    *alive_ = nullptr;
    if (call_ != nullptr) call_->cancelled = true;
    call_.reset();
  }

 private:
  class Sink;
  using Parser = http::request_parser<http::empty_body>;  // of heads

  void OnTimer() override { connection_.Close(); }
  void NewParser();
  void ParseRequests();
  // Each takes what it can of `bytes`. The status to refuse the request with; 0 if all is well.
  int ParseHead(std::string_view* bytes);
  int ReadBody(std::string_view* bytes);
  void Begin();
  void Refuse(int status);
  void Head(HttpResponse response, bool whole);
  void Body(Message part);
  void EndResponse();
  void ArmTimer(base::Nanos timeout) {
    connection_.thread().Arm(*this, connection_.thread().Now() + timeout);
  }

  Connection& connection_;
  const std::shared_ptr<Http1Session*> alive_;  // null once this is gone
  std::string in_;
  std::optional<Parser> parser_;
  std::optional<HttpBodyReader> body_reader_;  // once the head is there
  std::string body_;
  bool parsing_ = false;                  // bytes of the next request have come
  bool continued_ = false;                // "100 Continue" was sent for it
  std::shared_ptr<HttpCallShared> call_;  // the request being answered
  bool head_only_ = false;
  bool keep_alive_ = true;
  bool http10_ = false;
  bool chunked_ = false;
  bool in_parse_ = false;
  bool draining_ = false;
  bool ended_ = false;
  bool closing_ = false;
  OutBuffer pending_;
};

class Http1Session::Sink final : public HttpSink {
 public:
  explicit Sink(std::shared_ptr<Http1Session*> session) : session_(std::move(session)) {}
  void Head(HttpResponse response, bool whole) override {
    if (*session_ != nullptr) (*session_)->Head(std::move(response), whole);
  }
  void Body(Message part) override {
    if (*session_ != nullptr) (*session_)->Body(std::move(part));
  }
  void End() override {
    if (*session_ != nullptr) (*session_)->EndResponse();
  }

 private:
  std::shared_ptr<Http1Session*> session_;
};

void Http1Session::NewParser() {
  const FrontDoorOptions& options = connection_.config().options;
  parser_.emplace();
  parser_->header_limit(options.max_header_list_bytes);
  parser_->body_limit(options.max_http_body_bytes);
  body_reader_.reset();
  body_.clear();
  parsing_ = continued_ = false;
}

int Http1Session::ParseHead(std::string_view* bytes) {
  boost::beast::error_code error;
  const size_t n = parser_->put(boost::asio::buffer(bytes->data(), bytes->size()), error);
  bytes->remove_prefix(n);
  if (error && error != http::error::need_more) {
    return error == http::error::header_limit ? 431 : error == http::error::body_limit ? 413 : 400;
  }
  if (!parser_->is_header_done()) return 0;
  if (parser_->chunked()) {
    body_reader_ = HttpBodyReader::Chunked();
  } else {
    const auto length = parser_->content_length();
    body_reader_ = HttpBodyReader::OfLength(length ? std::optional<uint64_t>(*length) : std::nullopt);
  }
  return 0;
}

int Http1Session::ReadBody(std::string_view* bytes) {
  for (;;) {
    absl::StatusOr<std::string_view> piece = body_reader_->Next(bytes);
    if (!piece.ok()) return 400;
    if (piece->empty()) return 0;
    if (body_.size() + piece->size() > connection_.config().options.max_http_body_bytes) return 413;
    body_.append(*piece);
  }
}

void Http1Session::ParseRequests() {
  if (in_parse_) return;  // a handler answered at once; the loop below goes on
  in_parse_ = true;
  size_t used = 0;
  while (call_ == nullptr && !closing_) {
    if (!parsing_) {
      // Empty lines between requests are allowed.
      while (used < in_.size() && (in_[used] == '\r' || in_[used] == '\n')) ++used;
    }
    if (used == in_.size()) break;
    if (!parsing_) {
      parsing_ = true;
      ArmTimer(connection_.config().options.first_bytes_timeout);
      connection_.Established();
      // No method starts with anything but a letter: this is not HTTP at all.
      if (!absl::ascii_isalpha(static_cast<unsigned char>(in_[used]))) {
        Refuse(400);
        break;
      }
    }
    std::string_view rest = std::string_view(in_).substr(used);
    int refused = body_reader_ ? 0 : ParseHead(&rest);
    if (refused == 0 && body_reader_) refused = ReadBody(&rest);
    used = in_.size() - rest.size();
    if (refused != 0) {
      Refuse(refused);
      break;
    }
    if (body_reader_ && body_reader_->done()) {
      Begin();
      continue;
    }
    if (body_reader_ && !continued_ && parser_->get()[http::field::expect] == "100-continue") {
      continued_ = true;
      pending_.AppendCopy("HTTP/1.1 100 Continue\r\n\r\n");
      connection_.OutputReady();
    }
    break;  // the rest has not come yet
  }
  in_.erase(0, used);
  in_parse_ = false;
}

void Http1Session::Begin() {
  Disarm();
  auto message = parser_->release();
  HttpRequest request;
  request.method = std::string(message.method_string());
  SetTarget(request, std::string_view(message.target().data(), message.target().size()));
  for (const auto& field : message) {
    std::string name =
        absl::AsciiStrToLower(absl::string_view(field.name_string().data(), field.name_string().size()));
    std::string value(field.value().data(), field.value().size());
    if (name == "host") request.host = value;
    request.headers.emplace_back(std::move(name), std::move(value));
  }
  request.body = std::move(body_);
  request.peer = *connection_.peer();
  keep_alive_ = message.keep_alive();
  http10_ = message.version() < 11;
  head_only_ = request.method == "HEAD";
  chunked_ = false;
  NewParser();
  call_ = std::make_shared<HttpCallShared>();
  DispatchHttp(connection_.config().router, connection_.thread(), std::move(request), call_,
               std::make_unique<Sink>(alive_));
}

// The input cannot be understood, so nothing after it can be either.
void Http1Session::Refuse(int status) {
  Disarm();
  connection_.Established();
  std::string text = base::StrCat(status, " ", HttpReason(status));
  pending_.AppendCopy(base::StrCat(
      "HTTP/1.1 ", text, "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ", text.size(),
      "\r\nConnection: close\r\n\r\n", text));
  closing_ = true;
  in_.clear();
  connection_.OutputReady();
}

void Http1Session::Head(HttpResponse response, bool whole) {
  if (call_ == nullptr) return;
  keep_alive_ = keep_alive_ && !draining_ && !ended_;
  bool bodyless = response.status < 200 || response.status == 204 || response.status == 304;
  std::string head = base::StrCat("HTTP/1.1 ", response.status, " ", HttpReason(response.status), "\r\n");
  for (const auto& [name, value] : response.headers) base::StrAppend(&head, name, ": ", value, "\r\n");
  base::StrAppend(&head, "Date: ", HttpDate(connection_.thread().clock()), "\r\n");
  if (whole && !bodyless) {
    base::StrAppend(&head, "Content-Length: ", response.body.size(), "\r\n");
  } else if (!whole && !bodyless && !http10_) {
    chunked_ = true;
    head += "Transfer-Encoding: chunked\r\n";
  } else if (!whole) {
    keep_alive_ = false;  // the end of the connection ends the body
  }
  if (!keep_alive_) {
    head += "Connection: close\r\n";
  } else if (http10_) {
    head += "Connection: keep-alive\r\n";
  }
  head += "\r\n";
  pending_.AppendCopy(head);
  if (bodyless) head_only_ = true;
  if (response.body.size() > 0) Body(std::move(response.body));
  if (whole) EndResponse();
  connection_.OutputReady();
}

void Http1Session::Body(Message part) {
  if (call_ == nullptr || head_only_ || part.size() == 0) return;
  if (chunked_) pending_.AppendCopy(base::StrCat(absl::Hex(part.size()), "\r\n"));
  pending_.Append(std::move(part));
  if (chunked_) pending_.AppendCopy(std::string_view("\r\n"));
  connection_.OutputReady();
}

void Http1Session::EndResponse() {
  if (call_ == nullptr) return;
  if (chunked_ && !head_only_) pending_.AppendCopy(std::string_view("0\r\n\r\n"));
  call_.reset();
  if (!keep_alive_ || draining_) {
    closing_ = true;
    in_.clear();
  } else {
    ArmTimer(connection_.config().options.http1_idle_timeout);
    ParseRequests();
  }
  connection_.OutputReady();
}

}  // namespace

std::unique_ptr<Session> NewHttp1Session(Connection& connection) {
  return std::make_unique<Http1Session>(connection);
}

}  // namespace kvd::net
