// A connection to or from another member, or to a service: plain, or TLS over it, with the operations of an
// asio socket. One read and one write at a time; handlers run on the event loop, never from within the call.
//
// Thread: that of its event loop. Ownership: closes the connection when it goes; moves only while no
// operation is under way.
#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "net/tls/tls_session.h"

namespace kvd::net {

class Socket {
 public:
  using tcp = boost::asio::ip::tcp;
  using error_code = boost::system::error_code;
  using Done = std::function<void(error_code, size_t)>;

  explicit Socket(tcp::socket plain) : plain_(std::move(plain)) {}
  // TLS over a socket that was accepted, or that has connected to `host`. The handshake comes first.
  static absl::StatusOr<Socket> AcceptTls(tcp::socket socket, const TlsContext& context);
  static absl::StatusOr<Socket> ConnectTls(tcp::socket socket, const TlsContext& context,
                                           const std::string& host, TlsSession::Protocols protocols);
  ~Socket();
  Socket(Socket&&) = default;
  Socket& operator=(Socket&& other) noexcept;

  // The session of TLS; null: plain.
  TlsSession* tls();
  // For its options and its address.
  tcp::socket& base();

  // REQUIRES: tls() != nullptr. kUnavailable: it failed; kCancelled: the socket was closed.
  void AsyncHandshake(std::function<void(absl::Status)> done);

  template <typename Handler>
  void async_read_some(boost::asio::mutable_buffer buffer, Handler&& done) {
    if (tls_ == nullptr) {
      plain_.async_read_some(buffer, std::forward<Handler>(done));
    } else {
      ReadTls(buffer, std::forward<Handler>(done));
    }
  }
  template <typename Handler>
  void async_write_some(boost::asio::const_buffer buffer, Handler&& done) {
    if (tls_ == nullptr) {
      plain_.async_write_some(buffer, std::forward<Handler>(done));
    } else {
      WriteTls(buffer, std::forward<Handler>(done));
    }
  }
  // Writes all of it. `done` gets how much went out.
  void AsyncWriteAll(boost::asio::const_buffer buffer, Done done);
  // What the connection takes at once of a few bytes.
  void WriteNow(std::string_view bytes);

  // Ends our side.
  void ShutdownSend();
  void close(error_code& error);

 private:
  class Stream;

  explicit Socket(std::shared_ptr<Stream> stream);
  void ReadTls(boost::asio::mutable_buffer buffer, Done done);
  void WriteTls(boost::asio::const_buffer buffer, Done done);

  tcp::socket plain_;
  std::shared_ptr<Stream> tls_;  // held by the operations on it, too; has the socket then
};

}  // namespace kvd::net
