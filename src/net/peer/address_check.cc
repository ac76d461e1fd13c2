#include "net/peer/address_check.h"

#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "base/strings.h"

namespace kvd::net {
namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

// The plain form of an IPv4 address that came in over IPv6.
asio::ip::address Plain(const asio::ip::address& address) {
  if (!address.is_v6() || !address.to_v6().is_v4_mapped()) return address;
  return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
}

class Lookup : public std::enable_shared_from_this<Lookup> {
 public:
  Lookup(asio::io_context& io, const TlsSession::Hosts& hosts, asio::ip::address remote,
         AddressCheck::Done done)
      : resolver_(io), remote_(std::move(remote)), done_(std::move(done)) {
    for (const std::string& name : hosts.names)
      (absl::StartsWith(name, "*") ? wildcards_ : names_).push_back(name);
    all_ = absl::StrJoin(hosts.names, " ");
  }

  // The names one after the other, then the wildcards.
  void Next() {
    if (at_ == names_.size()) return Reverse();
    resolver_.async_resolve(
        names_[at_++], "0",
        [self = shared_from_this()](error_code ec, const tcp::resolver::results_type& found) {
          if (!ec) {
            for (const auto& entry : found) {
              if (Plain(entry.endpoint().address()) == self->remote_) return self->done_({});
            }
          }
          self->Next();
        });
  }

 private:
  void Reverse() {
    if (wildcards_.empty()) return Refuse();
    resolver_.async_resolve(
        tcp::endpoint(remote_, 0),
        [self = shared_from_this()](error_code ec, const tcp::resolver::results_type& found) {
          if (!ec) {
            for (const auto& entry : found) {
              std::string name = entry.host_name();
              while (absl::EndsWith(name, ".")) name.pop_back();
              for (const std::string& wildcard : self->wildcards_) {
                if (absl::EndsWith(name, wildcard.substr(1))) return self->done_({});
              }
            }
          }
          self->Refuse();
        });
  }

  void Refuse() {
    done_(absl::UnavailableError(
        base::StrCat("tls: \"", remote_.to_string(), "\" does not match any of DNSNames [", all_, "]")));
  }

  tcp::resolver resolver_;
  const asio::ip::address remote_;
  const AddressCheck::Done done_;
  std::vector<std::string> names_, wildcards_;
  std::string all_;
  size_t at_ = 0;
};

}  // namespace

void AddressCheck::Start(asio::io_context& io, const TlsSession::Hosts& hosts,
                         const asio::ip::address& remote, Done done) {
  const asio::ip::address address = Plain(remote);
  for (const std::string& text : hosts.addresses) {
    error_code ec;
    if (asio::ip::make_address(text, ec) == address && !ec) return done(absl::OkStatus());
  }
  if (hosts.names.empty()) {
    return done(absl::UnavailableError(base::StrCat("x509: certificate is valid for ",
                                                    absl::StrJoin(hosts.addresses, ", "), ", not ",
                                                    address.to_string())));
  }
  std::make_shared<Lookup>(io, hosts, address, std::move(done))->Next();
}

}  // namespace kvd::net
