#include "sim_network.h"

#include "base/check.h"
#include "raft_checker.h"

namespace kvd::sim {

using server::PeerReceiver;

void SimCluster::Network::Later(base::Task task) {
  auto spread = static_cast<uint64_t>((cluster_.max_delay_ - cluster_.min_delay_).count());
  base::Nanos delay = cluster_.min_delay_ + base::Nanos(cluster_.network_random_.Below(spread + 1) + 1);
  cluster_.wire_->PostAfter(delay, std::move(task));
}

void SimCluster::Network::Send(std::vector<raft::Message> messages) {
  if (!cluster_.alive(self_)) return;
  base::Random& random = cluster_.network_random_;
  for (raft::Message& message : messages) {
    if (cluster_.options_.checker != nullptr) cluster_.options_.checker->OnSend(message);
    std::optional<size_t> to = cluster_.SlotOf(message.to);
    if (!to) continue;
    if (message.type == raft::MessageType::kSnap) {
      SendSnapshot(*to, std::move(message));
      continue;
    }
    if (cluster_.Cut(self_, *to) || random.Chance(cluster_.loss_)) {
      // A sender often learns of it, and not always.
      if (random.Chance(0.2)) cluster_.node(self_).OnUnreachable(message.to);
      continue;
    }
    bool again = message.type != raft::MessageType::kProp && random.Chance(cluster_.duplicate_);
    if (again) Deliver(*to, message);
    Deliver(*to, std::move(message));
  }
}

void SimCluster::Network::Deliver(size_t to, raft::Message message) {
  Later([this, to, message = std::move(message)]() mutable {
    if (!cluster_.alive(to) || cluster_.Cut(self_, to) || cluster_.members_[to].id != message.to) return;
    std::vector<raft::Message> one;
    one.push_back(std::move(message));
    cluster_.node(to).OnMessages(std::move(one));
  });
}

std::optional<base::Nanos> SimCluster::Network::ActiveSince(uint64_t id) const {
  std::optional<size_t> slot = cluster_.SlotOf(id);
  if (!slot || !cluster_.alive(*slot) || cluster_.Cut(self_, *slot) || cluster_.Cut(*slot, self_))
    return std::nullopt;
  return base::Nanos(1);
}

void SimCluster::Network::Ask(std::vector<std::string> urls, server::PeerRequest request, Done done) {
  size_t to = 0;
  while (to < cluster_.members_.size() && cluster_.members_[to].peer_urls != urls) ++to;
  if (to == cluster_.members_.size()) return done(absl::UnavailableError("nobody there"));
  uint64_t asker = cluster_.life(self_);
  // The answer, or the word that there will be none, finds its way back if the asker is still there.
  auto back = [this, asker,
               done = std::make_shared<Done>(std::move(done))](absl::StatusOr<server::PeerAnswer> answer) {
    Later([this, asker, done, answer = std::move(answer)]() mutable {
      if (Same(self_, asker)) (*done)(std::move(answer));
    });
  };
  base::Random& random = cluster_.network_random_;
  if (cluster_.Cut(self_, to) || random.Chance(cluster_.loss_))
    return back(absl::UnavailableError("cut off"));
  Later([this, to, request = std::move(request), back]() mutable {
    if (!cluster_.alive(to) || cluster_.Cut(self_, to)) return back(absl::UnavailableError("not there"));
    cluster_.node(to).OnRequest(request, [this, to, back](server::PeerAnswer answer) mutable {
      if (!cluster_.alive(to) || cluster_.Cut(to, self_)) return back(absl::UnavailableError("cut off"));
      back(std::move(answer));
    });
  });
}

void SimCluster::Network::SendSnapshot(size_t to, raft::Message message) {
  uint64_t id = message.to;
  cluster_.node(self_).MakeSnapshot(std::move(message),
                                    [this, to, id](absl::StatusOr<PeerReceiver::SnapshotFile> file) {
                                      if (!file.ok()) return cluster_.node(self_).OnSnapshotSent(id, false);
                                      uint64_t life = cluster_.life(self_);
                                      Later([this, to, life, file = *std::move(file)]() mutable {
                                        if (Same(self_, life)) TransferSnapshot(to, std::move(file));
                                      });
                                    });
}

// The file of one member's disk becomes a file of the other's.
void SimCluster::Network::TransferSnapshot(size_t to, PeerReceiver::SnapshotFile file) {
  server::Node& sender = cluster_.node(self_);
  uint64_t id = file.message.to;
  if (!cluster_.alive(to) || cluster_.Cut(self_, to) || cluster_.members_[to].id != id ||
      cluster_.network_random_.Chance(cluster_.loss_)) {
    sender.DropSnapshot(file.path);
    return sender.OnSnapshotSent(id, false);
  }
  absl::StatusOr<std::string> bytes = base::ReadFile(*cluster_.members_[self_].fs, file.path);
  KVD_CHECK(bytes.ok(), "a snapshot that was made can be read");
  sender.DropSnapshot(file.path);
  std::string path = cluster_.node(to).IncomingSnapshotPath();
  absl::Status written = base::WriteFileAtomically(*cluster_.members_[to].fs, path, *bytes);
  if (!written.ok()) return sender.OnSnapshotSent(id, false);
  uint64_t life = cluster_.life(self_);
  cluster_.node(to).AdoptSnapshot(std::move(file.message), path, [this, id, life](absl::Status adopted) {
    Later([this, id, life, ok = adopted.ok()] {
      if (Same(self_, life)) cluster_.node(self_).OnSnapshotSent(id, ok);
    });
  });
}

}  // namespace kvd::sim
