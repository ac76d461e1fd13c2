// What goes wrong, at random times: crashes, pauses, partitions, full disks, stalls, changes of the leader
// and of the membership. Thread-compatible.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "sim_cluster.h"
#include "swarm.h"
#include "verdict.h"

namespace kvd::sim {

class Nemesis {
 public:
  using Note = std::function<void(const std::string&)>;
  Nemesis(SimCluster& cluster, const Swarm& swarm, Verdict& verdict, Note note);

  void Start();
  // No new faults; what it has planned to undo is still undone.
  void Stop() { stopped_ = true; }
  // Starts every member of `members` that is down, and ends those that are none. False while one cannot
  // start.
  bool RestoreAll(const std::vector<uint64_t>& members);
  // Every member whose disk was lost is out of the cluster.
  bool Repaired() const { return broken_.empty(); }
  uint64_t faults() const { return faults_; }

 private:
  void Every(base::Nanos average, void (Nemesis::*fault)());
  base::Nanos Up(base::Nanos most) {
    return base::Nanos(random_.Below(static_cast<uint64_t>(most.count())) + 1);
  }
  void Later(base::Nanos delay, std::function<void()> task);
  std::optional<size_t> Victim();
  void Bring(size_t member);
  base::MemFileSystem::CrashOptions DrawCrash();

  void Crash();
  void CrashAtOp();
  void Kill();
  void Pause();
  void Partition();
  void CutLink();
  void Stall();
  void FullDisk();
  void SyncFailure();
  void ClockChange();
  void BadDisk();
  // A member that cannot come back is removed, and an empty one takes its place.
  void Replace(size_t member);
  void StartFailed(size_t member, const absl::Status& status);
  void Transfer();
  void ChangeMembers();
  void ChangeMember();
  void BadNetwork();
  void AddMember(bool may_be_learner);
  base::Nanos Now() { return cluster_.scheduler().clock().Monotonic(); }

  SimCluster& cluster_;
  const Swarm& swarm_;
  Verdict& verdict_;
  const Note note_;
  base::Random random_;
  bool stopped_ = false;
  bool network_is_bad_ = false;
  base::Nanos next_removal_{0};
  std::vector<size_t> atlas_;  // members whose disk may go bad: fewer than half
  std::set<size_t> damaged_;   // of them: what is on the disk may be wrong
  std::set<size_t> broken_;    // of them: cannot start, and still belong to the cluster
  uint64_t faults_ = 0;
};

}  // namespace kvd::sim
