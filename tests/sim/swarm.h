// The options of one run, drawn from its seed: a run that does everything hides the bugs that need one thing
// done often, so each run has its own mixture, faults that are off included.
#pragma once

#include <cstdint>
#include <string>

#include "sim_cluster.h"

namespace kvd::sim {

struct Swarm {
  uint64_t seed = 1;
  SimCluster::Options cluster;
  base::Nanos duration = std::chrono::seconds(20);  // of the phase with faults

  // The load.
  size_t clients = 4;
  base::Nanos think = std::chrono::milliseconds(20);  // on average, between two requests of a client
  size_t keys = 10;
  size_t value_bytes = 10;
  size_t max_ops = 3000;
  // Only what the general checker of linearizability can follow.
  bool registers_only = false;
  size_t watchers = 3;
  double compact_share = 0;
  double lease_share = 0;

  // Average time between two of a kind; zero: none.
  base::Nanos crash_every{0};
  base::Nanos crash_at_op_every{0};
  base::Nanos kill_every{0};
  base::Nanos pause_every{0};
  base::Nanos partition_every{0};
  base::Nanos cut_link_every{0};
  base::Nanos stall_every{0};
  base::Nanos full_disk_every{0};
  base::Nanos sync_failure_every{0};
  base::Nanos clock_change_every{0};
  // Only on fewer members than half, so that whatever was committed is still held by somebody.
  base::Nanos bad_disk_every{0};
  base::Nanos transfer_every{0};
  base::Nanos member_change_every{0};
  base::Nanos bad_network_every{0};
  // Two changes of the membership or of the leader at a time.
  bool hasty_changes = false;
  // Code sites do the unusual (base/sites.h).
  bool buggify = false;
  base::Nanos down_for = std::chrono::seconds(3);  // at most

  base::Nanos election() const { return cluster.node.heartbeat * cluster.node.election_ticks; }
  std::string Describe() const;
};

Swarm DrawSwarm(uint64_t seed);

}  // namespace kvd::sim
