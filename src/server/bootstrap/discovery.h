// How the first members of a new cluster find one another through a discovery service: each registers under
// one token, waits until as many have come as the token's size says, and takes those (ETCD: the v2 protocol
// of server/etcdserver/api/v2discovery and the v3 keys of v3discovery). The two protocols differ in how the
// service is spoken to, which DiscoveryService hides; the rules are the same. Private to server/bootstrap.
//
// Thread-safety: thread-compatible; everything blocks.
// Errors: kUnavailable is worth another try; anything else ends the start, its text being the one line of it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/config/config.h"

namespace kvd::net {
class BlockingLoop;
class TlsContext;
}  // namespace kvd::net

namespace kvd::server {

// One token at a service.
class DiscoveryService {
 public:
  struct Entry {
    std::string id;     // of the member, hexadecimal
    std::string value;  // "name=url,name=url2"
    uint64_t created = 0;

    friend bool operator==(const Entry&, const Entry&) = default;
  };
  struct Listing {
    std::vector<Entry> entries;
    uint64_t index = 0;  // the service's state that it shows
  };

  virtual ~DiscoveryService() = default;
  // Its address, for the log.
  virtual std::string Name() const = 0;
  // The text of the token's size. kNotFound: there is none.
  virtual absl::StatusOr<std::string> Size() = 0;
  virtual absl::StatusOr<Listing> List() = 0;
  // kAlreadyExists: there is an entry of this ID.
  virtual absl::Status Register(const std::string& id, const std::string& value) = 0;
  // Whether an entry of this ID and value that was there before is this member's, from an earlier start.
  virtual bool Reclaims() const = 0;
  // Waits for a registration after the listing of that index. OK also if none has come for a while.
  virtual absl::Status AwaitChange(uint64_t index) = 0;
};

using Pause = std::function<absl::Status(Duration)>;

// The first members, in the order of their registration, this one among them. Waits for them as long as it
// takes; a service that has answered once is asked again for good, one that never has is given up after a
// few minutes.
absl::StatusOr<std::vector<DiscoveryService::Entry>> JoinDiscovery(DiscoveryService& service,
                                                                   const std::string& id,
                                                                   const std::string& value,
                                                                   const Pause& pause);

using DiscoveryTlsPtr = std::shared_ptr<const net::TlsContext>;  // null: no service of https can be asked

// The service that the settings ask for. REQUIRES: config.ShouldDiscover(). Borrows config and loop.
std::unique_ptr<DiscoveryService> NewDiscoveryService(const Config& config, net::BlockingLoop& loop,
                                                      DiscoveryTlsPtr tls);
std::unique_ptr<DiscoveryService> NewV2Discovery(const Config& config, net::BlockingLoop& loop,
                                                 DiscoveryTlsPtr tls = nullptr);
std::unique_ptr<DiscoveryService> NewV3Discovery(const Config& config, net::BlockingLoop& loop,
                                                 DiscoveryTlsPtr tls = nullptr);

}  // namespace kvd::server
