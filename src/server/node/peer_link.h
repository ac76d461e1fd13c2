// The PeerNetwork of the process: etcd's peer protocol over sockets (net/peer/peer_transport.h), and the port
// on which the other members reach this one.
//
// Thread-safety: as PeerNetwork; Listen and Start before the driver starts. Ownership: borrows the receiver,
// the I/O thread and the executor for file work; Stop() before any of them goes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/node/peer_network.h"

namespace kvd::base {
class Executor;
class FileSystem;
}  // namespace kvd::base
namespace kvd::net {
class IoThread;
class TlsContext;
}  // namespace kvd::net

namespace kvd::server {

class PeerLink final : public PeerNetwork {
 public:
  struct Options {
    uint64_t member_id = 0;
    uint64_t cluster_id = 0;
    std::string server_version;
    std::vector<std::string> peer_urls;
    base::Nanos read_timeout = std::chrono::seconds(5);
    base::Nanos write_timeout = std::chrono::seconds(5);
    std::shared_ptr<const net::TlsContext> tls;  // for URLs of https; null: there are none
    bool check_client_address = true;            // a peer's certificate must be for where it connects from
  };

  PeerLink(const Options& options, net::IoThread& io, base::FileSystem& fs, base::Executor& files);
  ~PeerLink() override;

  // Once, before Listen.
  void SetReceiver(PeerReceiver* receiver);
  absl::StatusOr<uint16_t> Listen(std::string_view host, uint16_t port, bool secure = false);
  void Stop();

  void Send(std::vector<raft::Message> messages) override;
  void AddPeer(uint64_t id, std::vector<std::string> urls) override;
  void UpdatePeer(uint64_t id, std::vector<std::string> urls) override;
  void RemovePeer(uint64_t id) override;
  std::optional<base::Nanos> ActiveSince(uint64_t id) const override;
  void Ask(std::vector<std::string> urls, PeerRequest request, Done done) override;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvd::server
