#include "net/peer/socket.h"

#include <sys/socket.h>

#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>

namespace kvd::net {
namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

// Boost's base class is never destroyed through a pointer.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wnon-virtual-dtor"
class TlsCategory final : public boost::system::error_category {
 public:
  const char* name() const noexcept override { return "tls"; }
  std::string message(int code) const override {
    return TlsErrorText(static_cast<unsigned long>(static_cast<unsigned>(code)));
  }
};
#pragma GCC diagnostic pop

error_code ErrorOf(const TlsSession& session, TlsSession::Result::Kind kind) {
  static const TlsCategory category;
  if (kind == TlsSession::Result::kEnd) return asio::error::eof;
  if (session.error_code() == 0) return asio::error::connection_reset;
  return {static_cast<int>(session.error_code()), category};
}

}  // namespace

class Socket::Stream : public std::enable_shared_from_this<Socket::Stream> {
 public:
  Stream(tcp::socket socket, std::unique_ptr<TlsSession> session)
      : socket_(std::move(socket)), session_(std::move(session)) {
    error_code ignored;
    socket_.non_blocking(true, ignored);
  }

  tcp::socket& socket() { return socket_; }
  TlsSession& session() { return *session_; }

  void Handshake(std::function<void(absl::Status)> done) {
    const TlsSession::Result result = session_->Handshake();
    if (Blocked(result)) {
      return Wait(result, [self = shared_from_this(), done = std::move(done)](error_code ec) mutable {
        if (ec) return done(absl::CancelledError("closed"));
        self->Handshake(std::move(done));
      });
    }
    const bool good = result.kind == TlsSession::Result::kDone;
    asio::post(
        socket_.get_executor(),
        [done = std::move(done), status = good ? absl::OkStatus() : session_->error()] { done(status); });
  }

  void Read(asio::mutable_buffer buffer, Done done, bool waited) {
    const TlsSession::Result result = session_->Read(static_cast<char*>(buffer.data()), buffer.size());
    if (!Blocked(result)) return Complete(result, std::move(done), waited);
    Wait(result, [self = shared_from_this(), buffer, done = std::move(done)](error_code ec) mutable {
      if (ec) return done(ec, 0);
      self->Read(buffer, std::move(done), true);
    });
  }

  void Write(asio::const_buffer buffer, Done done, bool waited) {
    const iovec range{const_cast<void*>(buffer.data()), buffer.size()};
    const TlsSession::Result result = session_->Write(&range, 1);
    if (!Blocked(result)) return Complete(result, std::move(done), waited);
    Wait(result, [self = shared_from_this(), buffer, done = std::move(done)](error_code ec) mutable {
      if (ec) return done(ec, 0);
      self->Write(buffer, std::move(done), true);
    });
  }

  void WriteAll(asio::const_buffer buffer, size_t sent, Done done) {
    Write(
        buffer + sent,
        [self = shared_from_this(), buffer, sent, done = std::move(done)](error_code ec, size_t n) mutable {
          if (ec || sent + n >= buffer.size()) return done(ec, sent + n);
          self->WriteAll(buffer, sent + n, std::move(done));
        },
        false);
  }

  void Close(error_code& error) {
    if (!socket_.is_open()) return;
    session_->Shutdown();
    socket_.close(error);
  }

 private:
  static bool Blocked(const TlsSession::Result& result) {
    return result.kind == TlsSession::Result::kWantRead || result.kind == TlsSession::Result::kWantWrite;
  }

  template <typename Handler>
  void Wait(const TlsSession::Result& result, Handler handler) {
    socket_.async_wait(
        result.kind == TlsSession::Result::kWantRead ? tcp::socket::wait_read : tcp::socket::wait_write,
        [this, handler = std::move(handler)](error_code ec) mutable {
          // The socket may have become ready, and been closed since then.
          if (!ec && !socket_.is_open()) ec = asio::error::operation_aborted;
          handler(ec);
        });
  }

  void Complete(const TlsSession::Result& result, Done done, bool waited) {
    const bool good = result.kind == TlsSession::Result::kDone;
    const error_code ec = good ? error_code() : ErrorOf(*session_, result.kind);
    if (waited) return done(ec, result.bytes);
    asio::post(socket_.get_executor(),
               [done = std::move(done), ec, bytes = result.bytes] { done(ec, bytes); });
  }

  tcp::socket socket_;
  const std::unique_ptr<TlsSession> session_;
};

absl::StatusOr<Socket> Socket::AcceptTls(tcp::socket socket, const TlsContext& context) {
  auto session = TlsSession::Accept(context, socket.native_handle(), TlsSession::Protocols::kHttp1);
  if (!session.ok()) return session.status();
  return Socket(std::make_shared<Stream>(std::move(socket), *std::move(session)));
}

absl::StatusOr<Socket> Socket::ConnectTls(tcp::socket socket, const TlsContext& context,
                                          const std::string& host, TlsSession::Protocols protocols) {
  auto session = TlsSession::Connect(context, socket.native_handle(), host, protocols);
  if (!session.ok()) return session.status();
  return Socket(std::make_shared<Stream>(std::move(socket), *std::move(session)));
}

Socket::Socket(std::shared_ptr<Stream> stream)
    : plain_(stream->socket().get_executor()), tls_(std::move(stream)) {}

Socket::~Socket() {
  error_code ignored;
  if (tls_ != nullptr) tls_->Close(ignored);
}

Socket& Socket::operator=(Socket&& other) noexcept {
  error_code ignored;
  if (tls_ != nullptr && tls_ != other.tls_) tls_->Close(ignored);
  plain_ = std::move(other.plain_);
  tls_ = std::move(other.tls_);
  return *this;
}

TlsSession* Socket::tls() {
  return tls_ == nullptr ? nullptr : &tls_->session();
}
tcp::socket& Socket::base() {
  return tls_ == nullptr ? plain_ : tls_->socket();
}

void Socket::AsyncHandshake(std::function<void(absl::Status)> done) {
  tls_->Handshake(std::move(done));
}
void Socket::ReadTls(asio::mutable_buffer buffer, Done done) {
  tls_->Read(buffer, std::move(done), false);
}
void Socket::WriteTls(asio::const_buffer buffer, Done done) {
  tls_->Write(buffer, std::move(done), false);
}

void Socket::AsyncWriteAll(asio::const_buffer buffer, Done done) {
  if (tls_ == nullptr) return asio::async_write(plain_, buffer, std::move(done));
  tls_->WriteAll(buffer, 0, std::move(done));
}

void Socket::WriteNow(std::string_view bytes) {
  error_code ignored;
  if (tls_ == nullptr) {
    plain_.non_blocking(true, ignored);
    plain_.write_some(asio::buffer(bytes.data(), bytes.size()), ignored);
    return;
  }
  const iovec range{const_cast<char*>(bytes.data()), bytes.size()};
  tls_->session().Write(&range, 1);
}

void Socket::ShutdownSend() {
  error_code ignored;
  if (tls_ != nullptr) tls_->session().Shutdown();
  base().shutdown(tcp::socket::shutdown_send, ignored);
}

void Socket::close(error_code& error) {
  if (tls_ != nullptr) {
    tls_->Close(error);
  } else {
    plain_.close(error);
  }
}

}  // namespace kvd::net
