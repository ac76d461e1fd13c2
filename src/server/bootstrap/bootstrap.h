// How a member starts: forms a new cluster, joins a running one, or goes on with the data it has. Decided
// from the settings, the data directory and what the peers say, with etcd's rules and messages.
//
// Thread-safety: functions of their arguments; they block on the disk and the network, so they run at the
// start of the process, before its threads. Errors: kFailedPrecondition and kInvalidArgument carry the one
// line that the process ends with; kUnavailable and kPermissionDenied those of the file system; kCancelled:
// the process was asked to stop. A start that ends with an error leaves the data directory as it was.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "net/dns/dns_client.h"
#include "server/config/config.h"
#include "server/membership/member.h"
#include "server/membership/version.h"

namespace kvd::base {
class FileSystem;
}  // namespace kvd::base

namespace kvd::server {

class DiscoveryService;  // server/bootstrap/discovery.h

enum class StartMode {
  kNew,      // the log starts with one "add" per member; every member starts with the same ones
  kJoin,     // empty log: the leader sends what is missing
  kRestart,  // the log and the database say everything
};

struct BootstrapResult {
  StartMode mode = StartMode::kNew;
  std::string name;
  // Not with kRestart: the log's metadata has them.
  uint64_t local_id = 0;
  uint64_t cluster_id = 0;
  // kNew: the members of the new cluster, sorted by ID, the entries' contexts being MemberToJson of each. DNS
  // does not tell their names, which are then empty.
  // kJoin: the members of the running cluster, this one among them. kRestart: empty.
  std::vector<Member> members;
  // kRestart: there is a log and no database. Good only if the log holds every entry from the first on (the
  // process ended while it started for the first time); otherwise the start ends with BackendMissing.
  bool backend_missing = false;
};

// What another member says about the cluster.
struct RemoteCluster {
  uint64_t cluster_id = 0;
  std::vector<Member> members;
};

// What a bootstrap asks of the world; a test gives its own.
struct BootstrapSeams {
  base::FileSystem* fs = nullptr;
  // Whether there is a log in that directory.
  std::function<absl::StatusOr<bool>(const std::string& dir)> log_exists;
  // GET /members of the first of these peer URLs that answers, each within `timeout`.
  std::function<absl::StatusOr<RemoteCluster>(const std::vector<std::string>& peer_urls, Duration timeout)>
      fetch_cluster;
  // The cluster version that GET /version says at one of these URLs of one member; none if not decided yet.
  std::function<absl::StatusOr<std::optional<Version>>(const std::vector<std::string>& peer_urls,
                                                       Duration timeout)>
      fetch_version;
  // The addresses of a host name, sorted.
  std::function<absl::StatusOr<std::vector<std::string>>(const std::string& host)> resolve;
  // The SRV records of "_service._proto.domain".
  std::function<absl::StatusOr<std::vector<net::SrvRecord>>(const std::string& name)> services;
  // The token that the settings name, at its discovery service.
  std::function<std::unique_ptr<DiscoveryService>(const Config& config)> discovery;
  std::function<absl::Status(Duration)> pause;
};
// The machine's file system, the network, the system's resolver or the DNS servers that the settings name.
// What waits ends with kCancelled once `interrupt_fd` is readable (-1: never). Borrows the settings.
absl::StatusOr<BootstrapSeams> SystemBootstrapSeams(const Config& config, int interrupt_fd = -1);

// Makes the data directory usable and decides. REQUIRES: Validate(config).
absl::StatusOr<BootstrapResult> Bootstrap(const Config& config, const BootstrapSeams& seams);

// The directories of a member on the disk. Borrows its arguments.
class DataDir {
 public:
  DataDir(const Config& config, base::FileSystem& fs) : config_(config), fs_(fs) {}

  // Creates what is missing (mode 0700), checks that it can be written, and warns of what does not belong
  // there. Once.
  absl::Status Prepare();
  // Removes what Prepare has created, as long as it is empty.
  void Undo();

 private:
  absl::Status Create(const std::string& dir);

  const Config& config_;
  base::FileSystem& fs_;
  std::vector<std::string> created_;  // outermost first
};

// On a restart: whether the log found in the data directory is this member's. `local_id` and `cluster_id` are
// the log's, `members` those of the database. kFailedPrecondition if the settings say that it is another
// member's.
absl::Status CheckIdentity(const Config& config, uint64_t local_id, uint64_t cluster_id,
                           const std::vector<Member>& members);

absl::Status BackendMissing(const Config& config);

// The members that --initial-cluster names, with the IDs of a new cluster. Errors: two members with the same
// ID.
absl::StatusOr<std::vector<Member>> InitialMembers(const Config& config);

}  // namespace kvd::server
