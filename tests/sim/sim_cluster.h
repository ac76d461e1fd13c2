// Whole members (real core, log, store, leases, watches) on one seeded scheduler, with file systems in memory
// that lose and tear what was not synced and fill up, engines that roll back to their last flush, clocks that
// drift, threads that stall, and a network that delays, drops, repeats, reorders and cuts.
//
// A member dies between two tasks (Kill, Crash) or in the middle of one (CrashAtOp): then what it does until
// the task ends reaches neither its disk nor anybody else.
//
// Thread-compatible.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/mem_file_system.h"
#include "base/random.h"
#include "base/sim_executor.h"
#include "member_executor.h"
#include "raft/trace.h"
#include "server/node/node.h"
#include "storage/engine.h"
#include "storage/store.h"
#include "wal/wal.h"

namespace kvd::sim {

class RaftChecker;

// Puts something around the engine of a member, to look on.
using EngineWrapper =
    std::function<std::unique_ptr<storage::Engine>(size_t member, std::unique_ptr<storage::Engine>)>;

class SimCluster {
 public:
  struct Options {
    size_t members = 3;
    size_t spare = 0;  // slots for members that join later
    uint64_t seed = 1;
    double loss = 0.0;       // of messages
    double duplicate = 0.0;  // of messages other than proposals, which a stream delivers once
    base::Nanos min_delay{0};
    base::Nanos max_delay = std::chrono::milliseconds(5);
    server::NodeOptions node = DefaultNode();
    uint64_t flush_every_batches = 50;  // of the engine
    uint64_t wal_segment_bytes = 64'000'000;
    uint32_t max_wals = 5;
    Latency log_latency = {};    // of the log's thread: the disk
    Latency other_latency = {};  // of every other thread
    double max_drift = 0.0;      // clocks run between 1 - this and 1 + this
    EngineWrapper wrap_engine = nullptr;
    RaftChecker* checker = nullptr;  // sees every core and what it says; borrowed
  };
  explicit SimCluster(const Options& options);
  ~SimCluster();

  base::SimScheduler& scheduler() { return scheduler_; }
  base::Random& random() { return random_; }
  size_t size() const { return members_.size(); }
  bool alive(size_t i) const { return members_[i].node != nullptr && !members_[i].dying; }
  bool booted(size_t i) const { return members_[i].created; }  // has, or had, a data directory
  bool removed(size_t i) const { return members_[i].removed; }
  // Moves on whenever the process of the member starts or ends.
  uint64_t life(size_t i) const { return members_[i].life; }
  server::Node& node(size_t i) { return *members_[i].node; }
  uint64_t id(size_t i) const { return members_[i].id; }
  base::Executor& wire() { return *wire_; }

  // Called before the process of a member ends.
  void SetOnTearDown(std::function<void(size_t)> hook) { on_tear_down_ = std::move(hook); }
  // Called when a member stops because its disk has failed.
  void SetOnDiskFailure(std::function<void(size_t)> hook) { on_disk_failure_ = std::move(hook); }

  // The member that leads and that a majority of those alive follow; nothing if there is none.
  std::optional<size_t> Leader();
  bool WaitForLeader();
  // Runs one task, and buries those that died in it. False if nothing is left to do.
  bool Step();
  void RunFor(base::Nanos duration) { scheduler_.RunFor(duration); }
  bool RunUntil(const std::function<bool()>& done, base::Nanos limit = std::chrono::seconds(30)) {
    return scheduler_.RunUntil(done, limit);
  }

  // Power loss: the process is gone, and with it what was not synced.
  void Crash(size_t i);
  void Crash(size_t i, const base::MemFileSystem::CrashOptions& crash);
  // Power loss at the n-th operation on the file system from now (n >= 1), also in the middle of a task.
  void CrashAtOp(size_t i, uint64_t n, const base::MemFileSystem::CrashOptions& crash);
  // The process is gone; the disk keeps everything written.
  void Kill(size_t i);
  void Restart(size_t i);
  // Errors: what opening the member's disk gives.
  absl::Status TryRestart(size_t i);
  // Gives slot `i` the ID of a member that joins now; the member itself starts with BootJoined.
  server::Member Joining(size_t i, bool learner);
  absl::Status BootJoined(size_t i, std::vector<server::Member> members);

  // A member that is cut off neither sends nor receives.
  void Isolate(size_t i, bool cut) { cut ? (void)isolated_.insert(i) : (void)isolated_.erase(i); }
  // Messages from one to the other are lost.
  void CutLink(size_t from, size_t to, bool cut) {
    cut ? (void)cut_.insert({from, to}) : (void)cut_.erase({from, to});
  }
  void SetNetwork(double loss, double duplicate, base::Nanos min_delay, base::Nanos max_delay);
  void Pause(size_t i, base::Nanos duration);
  // From now on; the log of a member, or its other threads.
  void SetLogLatency(size_t i, const Latency& latency) { *members_[i].log_latency = latency; }
  // Bytes that still fit; nothing: no limit.
  void SetDiskRoom(size_t i, std::optional<uint64_t> bytes);
  // Flips a bit in the synced part of the last segment of the log of a member that is down. False if there is
  // none.
  bool RotLog(size_t i);
  // The n-th sync from now fails (n >= 1): what it should have made durable reads back, and is lost with the
  // power.
  void FailSync(size_t i, uint64_t n) { members_[i].sync_fails_in = n; }
  // From now on the disk says that it has synced, and has not.
  void LieAboutSync(size_t i, bool lies);
  // A file of the log of a member that is down cannot be read any more. False if there is none.
  bool LoseLogFile(size_t i);
  // True once after an operation on the disk of a member has been made to fail.
  bool TakeInjected(size_t i) { return std::exchange(members_[i].injected, false); }
  // Its disk may have lied at some time, so it may come back with less than it has promised.
  bool disk_has_lied(size_t i) const { return members_[i].disk_has_lied; }
  // From now on.
  void SetClockRate(size_t i, double rate) {
    members_[i].time->SetRate(scheduler_.clock().Monotonic(), rate);
  }
  void JumpWallClock(size_t i, base::Nanos by) { members_[i].time->wall_offset += by; }
  // Ends every fault of network, disk and clock rate; members that are down stay down.
  void Heal();

  // Proposes a put on member `i`; `*done` becomes the outcome.
  struct Result {
    bool finished = false;
    server::ApplyOutcome outcome;
  };
  std::shared_ptr<Result> Put(size_t i, const std::string& key, const std::string& value, int64_t lease = 0);
  std::shared_ptr<Result> Propose(size_t i, server::RequestField field, const std::string& request);
  // What a linearizable read of the key on member `i` gives.
  struct ReadResult {
    bool finished = false;
    server::Error error = server::Error::kOk;
    bool found = false;
    std::string value;
  };
  std::shared_ptr<ReadResult> Get(size_t i, const std::string& key);

  // All members alive have applied the same and hold the same.
  bool Converged();

 private:
  class Network;
  struct MemberState {
    uint64_t id = 0;
    std::vector<std::string> peer_urls;
    std::unique_ptr<base::MemFileSystem> fs;
    std::map<std::string, std::shared_ptr<storage::ModelDisk>> engines;
    std::unique_ptr<MemberTime> time;
    std::unique_ptr<MemberClock> clock;
    std::unique_ptr<Latency> log_latency;
    std::unique_ptr<Latency> other_latency;
    std::vector<std::unique_ptr<base::Executor>> executors;
    std::unique_ptr<Network> network;
    std::unique_ptr<server::MemberDisk> disk;
    std::unique_ptr<server::Node> node;
    uint64_t life = 0;
    bool created = false;
    bool removed = false;
    // Died in the middle of a task: nothing it does counts, and this is what its disk holds.
    bool dying = false;
    std::unique_ptr<base::MemFileSystem> after_crash;
    std::unique_ptr<raft::TraceSink> trace;
    // Planned faults of the disk; counted in operations.
    uint64_t dies_in = 0;
    base::MemFileSystem::CrashOptions dies_how;
    uint64_t sync_fails_in = 0;
    std::string unreadable;  // a path
    bool injected = false;
    bool disk_has_lied = false;
  };
  class Tap;

  static server::NodeOptions DefaultNode();
  std::optional<size_t> SlotOf(uint64_t id) const;
  bool Cut(size_t from, size_t to) const {
    return isolated_.contains(from) || isolated_.contains(to) || cut_.contains({from, to});
  }
  enum class Start { kFound, kJoin, kAgain };
  absl::Status Boot(size_t i, Start start, std::vector<server::Member> members);
  void TearDown(size_t i);
  absl::Status OnDiskOp(size_t i, base::MemFileSystem::Op op, const std::string& path);
  server::DiskOptions DiskOf(size_t i);

  const Options options_;
  base::Random random_;
  base::Random network_random_;
  base::Random crash_random_;
  base::SimScheduler scheduler_;
  std::unique_ptr<base::Executor> wire_;
  std::vector<server::Member> founders_;
  uint64_t cluster_id_ = 0;
  double loss_;
  double duplicate_;
  base::Nanos min_delay_;
  base::Nanos max_delay_;
  std::vector<MemberState> members_;
  std::function<void(size_t)> on_tear_down_;
  std::function<void(size_t)> on_disk_failure_;
  std::set<size_t> isolated_;
  std::set<std::pair<size_t, size_t>> cut_;
};

}  // namespace kvd::sim
