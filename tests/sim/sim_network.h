// The network of one simulated member. Every message takes its own time, so messages overtake one another.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sim_cluster.h"

namespace kvd::sim {

class SimCluster::Network final : public server::PeerNetwork {
 public:
  Network(SimCluster& cluster, size_t self) : cluster_(cluster), self_(self) {}

  void Send(std::vector<raft::Message> messages) override;
  void AddPeer(uint64_t, std::vector<std::string>) override {}
  void UpdatePeer(uint64_t, std::vector<std::string>) override {}
  void RemovePeer(uint64_t) override {}
  std::optional<base::Nanos> ActiveSince(uint64_t id) const override;
  void Ask(std::vector<std::string> urls, server::PeerRequest request, Done done) override;

 private:
  // True if the process that was there in `life` still is.
  bool Same(size_t member, uint64_t life) const {
    return cluster_.alive(member) && cluster_.members_[member].life == life;
  }
  void Later(base::Task task);
  void Deliver(size_t to, raft::Message message);
  void SendSnapshot(size_t to, raft::Message message);
  void TransferSnapshot(size_t to, server::PeerReceiver::SnapshotFile file);

  SimCluster& cluster_;
  const size_t self_;
};

}  // namespace kvd::sim
