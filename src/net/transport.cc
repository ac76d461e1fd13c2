#include "net/transport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <utility>

namespace kvd::net {
namespace {

class PlainTransport final : public Transport {
 public:
  explicit PlainTransport(StreamSocket socket) : socket_(std::move(socket)) { TuneAccepted(socket_); }

  IoResult Read(char* data, size_t size) override {
    ssize_t n;
    do {
      n = recv(socket_.native_handle(), data, size, 0);
    } while (n < 0 && errno == EINTR);
    return Result(n);
  }

  IoResult Write(const iovec* ranges, int count) override {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(ranges);
    message.msg_iovlen = static_cast<size_t>(count);
    ssize_t n;
    do {
      n = sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return Result(n);
  }

  void WaitReadable(std::function<void()> done) override { Wait(StreamSocket::wait_read, std::move(done)); }
  void WaitWritable(std::function<void()> done) override { Wait(StreamSocket::wait_write, std::move(done)); }

  void ShutdownWrite() override {
    boost::system::error_code ignored;
    socket_.shutdown(StreamSocket::shutdown_send, ignored);
  }

  void Close() override {
    boost::system::error_code ignored;
    socket_.close(ignored);
  }

 private:
  static IoResult Result(ssize_t n) {
    if (n > 0) return {IoResult::kDone, static_cast<size_t>(n)};
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return {IoResult::kWouldBlock, 0};
    return {IoResult::kEnd, 0};
  }

  void Wait(StreamSocket::wait_type type, std::function<void()> done) {
    socket_.async_wait(type, [done = std::move(done)](const boost::system::error_code&) { done(); });
  }

  StreamSocket socket_;
};

}  // namespace

void TuneAccepted(StreamSocket& socket) {
  boost::system::error_code ignored;
  socket.non_blocking(true, ignored);
  int on = 1;
  setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(socket.native_handle(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

std::string PeerName(const StreamSocket& socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  int fd = const_cast<StreamSocket&>(socket).native_handle();
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return "@";
  char text[INET6_ADDRSTRLEN];
  if (address.ss_family == AF_INET) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&address);
    inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
    return std::string(text) + ":" + std::to_string(ntohs(v4->sin_port));
  }
  if (address.ss_family == AF_INET6) {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&address);
    inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
    return "[" + std::string(text) + "]:" + std::to_string(ntohs(v6->sin6_port));
  }
  return "@";
}

std::unique_ptr<Transport> NewPlainTransport(StreamSocket socket) {
  return std::make_unique<PlainTransport>(std::move(socket));
}

}  // namespace kvd::net
