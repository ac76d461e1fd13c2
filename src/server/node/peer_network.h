// The other members as a node sees them: somebody to send raft messages and snapshots to, and to ask small
// things of. PeerLink is the one of the process (etcd's peer protocol on sockets); a simulated cluster has
// its own.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "server/node/raft_transport.h"

namespace kvd::server {

// A request to one member over its peer URL, and what it answered.
struct PeerRequest {
  std::string method = "GET";
  std::string path;
  std::string body;
  base::Nanos timeout = std::chrono::seconds(5);
};
struct PeerAnswer {
  int status = 200;
  std::string body;
};

// Thread-safety: every method from any thread; none blocks.
class PeerNetwork : public RaftTransport {
 public:
  using Done = absl::AnyInvocable<void(absl::StatusOr<PeerAnswer>)>;

  virtual void AddPeer(uint64_t id, std::vector<std::string> urls) = 0;
  virtual void UpdatePeer(uint64_t id, std::vector<std::string> urls) = 0;
  virtual void RemovePeer(uint64_t id) = 0;
  // Monotonic time since when the peer has been reachable; nothing if it is not.
  virtual std::optional<base::Nanos> ActiveSince(uint64_t id) const = 0;
  // Tries the URLs in turn; `done` runs on a thread of the network.
  virtual void Ask(std::vector<std::string> urls, PeerRequest request, Done done) = 0;
};

// What comes from the other members. Called on a thread of the network; must not block.
class PeerReceiver {
 public:
  using Respond = absl::AnyInvocable<void(PeerAnswer)>;
  // A snapshot to send, made for a MsgSnap of the core: the message with what the file really holds.
  struct SnapshotFile {
    raft::Message message;
    std::string path;
    uint64_t size_bytes = 0;
  };

  virtual ~PeerReceiver() = default;
  virtual void OnMessages(std::vector<raft::Message> messages) = 0;
  virtual void OnUnreachable(uint64_t id) = 0;
  virtual void OnSnapshotSent(uint64_t id, bool ok) = 0;
  // This member has been removed from the cluster, a peer says.
  virtual void OnRemoved() = 0;
  // A peer says that it belongs to another cluster. May come often.
  virtual void OnClusterMismatch(uint64_t) {}
  virtual bool IsIdRemoved(uint64_t id) = 0;
  // Makes the file for `message`, on a background thread; it is removed by DropSnapshot.
  virtual void MakeSnapshot(raft::Message message,
                            absl::AnyInvocable<void(absl::StatusOr<SnapshotFile>)> done) = 0;
  virtual void DropSnapshot(const std::string& path) = 0;
  // Where a snapshot that is coming in is written, and, once it is whole and synced there, its adoption.
  // `done` gets OK when the message has been given to the core.
  virtual std::string IncomingSnapshotPath() = 0;
  virtual void AdoptSnapshot(raft::Message message, const std::string& path,
                             absl::AnyInvocable<void(absl::Status)> done) = 0;
  // A request of a member, or of an operator, on the peer port. The paths are those of PeerPaths().
  virtual void OnRequest(const PeerRequest& request, Respond respond) = 0;
};

}  // namespace kvd::server
