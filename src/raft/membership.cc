#include "raft/membership.h"

#include <algorithm>

#include "absl/status/status.h"

namespace kvd::raft {
namespace {

using Set = std::vector<NodeId>;  // sorted

bool Has(const Set& set, NodeId id) {
  return std::binary_search(set.begin(), set.end(), id);
}

void Insert(Set* set, NodeId id) {
  auto it = std::lower_bound(set->begin(), set->end(), id);
  if (it == set->end() || *it != id) set->insert(it, id);
}

void Erase(Set* set, NodeId id) {
  auto it = std::lower_bound(set->begin(), set->end(), id);
  if (it != set->end() && *it == id) set->erase(it);
}

void Remove(ConfState* conf, NodeId id) {
  Erase(&conf->voters, id);
  Erase(&conf->learners, id);
  Erase(&conf->learners_next, id);
}

void MakeVoter(ConfState* conf, NodeId id) {
  Erase(&conf->learners, id);
  Erase(&conf->learners_next, id);
  Insert(&conf->voters, id);
}

void MakeLearner(ConfState* conf, NodeId id) {
  Remove(conf, id);
  // It still counts in the outgoing majority, and nobody may be voter and learner at a time.
  Insert(Has(conf->voters_outgoing, id) ? &conf->learners_next : &conf->learners, id);
}

absl::Status ApplyAll(ConfState* conf, absl::Span<const ConfChangeSingle> changes) {
  for (const ConfChangeSingle& change : changes) {
    if (change.node == kNoNode) continue;  // a change that was refused after it had been logged
    switch (change.type) {
      case ConfChangeType::kAddNode:
        MakeVoter(conf, change.node);
        break;
      case ConfChangeType::kAddLearnerNode:
        MakeLearner(conf, change.node);
        break;
      case ConfChangeType::kRemoveNode:
        Remove(conf, change.node);
        break;
      case ConfChangeType::kUpdateNode:
        break;
    }
  }
  if (conf->voters.empty()) return absl::FailedPreconditionError("the change removes every voter");
  return absl::OkStatus();
}

size_t Differences(const Set& a, const Set& b) {
  Set out;
  std::set_symmetric_difference(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(out));
  return out.size();
}

}  // namespace

bool IsVoter(const ConfState& conf, NodeId id) {
  return Has(conf.voters, id) || Has(conf.voters_outgoing, id);
}
bool IsLearner(const ConfState& conf, NodeId id) {
  return Has(conf.learners, id);
}
bool IsMember(const ConfState& conf, NodeId id) {
  return IsVoter(conf, id) || IsLearner(conf, id);
}

std::vector<NodeId> Members(const ConfState& conf) {
  Set all = conf.voters;
  all.insert(all.end(), conf.voters_outgoing.begin(), conf.voters_outgoing.end());
  all.insert(all.end(), conf.learners.begin(), conf.learners.end());
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

void Normalize(ConfState* conf) {
  for (Set* set : {&conf->voters, &conf->learners, &conf->voters_outgoing, &conf->learners_next}) {
    std::sort(set->begin(), set->end());
    set->erase(std::unique(set->begin(), set->end()), set->end());
  }
}

bool WantsLeave(const ConfChangeV2& change) {
  return change.transition == ConfChangeTransition::kAuto && change.changes.empty();
}
bool WantsJoint(const ConfChangeV2& change) {
  return change.transition != ConfChangeTransition::kAuto || change.changes.size() > 1;
}
bool WantsAutoLeave(const ConfChangeV2& change) {
  return change.transition != ConfChangeTransition::kJointExplicit;
}

absl::StatusOr<ConfState> SimpleChange(const ConfState& conf, absl::Span<const ConfChangeSingle> changes) {
  if (IsJoint(conf)) {
    return absl::FailedPreconditionError("a simple change cannot be made in a joint configuration");
  }
  ConfState next = conf;
  if (absl::Status s = ApplyAll(&next, changes); !s.ok()) return s;
  if (Differences(conf.voters, next.voters) > 1) {
    return absl::FailedPreconditionError("more than one voter changes without a joint configuration");
  }
  return next;
}

absl::StatusOr<ConfState> EnterJoint(const ConfState& conf, bool auto_leave,
                                     absl::Span<const ConfChangeSingle> changes) {
  if (IsJoint(conf)) return absl::FailedPreconditionError("the configuration is joint already");
  if (conf.voters.empty()) {
    return absl::FailedPreconditionError("a configuration without voters cannot become joint");
  }
  ConfState next = conf;
  next.voters_outgoing = next.voters;
  if (absl::Status s = ApplyAll(&next, changes); !s.ok()) return s;
  next.auto_leave = auto_leave;
  return next;
}

absl::StatusOr<ConfState> LeaveJoint(const ConfState& conf) {
  if (!IsJoint(conf)) {
    return absl::FailedPreconditionError("a configuration that is not joint cannot be left");
  }
  ConfState next = conf;
  for (NodeId id : next.learners_next) Insert(&next.learners, id);
  next.learners_next.clear();
  next.voters_outgoing.clear();
  next.auto_leave = false;
  return next;
}

absl::StatusOr<ConfState> Change(const ConfState& conf, const ConfChangeV2& change) {
  if (WantsLeave(change)) return LeaveJoint(conf);
  if (WantsJoint(change)) return EnterJoint(conf, WantsAutoLeave(change), change.changes);
  return SimpleChange(conf, change.changes);
}

}  // namespace kvd::raft
