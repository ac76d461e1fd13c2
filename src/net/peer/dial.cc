#include "net/peer/dial.h"

#include <netinet/tcp.h>

#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/post.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "base/strings.h"

namespace kvd::net {
namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

absl::Status SocketError(std::string_view what, const error_code& ec) {
  return absl::UnavailableError(base::StrCat(what, ": ", ec.message()));
}

void TuneSocket(tcp::socket& socket) {
  error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
}

void LimitUnacknowledged(tcp::socket& socket, base::Nanos limit) {
  using Option = asio::detail::socket_option::integer<IPPROTO_TCP, TCP_USER_TIMEOUT>;
  auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(limit).count();
  error_code ignored;
  socket.set_option(Option(static_cast<int>(std::clamp<int64_t>(milliseconds, 1, 3600'000))), ignored);
}

std::string HttpUrl::Authority() const {
  bool v6 = host.find(':') != std::string::npos;
  return base::StrCat(v6 ? "[" : "", host, v6 ? "]" : "", ":", port);
}

absl::StatusOr<HttpUrl> ParseHttpUrl(std::string_view url) {
  size_t scheme_end = url.find("://");
  if (scheme_end == std::string_view::npos) {
    return absl::InvalidArgumentError(base::StrCat("URL has no scheme: ", url));
  }
  HttpUrl out;
  out.scheme = std::string(url.substr(0, scheme_end));
  if (out.scheme != "http" && out.scheme != "https") {
    return absl::UnimplementedError(base::StrCat("URL scheme is not http or https: ", url));
  }
  std::string_view rest = url.substr(scheme_end + 3);
  rest = rest.substr(0, rest.find_first_of("/?#"));
  size_t host_end;
  if (!rest.empty() && rest.front() == '[') {
    size_t close = rest.find(']');
    if (close == std::string_view::npos)
      return absl::InvalidArgumentError(base::StrCat("URL has no host: ", url));
    out.host = std::string(rest.substr(1, close - 1));
    host_end = close + 1;
  } else {
    host_end = std::min(rest.find(':'), rest.size());
    out.host = std::string(rest.substr(0, host_end));
  }
  if (out.host.empty()) return absl::InvalidArgumentError(base::StrCat("URL has no host: ", url));
  std::string_view port = rest.substr(host_end);
  out.port = port.empty() ? (out.Secure() ? "443" : "80") : std::string(port.substr(1));
  uint32_t number = 0;
  bool bad = !port.empty() && (port.front() != ':' || !absl::SimpleAtoi(out.port, &number) || number > 65535);
  if (bad) return absl::InvalidArgumentError(base::StrCat("URL has a bad port: ", url));
  return out;
}

Dial::Dial(asio::io_context& io, const HttpUrl& url, Tls tls, Done done)
    : url_(url), tls_(std::move(tls)), resolver_(io), connecting_(io), timer_(io), done_(std::move(done)) {}

std::shared_ptr<Dial> Dial::Start(asio::io_context& io, const HttpUrl& url, Tls tls, base::Nanos timeout,
                                  Done done) {
  auto dial = std::make_shared<Dial>(io, url, std::move(tls), std::move(done));
  dial->Run(timeout);
  return dial;
}

void Dial::Run(base::Nanos timeout) {
  timer_.expires_after(timeout);
  timer_.async_wait([self = shared_from_this()](error_code ec) {
    if (!ec) self->Fail(absl::DeadlineExceededError("dial: timed out"));
  });
  error_code not_literal;
  asio::ip::address address = asio::ip::make_address(url_.host, not_literal);
  if (!not_literal) {
    uint32_t port = 0;
    (void)absl::SimpleAtoi(url_.port, &port);  // checked by ParseHttpUrl
    Connect(tcp::resolver::results_type::create(tcp::endpoint(address, static_cast<uint16_t>(port)),
                                                url_.host, url_.port));
    return;
  }
  resolver_.async_resolve(
      url_.host, url_.port,
      [self = shared_from_this()](error_code ec, const tcp::resolver::results_type& endpoints) {
        if (!self->done_) return;
        if (ec) {
          self->Fail(SocketError("resolve", ec));
        } else {
          self->Connect(endpoints);
        }
      });
}

void Dial::Connect(const tcp::resolver::results_type& endpoints) {
  asio::async_connect(connecting_, endpoints,
                      [self = shared_from_this()](error_code ec, const tcp::endpoint&) {
                        if (!self->done_) return;
                        if (ec) return self->Fail(SocketError("dial", ec));
                        self->OnConnected();
                      });
}

void Dial::OnConnected() {
  TuneSocket(connecting_);
  if (!url_.Secure()) {
    socket_.emplace(std::move(connecting_));
    return Finish();
  }
  if (tls_.context == nullptr) {
    return Fail(absl::UnimplementedError(base::StrCat("there is no TLS here for ", url_.Authority())));
  }
  absl::StatusOr<Socket> secure =
      Socket::ConnectTls(std::move(connecting_), *tls_.context, url_.host, tls_.protocols);
  if (!secure.ok()) return Fail(secure.status());
  socket_.emplace(*std::move(secure));
  socket_->AsyncHandshake([self = shared_from_this()](const absl::Status& status) {
    if (!self->done_) return;
    if (status.ok()) return self->Finish();
    self->Fail(absl::UnavailableError(base::StrCat("TLS handshake: ", status.message())));
  });
}

void Dial::Fail(absl::Status status) {
  if (!done_) return;
  Done done = std::exchange(done_, nullptr);
  timer_.cancel();
  resolver_.cancel();
  error_code ignored;
  connecting_.close(ignored);
  socket_.reset();
  done(std::move(status));
}

void Dial::Finish() {
  Done done = std::exchange(done_, nullptr);
  timer_.cancel();
  resolver_.cancel();
  done(*std::exchange(socket_, std::nullopt));
}

void Dial::Cancel() {
  if (!done_) return;
  done_ = nullptr;
  timer_.cancel();
  resolver_.cancel();
  error_code ignored;
  connecting_.close(ignored);
  socket_.reset();
}

}  // namespace kvd::net
