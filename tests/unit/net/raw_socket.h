// A blocking TCP client for tests that send what no client library would.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace kvd::net {

class RawSocket {
 public:
  explicit RawSocket(uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    timeval limit{20, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  }
  ~RawSocket() { close(fd_); }
  RawSocket(const RawSocket&) = delete;
  RawSocket& operator=(const RawSocket&) = delete;

  bool connected() const { return connected_; }
  // False if the server has closed.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t n = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  void EndSending() { shutdown(fd_, SHUT_WR); }
  // Reads until what was read contains `text`; false at the end of the stream.
  bool ReadUntil(std::string_view text, std::string* all) {
    while (all->find(text) == std::string::npos) {
      if (!ReadSome(all)) return false;
    }
    return true;
  }
  // Reads to the end of the stream; closed() tells whether it came.
  std::string ReadAll() {
    std::string all;
    while (ReadSome(&all)) {
    }
    return all;
  }
  bool ReadSome(std::string* all) {
    char buffer[16 * 1024];
    ssize_t n = recv(fd_, buffer, sizeof buffer, 0);
    closed_ = n == 0 || (n < 0 && errno == ECONNRESET);
    if (n <= 0) return false;
    all->append(buffer, static_cast<size_t>(n));
    return true;
  }
  bool closed() const { return closed_; }

 private:
  int fd_;
  bool connected_ = false;
  bool closed_ = false;
};

}  // namespace kvd::net
