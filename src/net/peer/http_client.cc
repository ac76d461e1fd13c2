#include "net/peer/http_client.h"

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "base/strings.h"
#include "net/io_thread.h"
#include "net/peer/dial.h"
#include "net/peer/http_wire.h"

namespace kvd::net {
namespace asio = boost::asio;
using boost::system::error_code;

namespace {

// Servers drop connections that are idle for 5 s (PeerTransportOptions::read_timeout); be well below that.
constexpr base::Nanos kIdleLimit = std::chrono::seconds(2);
constexpr size_t kIdlePerHost = 4;

}  // namespace

struct HttpClient::Impl : std::enable_shared_from_this<HttpClient::Impl> {
  Impl(asio::io_context& context, IoThread* io_thread, std::shared_ptr<const TlsContext> tls_context)
      : io(context), thread(io_thread), tls(std::move(tls_context)), prune_timer(context) {}

  class Exchange;
  struct Idle {
    Socket socket;
    base::Nanos until;
  };

  // By scheme and authority.
  std::optional<Socket> TakeIdle(const std::string& host);
  void GiveIdle(const std::string& host, Socket socket);
  void Prune(base::Nanos now);
  void ArmPrune();
  void StopOnThread();

  asio::io_context& io;
  IoThread* const thread;  // null on an event loop that is not an IoThread
  const std::shared_ptr<const TlsContext> tls;
  base::Clock& clock = base::SystemClock();

  std::mutex mutex;
  bool stopped = false;  // guarded by mutex

  // The I/O thread's.
  bool stopped_on_thread = false;
  std::set<std::shared_ptr<Exchange>> exchanges;
  std::map<std::string, std::vector<Idle>> idle;
  asio::steady_timer prune_timer;
  bool prune_armed = false;
};

// One call from its start to its end.
class HttpClient::Impl::Exchange : public std::enable_shared_from_this<HttpClient::Impl::Exchange> {
 public:
  Exchange(std::shared_ptr<HttpClient::Impl> client, absl::StatusOr<HttpUrl> url, const PeerRequest& request,
           HttpCallOptions options, HttpClient::Done done)
      : client_(std::move(client)),
        url_(std::move(url)),
        method_(request.method),
        options_(options),
        done_(std::move(done)),
        timer_(client_->io) {
    if (url_.ok()) {
      host_ = base::StrCat(url_->scheme, "://", url_->Authority());
      out_ = EncodeHttpRequest(request, url_->Authority(), /*keep_alive=*/true);
    }
  }

  void Start() {
    if (client_->stopped_on_thread) return Finish(absl::CancelledError("the HTTP client is stopped"));
    if (!url_.ok()) return Finish(url_.status());
    client_->exchanges.insert(shared_from_this());
    timer_.expires_after(options_.timeout);
    timer_.async_wait([self = shared_from_this()](error_code ec) {
      if (!ec) self->Finish(absl::DeadlineExceededError("HTTP call: timed out"));
    });
    socket_ = client_->TakeIdle(host_);
    reused_ = socket_.has_value();
    if (reused_) {
      Write();
    } else {
      Connect();
    }
  }

  void Finish(absl::StatusOr<PeerResponse> result) {
    if (!done_) return;
    HttpClient::Done done = std::exchange(done_, nullptr);
    auto self = shared_from_this();
    client_->exchanges.erase(self);
    timer_.cancel();
    if (dial_) dial_->Cancel();
    bool reusable = result.ok() && socket_ && head_.keep_alive && body_.done() && leftover_.empty();
    if (reusable && !client_->stopped_on_thread) {
      client_->GiveIdle(host_, *std::move(socket_));
      socket_.reset();
    } else if (socket_) {
      error_code ignored;
      socket_->close(ignored);
    }
    if (client_->thread != nullptr) {
      IoThread::Batch batch(*client_->thread);
      done(std::move(result));
    } else {
      done(std::move(result));
    }
  }

 private:
  void Connect() {
    base::Nanos timeout = std::min(options_.connect_timeout, options_.timeout);
    dial_ = Dial::Start(client_->io, *url_, {client_->tls}, timeout,
                        [self = shared_from_this()](absl::StatusOr<Socket> socket) {
                          self->dial_.reset();
                          if (!socket.ok()) return self->Finish(socket.status());
                          self->socket_ = *std::move(socket);
                          self->Write();
                        });
  }

  void Write() {
    socket_->AsyncWriteAll(asio::buffer(out_), [self = shared_from_this()](error_code ec, size_t) {
      if (!self->done_) return;
      // A server that refuses early closes its side; its answer may be there all the same.
      if (ec && self->reused_) return self->Retry();
      self->Read();
    });
  }

  // The server had closed the idle connection: nothing was lost but time.
  void Retry() {
    reused_ = false;
    error_code ignored;
    socket_->close(ignored);
    socket_.reset();
    Connect();
  }

  void Read() {
    socket_->async_read_some(asio::buffer(buffer_), [self = shared_from_this()](error_code ec, size_t n) {
      if (self->done_) self->OnRead(ec, std::string_view(self->buffer_.data(), n));
    });
  }

  void OnRead(const error_code& ec, std::string_view bytes) {
    if (ec) {
      if (reused_ && !have_head_ && leftover_.empty()) return Retry();
      if (ec == asio::error::eof && have_head_ && body_.EndOfStream()) return Finish(std::move(response_));
      return Finish(SocketError("HTTP answer", ec));
    }
    if (!have_head_) {
      leftover_.append(bytes);
      absl::StatusOr<bool> head = TakeHead();
      if (!head.ok()) return Finish(head.status());
      if (!*head) return Read();
      std::string rest = std::exchange(leftover_, {});
      return OnBody(rest);
    }
    OnBody(bytes);
  }

  // Skips 1xx answers. False: more bytes are needed.
  absl::StatusOr<bool> TakeHead() {
    while (true) {
      absl::StatusOr<size_t> size = FindHttpHead(leftover_);
      if (!size.ok()) return size.status();
      if (*size == 0) return false;
      absl::StatusOr<HttpHead> head = ParseHttpResponseHead(std::string_view(leftover_).substr(0, *size));
      if (!head.ok()) return head.status();
      leftover_.erase(0, *size);
      if (head->status / 100 == 1) continue;
      head_ = *std::move(head);
      have_head_ = true;
      response_.status = head_.status;
      response_.headers = head_.fields;
      body_ = BodyOfResponse(head_, method_);
      return true;
    }
  }

  void OnBody(std::string_view bytes) {
    while (!body_.done()) {
      absl::StatusOr<std::string_view> piece = body_.Next(&bytes);
      if (!piece.ok()) return Finish(piece.status());
      if (piece->empty()) break;
      if (response_.body.size() + piece->size() > options_.max_body_bytes) {
        return Finish(absl::ResourceExhaustedError("HTTP answer is too large"));
      }
      response_.body.append(*piece);
    }
    if (!body_.done()) return Read();
    leftover_.assign(bytes);
    Finish(std::move(response_));
  }

  const std::shared_ptr<HttpClient::Impl> client_;
  const absl::StatusOr<HttpUrl> url_;
  const std::string method_;
  const HttpCallOptions options_;
  HttpClient::Done done_;
  asio::steady_timer timer_;
  std::string host_;  // with its scheme
  std::string out_;
  std::shared_ptr<Dial> dial_;
  std::optional<Socket> socket_;
  bool reused_ = false;
  std::array<char, 16384> buffer_;
  std::string leftover_;
  bool have_head_ = false;
  HttpHead head_;
  HttpBodyReader body_;
  PeerResponse response_;
};

std::optional<Socket> HttpClient::Impl::TakeIdle(const std::string& host) {
  Prune(clock.Monotonic());
  auto at = idle.find(host);
  if (at == idle.end()) return std::nullopt;
  Socket socket = std::move(at->second.back().socket);
  at->second.pop_back();
  if (at->second.empty()) idle.erase(at);
  return socket;
}

void HttpClient::Impl::GiveIdle(const std::string& host, Socket socket) {
  std::vector<Idle>& sockets = idle[host];
  if (sockets.size() >= kIdlePerHost) sockets.erase(sockets.begin());
  sockets.push_back({std::move(socket), clock.Monotonic() + kIdleLimit});
  ArmPrune();
}

void HttpClient::Impl::Prune(base::Nanos now) {
  for (auto at = idle.begin(); at != idle.end();) {
    std::erase_if(at->second, [now](const Idle& i) { return i.until <= now; });
    at = at->second.empty() ? idle.erase(at) : std::next(at);
  }
}

void HttpClient::Impl::ArmPrune() {
  if (prune_armed) return;
  prune_armed = true;
  prune_timer.expires_after(kIdleLimit);
  prune_timer.async_wait([weak = weak_from_this()](error_code ec) {
    auto self = weak.lock();
    if (!self || ec) return;
    self->prune_armed = false;
    self->Prune(self->clock.Monotonic());
    if (!self->idle.empty()) self->ArmPrune();
  });
}

void HttpClient::Impl::StopOnThread() {
  stopped_on_thread = true;
  prune_timer.cancel();
  idle.clear();
  while (!exchanges.empty()) {
    auto exchange = *exchanges.begin();
    exchange->Finish(absl::CancelledError("the HTTP client is stopped"));
  }
}

HttpClient::HttpClient(IoThread& thread, std::shared_ptr<const TlsContext> tls)
    : impl_(std::make_shared<Impl>(thread.context(), &thread, std::move(tls))) {}
HttpClient::HttpClient(asio::io_context& io, std::shared_ptr<const TlsContext> tls)
    : impl_(std::make_shared<Impl>(io, nullptr, std::move(tls))) {}
HttpClient::~HttpClient() {
  Stop();
}

void HttpClient::Call(std::string_view base_url, const PeerRequest& request, HttpCallOptions options,
                      Done done) {
  auto exchange =
      std::make_shared<Impl::Exchange>(impl_, ParseHttpUrl(base_url), request, options, std::move(done));
  asio::post(impl_->io, [exchange = std::move(exchange)] { exchange->Start(); });
}

void HttpClient::Stop() {
  {
    std::lock_guard lock(impl_->mutex);
    if (std::exchange(impl_->stopped, true)) return;
  }
  asio::post(impl_->io, [impl = impl_] { impl->StopOnThread(); });
}

absl::StatusOr<PeerResponse> HttpCallBlocking(std::string_view base_url, const PeerRequest& request,
                                              HttpCallOptions options) {
  asio::io_context io(1);
  absl::StatusOr<PeerResponse> result = absl::InternalError("the HTTP call did not end");
  {
    HttpClient client(io);
    client.Call(base_url, request, options, [&](absl::StatusOr<PeerResponse> r) {
      result = std::move(r);
      client.Stop();
    });
    io.run();
  }
  return result;
}

absl::StatusOr<PeerResponse> HttpGetFromAny(const std::vector<std::string>& base_urls, std::string_view path,
                                            HttpCallOptions options) {
  absl::Status last = absl::InvalidArgumentError("no URL to ask");
  for (const std::string& url : base_urls) {
    PeerRequest request;
    request.path = std::string(path);
    absl::StatusOr<PeerResponse> response = HttpCallBlocking(url, request, options);
    if (response.ok() && response->status == 200) return response;
    last = response.ok() ? absl::UnavailableError(base::StrCat(url, path, ": HTTP status ", response->status))
                         : absl::Status(response.status().code(),
                                        base::StrCat(url, path, ": ", response.status().message()));
  }
  return last;
}

}  // namespace kvd::net
