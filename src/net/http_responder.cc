#include "net/http_responder.h"

#include <utility>

#include "base/check.h"
#include "base/hex.h"

namespace kvd::net {
namespace {

class HttpCallImpl final : public HttpCall {
 public:
  HttpCallImpl(IoThread& thread, HttpRequest request, std::shared_ptr<HttpCallShared> shared,
               std::unique_ptr<HttpSink> sink)
      : thread_(thread), request_(std::move(request)), shared_(std::move(shared)), sink_(std::move(sink)) {}

  ~HttpCallImpl() override {
    State state = state_.load();
    if (state == State::kOpen) {
      HttpResponse response;
      response.status = 503;
      Reply(std::move(response));
    } else if (state == State::kBody) {
      EndBody();
    }
    // The sink may only be released where the connection lives.
    if (!thread_.IsCurrent() && sink_ != nullptr) thread_.Post([sink = std::move(sink_)] {});
  }

  const HttpRequest& request() const override { return request_; }
  base::Executor& executor() const override { return thread_; }
  bool cancelled() const override { return shared_->cancelled.load(std::memory_order_relaxed); }

  void Reply(HttpResponse response) override {
    Advance(State::kOpen, State::kDone);
    Start(std::move(response), true);
  }

  void StartBody(HttpResponse response) override {
    Advance(State::kOpen, State::kBody);
    Start(std::move(response), false);
  }

  void WriteBody(Message part) override {
    KVD_CHECK(state_.load() == State::kBody, "a body part belongs between StartBody and EndBody");
    shared_->queued += part.size();
    OnThread([part = std::move(part)](HttpSink& sink) mutable { sink.Body(std::move(part)); });
  }

  void EndBody() override {
    Advance(State::kBody, State::kDone);
    OnThread([](HttpSink& sink) { sink.End(); });
  }

  size_t queued_bytes() const override { return shared_->queued.load(std::memory_order_relaxed); }

 private:
  enum class State { kOpen, kBody, kDone };

  void Advance(State from, State to) {
    KVD_CHECK(state_.compare_exchange_strong(from, to), "an HTTP call is answered once");
  }

  void Start(HttpResponse response, bool whole) {
    shared_->queued += response.body.size();
    OnThread([response = std::move(response), whole](HttpSink& sink) mutable {
      sink.Head(std::move(response), whole);
    });
  }

  template <typename F>
  void OnThread(F f) {
    if (thread_.IsCurrent()) {
      f(*sink_);
    } else {
      thread_.Post([sink = sink_, f = std::move(f)]() mutable { f(*sink); });
    }
  }

  IoThread& thread_;
  const HttpRequest request_;
  const std::shared_ptr<HttpCallShared> shared_;
  std::shared_ptr<HttpSink> sink_;
  std::atomic<State> state_{State::kOpen};
};

void ReplyPlain(HttpCall& call, int status, std::string text, HttpHeaders headers) {
  HttpResponse response;
  response.status = status;
  response.headers = std::move(headers);
  response.headers.emplace_back("content-type", "text/plain; charset=utf-8");
  response.headers.emplace_back("x-content-type-options", "nosniff");
  response.body = Message(std::move(text));
  call.Reply(std::move(response));
}

}  // namespace

std::string PercentDecode(std::string_view text, bool plus) {
  std::string decoded;
  decoded.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '%' && i + 2 < text.size();
    const int high = escape ? base::HexDigit(text[i + 1]) : -1;
    const int low = escape ? base::HexDigit(text[i + 2]) : -1;
    if (high >= 0 && low >= 0) {
      decoded += static_cast<char>(high << 4 | low);
      i += 2;
    } else {
      decoded += plus && text[i] == '+' ? ' ' : text[i];
    }
  }
  return decoded;
}

void SetTarget(HttpRequest& request, std::string_view target) {
  request.target = target;
  // A proxy's absolute form: the path starts after the authority.
  if (size_t scheme = target.find("://"); scheme != std::string_view::npos && target[0] != '/') {
    size_t path = target.find('/', scheme + 3);
    target = path == std::string_view::npos ? std::string_view("/") : target.substr(path);
  }
  size_t question = target.find('?');
  request.path = PercentDecode(target.substr(0, question), false);
  if (question != std::string_view::npos) request.query = target.substr(question + 1);
}

std::string_view HttpRequest::Header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return {};
}

std::vector<std::string> HttpRequest::Query(std::string_view name) const {
  std::vector<std::string> values;
  std::string_view rest = query;
  while (!rest.empty()) {
    size_t end = rest.find('&');
    std::string_view pair = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    size_t equals = pair.find('=');
    if (PercentDecode(pair.substr(0, equals), true) != name) continue;
    values.push_back(equals == std::string_view::npos ? std::string()
                                                      : PercentDecode(pair.substr(equals + 1), true));
  }
  return values;
}

std::string_view HttpReason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 204:
      return "No Content";
    case 301:
      return "Moved Permanently";
    case 302:
      return "Found";
    case 304:
      return "Not Modified";
    case 307:
      return "Temporary Redirect";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 410:
      return "Gone";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Request Entity Too Large";
    case 415:
      return "Unsupported Media Type";
    case 421:
      return "Misdirected Request";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Status";
  }
}

void DispatchHttp(const Router& router, IoThread& thread, HttpRequest request,
                  std::shared_ptr<HttpCallShared> shared, std::unique_ptr<HttpSink> sink) {
  auto call = std::make_shared<HttpCallImpl>(thread, std::move(request), std::move(shared), std::move(sink));
  if (router.http_filter() && router.http_filter()(call)) return;
  Router::HttpMatch match = router.FindHttp(call->request().method, call->request().path);
  if (match.handler != nullptr) {
    (*match.handler)(std::move(call));
  } else if (!match.allow.empty()) {
    ReplyPlain(*call, 405, "Method Not Allowed\n", {{"allow", match.allow}});
  } else {
    ReplyPlain(*call, 404, "404 page not found\n", {});
  }
}

}  // namespace kvd::net
