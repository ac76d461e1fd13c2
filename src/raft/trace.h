// What the core did, as typed events: for golden scenarios, invariant checkers and the driver's log lines and
// metrics. One struct per transition; adding a field or a struct is compatible, renaming is not.
//
// Thread-safety: events are values; a sink is called on the core's thread, from within the call that caused
// the event, and must not call the core.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "raft/raft_core.h"
#include "raft/types.h"

namespace kvd::raft {

std::string_view ProgressStateName(ProgressState state);  // "Probe", "Replicate", "Snapshot"
std::string ToString(const ConfState& conf);              // "voters=(1 2)&&(1 2 3) learners=(4)"

namespace trace {

struct RoleChanged {
  Role from;
  Role to;
  Term term;
  NodeId leader;
};
struct LeaderChanged {
  NodeId from;
  NodeId to;
  Term term;
};
enum class CampaignKind : uint8_t { kPreElection, kElection, kTransfer };
struct Campaigned {
  CampaignKind kind;
  Term term;
  Term last_term;
  Index last_index;
};
// Why a member that was asked to campaign did not.
enum class CampaignRefusal : uint8_t { kLeader, kNotPromotable, kUnappliedConfChange };
struct CampaignRefused {
  CampaignRefusal why;
  Term term;
};
enum class VoteVerdict : uint8_t { kGranted, kRejected, kIgnoredInLease };
struct VoteCast {
  bool pre;
  NodeId candidate;
  Term term;  // the one asked for
  VoteVerdict verdict;
};
struct VoteCounted {
  bool pre;
  NodeId from;
  bool granted;
};
// A leader had no contact to a quorum for an election timeout, or was removed.
enum class StepDownReason : uint8_t { kNoQuorum, kRemoved, kHigherTerm };
struct SteppedDown {
  StepDownReason reason;
  Term term;
};
struct EntriesAppended {
  Term term;
  Index first;
  Index last;
  std::vector<Entry> entries = {};  // first..last
};
struct LogTruncated {
  Index from;  // entries >= from were dropped
};
struct CommitAdvanced {
  Index commit;
  Term term;
};
struct AppendRejected {  // at the follower
  NodeId leader;
  Index index;
  Term log_term;
  Index hint;
  Term hint_term;
};
struct ProgressChanged {
  NodeId peer;
  ProgressState from;
  ProgressState to;
  Index match;
  Index next;
};
struct SnapshotSent {
  NodeId peer;
  Index index;
  Term term;
};
enum class SnapshotVerdict : uint8_t { kRestored, kFastForwarded, kStale, kNotMember };
struct SnapshotReceived {
  Index index;
  Term term;
  SnapshotVerdict verdict;
};
struct ConfChangeRefused {
  Index index;  // of the empty entry that stands in its place; 0 if nothing was appended
};
struct ConfChanged {
  ConfState conf_state;
};
enum class TransferStep : uint8_t { kStarted, kSentTimeoutNow, kAborted };
struct Transfer {
  TransferStep step;
  NodeId to;
};
struct ReadRound {
  uint64_t round;
  size_t reads;
  Index index;
};
struct ReadReleased {
  Index index;
  size_t reads;
};
struct ProposalDropped {
  ProposeResult why;
};
struct LeaderForgotten {
  NodeId leader;
};

using Event = std::variant<RoleChanged, LeaderChanged, Campaigned, CampaignRefused, VoteCast, VoteCounted,
                           SteppedDown, EntriesAppended, LogTruncated, CommitAdvanced, AppendRejected,
                           ProgressChanged, SnapshotSent, SnapshotReceived, ConfChangeRefused, ConfChanged,
                           Transfer, ReadRound, ReadReleased, ProposalDropped, LeaderForgotten>;

// One line, without the node's ID: "became Candidate at term 2".
std::string ToString(const Event& event);

}  // namespace trace

class TraceSink {
 public:
  virtual ~TraceSink() = default;
  virtual void OnEvent(NodeId node, const trace::Event& event) = 0;
};

}  // namespace kvd::raft
