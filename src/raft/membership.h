// The rules by which one membership follows another: simple changes of one voter, and joint configurations
// for more. Pure functions on ConfState.
//
// Thread-safety: no state. Errors: kFailedPrecondition for a change that the rules forbid in this
// configuration.
#pragma once

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "raft/types.h"

namespace kvd::raft {

inline bool IsJoint(const ConfState& conf) {
  return !conf.voters_outgoing.empty();
}
bool IsVoter(const ConfState& conf, NodeId id);    // of either majority
bool IsLearner(const ConfState& conf, NodeId id);  // and of neither majority
bool IsMember(const ConfState& conf, NodeId id);
// Every member once, in order.
std::vector<NodeId> Members(const ConfState& conf);
// Sorts each list and drops repetitions.
void Normalize(ConfState* conf);

// What a change asks for. A change without changes leaves a joint configuration.
bool WantsLeave(const ConfChangeV2& change);
bool WantsJoint(const ConfChangeV2& change);
bool WantsAutoLeave(const ConfChangeV2& change);

// At most one voter may differ afterwards. Changes of node 0 and of nodes that are already so are skipped.
absl::StatusOr<ConfState> SimpleChange(const ConfState& conf, absl::Span<const ConfChangeSingle> changes);
// The present voters become the outgoing majority; the changes shape the incoming one. A voter of the
// outgoing majority that is to become a learner waits in learners_next.
absl::StatusOr<ConfState> EnterJoint(const ConfState& conf, bool auto_leave,
                                     absl::Span<const ConfChangeSingle> changes);
absl::StatusOr<ConfState> LeaveJoint(const ConfState& conf);
// Whichever of the three the change asks for.
absl::StatusOr<ConfState> Change(const ConfState& conf, const ConfChangeV2& change);

}  // namespace kvd::raft
