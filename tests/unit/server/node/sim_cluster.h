// Whole members (real core, log, store, leases, watches) on one seeded scheduler, with a file system in
// memory that loses what was not synced, an engine that rolls back to its last flush, and a network that
// delays and drops.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/mem_file_system.h"
#include "base/random.h"
#include "base/sim_executor.h"
#include "server/node/node.h"
#include "storage/engine.h"
#include "storage/store.h"
#include "wal/wal.h"

namespace kvd::server {

class SimCluster {
 public:
  struct Options {
    size_t members = 3;
    uint64_t seed = 1;
    double loss = 0.0;  // of messages
    base::Nanos max_delay = std::chrono::milliseconds(5);
  };
  explicit SimCluster(const Options& options);
  ~SimCluster();

  base::SimScheduler& scheduler() { return scheduler_; }
  base::Random& random() { return random_; }
  size_t size() const { return members_.size(); }
  bool alive(size_t i) const { return members_[i].node != nullptr; }
  Node& node(size_t i) { return *members_[i].node; }

  // The member that leads and that a majority of those alive follow; nothing if there is none.
  std::optional<size_t> Leader();
  bool WaitForLeader();
  void RunFor(base::Nanos duration) { scheduler_.RunFor(duration); }
  bool RunUntil(const std::function<bool()>& done, base::Nanos limit = std::chrono::seconds(30)) {
    return scheduler_.RunUntil(done, limit);
  }

  // Power loss: the process is gone, and with it what was not synced.
  void Crash(size_t i);
  // The process is gone; the disk keeps everything written.
  void Kill(size_t i);
  void Restart(size_t i);
  // A member that is cut off neither sends nor receives.
  void Isolate(size_t i, bool cut) { cut ? (void)isolated_.insert(i) : (void)isolated_.erase(i); }

  // Proposes a put on member `i`; `*done` becomes the outcome.
  struct Result {
    bool finished = false;
    ApplyOutcome outcome;
  };
  std::shared_ptr<Result> Put(size_t i, const std::string& key, const std::string& value, int64_t lease = 0);
  std::shared_ptr<Result> Propose(size_t i, RequestField field, const std::string& request);
  // What a linearizable read of the key on member `i` gives.
  struct ReadResult {
    bool finished = false;
    Error error = Error::kOk;
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
    std::unique_ptr<base::MemFileSystem> fs;
    std::map<std::string, std::shared_ptr<storage::ModelDisk>> engines;
    std::vector<std::unique_ptr<base::Executor>> executors;
    std::unique_ptr<Network> network;
    std::unique_ptr<MemberDisk> disk;
    std::unique_ptr<Node> node;
    uint64_t starts = 0;
  };

  void Boot(size_t i, bool fresh);
  void TearDown(size_t i);
  DiskOptions DiskOf(size_t i);

  const Options options_;
  base::Random random_;
  base::SimScheduler scheduler_;
  std::unique_ptr<base::Executor> wire_;
  std::vector<Member> founders_;
  uint64_t cluster_id_ = 0;
  std::vector<MemberState> members_;
  std::set<size_t> isolated_;
};

}  // namespace kvd::server
