#include <boost/asio/post.hpp>
#include <utility>

#include "base/log.h"
#include "net/tls/tls_session.h"
#include "net/transport.h"

namespace kvd::net {
namespace {

class TlsTransport final : public Transport {
 public:
  TlsTransport(StreamSocket socket, std::unique_ptr<TlsSession> session, std::string peer)
      : socket_(std::move(socket)), session_(std::move(session)), peer_(std::move(peer)) {}

  IoResult Read(char* data, size_t size) override {
    if (!established_ && !Establish()) return blocked_;
    const TlsSession::Result result = session_->Read(data, size);
    may_have_more_ = result.kind == TlsSession::Result::kDone && result.bytes == size;
    return Result(result, &read_wait_, StreamSocket::wait_read);
  }

  IoResult Write(const iovec* ranges, int count) override {
    return Result(session_->Write(ranges, count), &write_wait_, StreamSocket::wait_write);
  }

  void WaitReadable(std::function<void()> done) override {
    // What the session has taken from the socket makes no socket readable.
    if (may_have_more_) return boost::asio::post(socket_.get_executor(), std::move(done));
    Wait(read_wait_, std::move(done));
  }
  void WaitWritable(std::function<void()> done) override { Wait(write_wait_, std::move(done)); }

  void ShutdownWrite() override {
    session_->Shutdown();
    boost::system::error_code ignored;
    socket_.shutdown(StreamSocket::shutdown_send, ignored);
  }

  void Close() override {
    session_->Shutdown();
    boost::system::error_code ignored;
    socket_.close(ignored);
  }

 private:
  // False: blocked_ says what to answer.
  bool Establish() {
    const TlsSession::Result result = session_->Handshake();
    established_ = result.kind == TlsSession::Result::kDone;
    if (established_) return true;
    blocked_ = Result(result, &read_wait_, StreamSocket::wait_read);
    if (blocked_.kind == IoResult::kEnd) session_->Reject("client", peer_, session_->error());
    return false;
  }

  static IoResult Result(TlsSession::Result result, StreamSocket::wait_type* wait,
                         StreamSocket::wait_type usual) {
    *wait = usual;
    switch (result.kind) {
      case TlsSession::Result::kDone:
        return {IoResult::kDone, result.bytes};
      case TlsSession::Result::kWantRead:
        *wait = StreamSocket::wait_read;
        return {IoResult::kWouldBlock, 0};
      case TlsSession::Result::kWantWrite:
        *wait = StreamSocket::wait_write;
        return {IoResult::kWouldBlock, 0};
      case TlsSession::Result::kEnd:
      case TlsSession::Result::kFailed:
        break;
    }
    return {IoResult::kEnd, 0};
  }

  void Wait(StreamSocket::wait_type type, std::function<void()> done) {
    socket_.async_wait(type, [done = std::move(done)](const boost::system::error_code&) { done(); });
  }

  StreamSocket socket_;
  const std::unique_ptr<TlsSession> session_;
  const std::string peer_;
  bool established_ = false;
  bool may_have_more_ = false;
  IoResult blocked_{IoResult::kWouldBlock, 0};
  StreamSocket::wait_type read_wait_ = StreamSocket::wait_read;
  StreamSocket::wait_type write_wait_ = StreamSocket::wait_write;
};

}  // namespace

std::unique_ptr<Transport> NewTlsTransport(StreamSocket socket, const TlsContext& context, bool http,
                                           const std::string& peer) {
  TuneAccepted(socket);
  auto session =
      TlsSession::Accept(context, socket.native_handle(),
                         http ? TlsSession::Protocols::kHttp1AndHttp2 : TlsSession::Protocols::kHttp2);
  if (!session.ok()) {
    KVD_LOG(kWarn, "rejected connection on client endpoint", {"remote-addr", peer},
            {"error", session.status()});
    return nullptr;
  }
  return std::make_unique<TlsTransport>(std::move(socket), *std::move(session), peer);
}

}  // namespace kvd::net
