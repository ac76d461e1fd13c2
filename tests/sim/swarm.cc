#include "swarm.h"

#include <array>

#include "absl/strings/str_cat.h"

namespace kvd::sim {
namespace {

using base::Nanos;
using std::chrono::milliseconds;
using std::chrono::seconds;

class Draw {
 public:
  explicit Draw(uint64_t seed) : random_(base::Random(seed).Split("swarm")) {}
  template <typename T, size_t N>
  T One(const std::array<T, N>& choices) {
    return choices[random_.Below(N)];
  }
  bool Chance(double p) { return random_.Chance(p); }
  // Off in half of the runs.
  Nanos Rate() {
    static constexpr std::array<int, 4> kSeconds = {1, 3, 5, 10};
    return Chance(0.5) ? Nanos(0) : Nanos(seconds(One(kSeconds)));
  }
  uint64_t Below(uint64_t n) { return random_.Below(n); }

 private:
  base::Random random_;
};

}  // namespace

Swarm DrawSwarm(uint64_t seed) {
  Draw draw(seed);
  Swarm s;
  s.seed = seed;
  SimCluster::Options& c = s.cluster;
  c.seed = seed;
  c.members = draw.One(std::array<size_t, 11>{1, 2, 3, 3, 3, 3, 4, 5, 5, 6, 7});
  c.loss = draw.One(std::array<double, 6>{0, 0, 0.01, 0.02, 0.05, 0.2});
  c.duplicate = draw.One(std::array<double, 4>{0, 0, 0.01, 0.1});
  c.node.heartbeat = milliseconds(draw.One(std::array<int, 4>{20, 50, 100, 100}));
  c.node.election_ticks = draw.One(std::array<int, 4>{3, 5, 10, 10});
  c.max_delay = milliseconds(draw.One(std::array<int, 4>{1, 5, 20, 50}));
  if (c.max_delay * 6 > s.election()) c.max_delay = s.election() / 6;
  c.min_delay = draw.Chance(0.5) ? Nanos(0) : c.max_delay / 4;
  c.node.snapshot_count = draw.One(std::array<uint64_t, 4>{10, 50, 200, 10'000});
  c.node.snapshot_catchup_entries = draw.One(std::array<uint64_t, 4>{1, 10, 100, 5000});
  c.node.lease_checkpoints = draw.Chance(0.3);
  c.node.strict_reconfig_check = draw.Chance(0.8);
  c.node.watch_progress_interval = draw.Chance(0.5) ? Nanos(milliseconds(300)) : Nanos(seconds(600));
  server::NodeLimits& limits = c.node.limits;
  limits.snapshot_point_every = draw.One(std::array<uint64_t, 3>{1, 20, 500});
  limits.trim_every = draw.One(std::array<uint64_t, 3>{5, 50, 1000});
  limits.max_message_bytes = draw.One(std::array<uint64_t, 4>{1, 200, 4096, 1 << 20});
  limits.max_inflight_messages = draw.One(std::array<size_t, 4>{1, 2, 8, 512});
  limits.max_uncommitted_bytes = draw.One(std::array<uint64_t, 3>{300, 64 << 20, 64 << 20});
  limits.max_apply_bytes = draw.One(std::array<uint64_t, 3>{100, 64 << 20, 64 << 20});
  limits.watch_queue_bytes = draw.One(std::array<size_t, 3>{100, 2000, 4 << 20});
  limits.watch_slice_events = draw.One(std::array<size_t, 3>{1, 5, 1000});
  limits.watch_backlog_bytes = draw.One(std::array<size_t, 3>{500, 64 << 20, 64 << 20});
  limits.lease_checkpoint_interval = milliseconds(500);
  c.flush_every_batches = draw.One(std::array<uint64_t, 4>{1, 5, 50, 1000});
  c.wal_segment_bytes = draw.One(std::array<uint64_t, 3>{8192, 65536, 64'000'000});
  c.max_wals = draw.One(std::array<uint32_t, 2>{1, 5});
  c.log_latency.max = milliseconds(draw.One(std::array<int, 4>{0, 1, 5, 20}));
  if (c.log_latency.max * 6 > s.election()) c.log_latency.max = s.election() / 6;
  c.other_latency.max = std::chrono::microseconds(draw.One(std::array<int, 3>{0, 100, 2000}));
  c.max_drift = draw.One(std::array<double, 4>{0, 0, 0.01, 0.1});

  s.duration = seconds(draw.One(std::array<int, 3>{5, 15, 30}));
  s.clients = draw.One(std::array<size_t, 4>{1, 3, 5, 10});
  s.think = milliseconds(draw.One(std::array<int, 4>{1, 10, 50, 200}));
  s.keys = draw.One(std::array<size_t, 4>{1, 3, 10, 50});
  s.value_bytes = draw.One(std::array<size_t, 3>{0, 100, 3000});
  s.registers_only = draw.Chance(0.15);
  if (s.registers_only) {
    s.max_ops = 150;
    s.clients = draw.One(std::array<size_t, 3>{2, 3, 5});
    s.think = milliseconds(draw.One(std::array<int, 2>{5, 100}));
    s.keys = draw.One(std::array<size_t, 2>{1, 3});
  }
  s.watchers = draw.One(std::array<size_t, 4>{0, 2, 5, 10});
  s.compact_share = draw.One(std::array<double, 3>{0, 0.01, 0.1});
  s.lease_share = draw.One(std::array<double, 3>{0, 0.1, 0.4});

  bool quiet = draw.Chance(0.1);  // no faults at all
  if (!quiet) {
    s.crash_every = draw.Rate();
    s.crash_at_op_every = draw.Rate();
    s.kill_every = draw.Rate();
    s.pause_every = draw.Rate();
    s.partition_every = draw.Rate();
    s.cut_link_every = draw.Rate();
    s.stall_every = draw.Rate();
    s.full_disk_every = draw.Rate();
    s.transfer_every = draw.Rate();
    s.bad_network_every = draw.Rate();
    if (draw.Chance(0.4)) s.member_change_every = draw.Rate();
  } else {
    c.loss = c.duplicate = 0;
  }
  s.buggify = draw.Chance(0.6);
  if (!quiet) {
    s.sync_failure_every = draw.Rate();
    s.clock_change_every = draw.Rate();
    s.hasty_changes = draw.Chance(0.3);
  }
  if (s.member_change_every.count() > 0) {
    c.spare = 3;
  } else if (!quiet && c.members > 2 && draw.Chance(0.3)) {
    s.bad_disk_every = draw.Rate();
    c.spare = c.members / 2;
  }
  s.down_for = milliseconds(draw.One(std::array<int, 4>{50, 500, 3000, 10000}));
  if (quiet) return s;
  if (draw.Chance(0.1)) {
    // Elections that overlap, and members that come back in the middle of them.
    c.members = draw.One(std::array<size_t, 3>{3, 4, 5});
    if (s.bad_disk_every.count() > 0) c.spare = c.members / 2;
    c.node.election_ticks = 3;
    c.node.heartbeat = milliseconds(50);
    c.min_delay = Nanos(0);
    c.max_delay = milliseconds(draw.One(std::array<int, 2>{40, 70}));
    c.log_latency.max = milliseconds(20);
    s.crash_every = s.kill_every = milliseconds(draw.One(std::array<int, 2>{200, 600}));
    s.pause_every = seconds(1);
    s.down_for = milliseconds(draw.One(std::array<int, 2>{20, 200}));
  } else if (draw.Chance(0.12)) {
    // Leases under leaders that come and go.
    s.registers_only = false;
    s.lease_share = 0.6;
    s.clients = 10;
    s.think = milliseconds(20);
    s.max_ops = 3000;
    c.node.heartbeat = milliseconds(20);
    c.node.election_ticks = 3;
    c.min_delay = Nanos(0);
    c.max_delay = milliseconds(5);
    c.log_latency.max = milliseconds(1);
    c.max_drift = 0;
    if (draw.Chance(0.7)) {
      // Leaders that pause while their leases are renewed, and nothing else.
      c.members = 3;
      c.spare = 0;
      c.loss = 0;
      s.duration = seconds(30);
      s.think = milliseconds(5);
      s.partition_every = s.cut_link_every = s.transfer_every = Nanos(0);
      s.bad_disk_every = s.member_change_every = Nanos(0);
      s.crash_every = s.crash_at_op_every = s.kill_every = s.stall_every = s.full_disk_every = Nanos(0);
      s.sync_failure_every = s.clock_change_every = s.bad_network_every = Nanos(0);
    }
    s.pause_every = milliseconds(700);
    if (s.kill_every.count() > 0) s.partition_every = seconds(1);
  } else if (draw.Chance(0.15)) {
    // Members that are back before the answers to their last questions.
    c.members = 3;
    c.spare = 0;
    s.bad_disk_every = s.member_change_every = Nanos(0);
    c.node.election_ticks = 3;
    c.node.heartbeat = milliseconds(50);
    c.min_delay = Nanos(0);
    c.max_delay = milliseconds(70);
    c.log_latency.max = milliseconds(1);
    c.loss = 0;
    s.crash_every = s.crash_at_op_every = s.stall_every = s.full_disk_every = s.sync_failure_every = Nanos(0);
    s.partition_every = s.cut_link_every = s.transfer_every = s.pause_every = s.bad_network_every = Nanos(0);
    s.kill_every = milliseconds(250);
    s.down_for = milliseconds(1);
    s.registers_only = true;
    s.max_ops = 400;
    s.clients = 5;
    s.think = milliseconds(5);
    s.keys = 1;
  }
  return s;
}

std::string Swarm::Describe() const {
  auto ms = [](Nanos t) { return t.count() / 1'000'000; };
  const server::NodeOptions& n = cluster.node;
  return absl::StrCat(
      "members ", cluster.members, ", tick ", ms(n.heartbeat), " ms, election ", n.election_ticks,
      " ticks, loss ", cluster.loss, ", delay ", ms(cluster.max_delay), " ms, snapshot count ",
      n.snapshot_count, ", catch-up ", n.snapshot_catchup_entries, ", flush every ",
      cluster.flush_every_batches, ", segment ", cluster.wal_segment_bytes, ", drift ", cluster.max_drift,
      ", clients ", clients, ", keys ", keys, ", ", ms(duration), " ms; every (ms): crash ", ms(crash_every),
      ", in an operation ", ms(crash_at_op_every), ", kill ", ms(kill_every), ", pause ", ms(pause_every),
      ", partition ", ms(partition_every), ", cut ", ms(cut_link_every), ", stall ", ms(stall_every),
      ", full disk ", ms(full_disk_every), ", sync failure ", ms(sync_failure_every), ", clock ",
      ms(clock_change_every), ", bad disk ", ms(bad_disk_every), ", transfer ", ms(transfer_every),
      ", membership ", ms(member_change_every), ", bad network ", ms(bad_network_every),
      buggify ? "; buggify" : "");
}

}  // namespace kvd::sim
