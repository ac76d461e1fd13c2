// One attempt to connect to a host: resolve, connect to its addresses in turn, and shake hands where its URL
// says https, within one time limit.
//
// Thread: the I/O thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <optional>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "net/peer/http_client.h"
#include "net/peer/socket.h"

namespace kvd::net {

class Dial : public std::enable_shared_from_this<Dial> {
 public:
  using Done = absl::AnyInvocable<void(absl::StatusOr<Socket>)>;
  // How to speak TLS, if the URL says so. A null context: not at all.
  struct Tls {
    std::shared_ptr<const TlsContext> context;
    TlsSession::Protocols protocols = TlsSession::Protocols::kNone;
  };

  // `done` is called once, later, unless the attempt is cancelled.
  static std::shared_ptr<Dial> Start(boost::asio::io_context& io, const HttpUrl& url, Tls tls,
                                     base::Nanos timeout, Done done);
  void Cancel();

  Dial(boost::asio::io_context& io, const HttpUrl& url, Tls tls, Done done);

 private:
  void Run(base::Nanos timeout);
  void Connect(const boost::asio::ip::tcp::resolver::results_type& endpoints);
  void OnConnected();
  void Fail(absl::Status status);
  void Finish();

  const HttpUrl url_;
  const Tls tls_;
  boost::asio::ip::tcp::resolver resolver_;
  boost::asio::ip::tcp::socket connecting_;
  std::optional<Socket> socket_;  // once connected
  boost::asio::steady_timer timer_;
  Done done_;
};

// The code and text of a failed socket operation.
absl::Status SocketError(std::string_view what, const boost::system::error_code& ec);
// No delay, and keep-alive probes; a connected socket only.
void TuneSocket(boost::asio::ip::tcp::socket& socket);
// Ends the connection when what was sent stays unacknowledged for that long, as it does when a host vanishes.
void LimitUnacknowledged(boost::asio::ip::tcp::socket& socket, base::Nanos limit);

}  // namespace kvd::net
