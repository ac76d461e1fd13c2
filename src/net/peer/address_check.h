// Whether a certificate that is for hosts is shown from the address of one of them, as etcd has it of its
// peers: one of its addresses, an address of one of its names, or an address whose name one of its wildcards
// covers.
//
// Thread: that of the event loop.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>
#include <functional>

#include "absl/status/status.h"
#include "net/tls/tls_session.h"

namespace kvd::net {

class AddressCheck {
 public:
  using Done = std::function<void(absl::Status)>;
  // `done` is called once, perhaps from within; kUnavailable with etcd's text: it is not.
  static void Start(boost::asio::io_context& io, const TlsSession::Hosts& hosts,
                    const boost::asio::ip::address& remote, Done done);
};

}  // namespace kvd::net
