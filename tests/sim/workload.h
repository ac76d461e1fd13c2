// The clients: each sends one request after the other to members of its choice and notes what it was told.
// Thread-compatible.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "history.h"
#include "sim_cluster.h"
#include "swarm.h"
#include "truth.h"
#include "verdict.h"
#include "watch_client.h"

namespace kvd::sim {

class Workload {
 public:
  using Note = std::function<void(const std::string&)>;
  Workload(SimCluster& cluster, const Swarm& swarm, const Truth& truth, Verdict& verdict, Note note);

  void Start();
  // No new requests; those under way may still be answered.
  void StopLoad();
  // A put and a linearizable read on one member; tells whether both were answered well.
  struct Check {
    bool done = false;
    bool ok = false;
  };
  std::shared_ptr<Check> CheckMember(size_t member);
  // Before a member's process ends.
  void OnTearDown(size_t member);
  // Watchers that stand still move to a member that lives.
  void ReviveWatchers();

  const Ops& ops() const { return ops_; }
  const std::vector<std::unique_ptr<WatchClient>>& watchers() const { return watchers_; }

 private:
  void Next(size_t client);
  void NextSoon(size_t client);
  std::optional<size_t> PickMember();
  void Fill(Op& op);
  void FillTxn(Op& op);
  void FillLease(Op& op);
  void Submit(Op& op, std::function<void()> done);
  void SubmitRange(Op& op, std::function<void(server::Error, const storage::OpResult*)> done);
  std::function<void(server::ApplyOutcome&&)> Apply(Op& op, std::function<void()> done);
  std::string Key() { return "k" + std::to_string(random_.Below(swarm_.keys)); }
  std::string Value(const Op& op, int n);
  int64_t SomeLease();

  SimCluster& cluster_;
  const Swarm& swarm_;
  const Truth& truth_;
  Verdict& verdict_;
  const Note note_;
  base::Random random_;
  base::Random watch_random_;
  Ops ops_;
  std::vector<int64_t> leases_;
  int64_t next_lease_ = 1000;
  bool stopping_ = false;
  std::vector<uint64_t> turn_;  // of each client: its request under way
  std::vector<std::unique_ptr<WatchClient>> watchers_;
};

}  // namespace kvd::sim
