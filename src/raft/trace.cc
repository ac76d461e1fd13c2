#include "raft/trace.h"

namespace kvd::raft {
namespace {

void Add(std::string& out, std::string_view text) {
  out += text;
}
void Add(std::string& out, uint64_t number) {
  out += std::to_string(number);
}

template <class... Parts>
std::string Cat(const Parts&... parts) {
  std::string out;
  (Add(out, parts), ...);
  return out;
}

std::string List(const std::vector<NodeId>& ids) {
  std::string out = "(";
  for (NodeId id : ids) {
    if (out.size() > 1) out += ' ';
    Add(out, id);
  }
  return out + ")";
}

}  // namespace

std::string_view MessageTypeName(MessageType type) {
  static constexpr std::string_view kNames[kMessageTypes] = {"MsgHup",
                                                             "MsgBeat",
                                                             "MsgProp",
                                                             "MsgApp",
                                                             "MsgAppResp",
                                                             "MsgVote",
                                                             "MsgVoteResp",
                                                             "MsgSnap",
                                                             "MsgHeartbeat",
                                                             "MsgHeartbeatResp",
                                                             "MsgUnreachable",
                                                             "MsgSnapStatus",
                                                             "MsgCheckQuorum",
                                                             "MsgTransferLeader",
                                                             "MsgTimeoutNow",
                                                             "MsgReadIndex",
                                                             "MsgReadIndexResp",
                                                             "MsgPreVote",
                                                             "MsgPreVoteResp",
                                                             "MsgStorageAppend",
                                                             "MsgStorageAppendResp",
                                                             "MsgStorageApply",
                                                             "MsgStorageApplyResp",
                                                             "MsgForgetLeader"};
  const auto i = static_cast<size_t>(type);
  return i < kMessageTypes ? kNames[i] : "MsgUnknown";
}

std::string_view RoleName(Role role) {
  switch (role) {
    case Role::kFollower:
      return "Follower";
    case Role::kPreCandidate:
      return "PreCandidate";
    case Role::kCandidate:
      return "Candidate";
    case Role::kLeader:
      return "Leader";
  }
  return "?";
}

std::string_view ProposeResultName(ProposeResult result) {
  switch (result) {
    case ProposeResult::kOk:
      return "ok";
    case ProposeResult::kNoLeader:
      return "no leader";
    case ProposeResult::kNotLeader:
      return "not the leader";
    case ProposeResult::kTransferring:
      return "leadership is being transferred";
    case ProposeResult::kTooMuchUncommitted:
      return "too much uncommitted";
    case ProposeResult::kNotMember:
      return "not a member";
    case ProposeResult::kConfChangePending:
      return "configuration change refused";
  }
  return "?";
}

std::string_view ProgressStateName(ProgressState state) {
  switch (state) {
    case ProgressState::kProbe:
      return "Probe";
    case ProgressState::kReplicate:
      return "Replicate";
    case ProgressState::kSnapshot:
      return "Snapshot";
  }
  return "?";
}

std::string ToString(const ConfState& conf) {
  std::string out = Cat("voters=", List(conf.voters));
  if (!conf.voters_outgoing.empty()) out += Cat("&&", List(conf.voters_outgoing));
  if (!conf.learners.empty()) out += Cat(" learners=", List(conf.learners));
  if (!conf.learners_next.empty()) out += Cat(" learners_next=", List(conf.learners_next));
  if (conf.auto_leave) out += " autoleave";
  return out;
}

namespace trace {
namespace {

std::string_view Kind(CampaignKind kind) {
  switch (kind) {
    case CampaignKind::kPreElection:
      return "pre-election";
    case CampaignKind::kElection:
      return "election";
    case CampaignKind::kTransfer:
      return "transfer";
  }
  return "?";
}

std::string_view Why(CampaignRefusal why) {
  switch (why) {
    case CampaignRefusal::kLeader:
      return "it leads already";
    case CampaignRefusal::kNotPromotable:
      return "it is not promotable";
    case CampaignRefusal::kUnappliedConfChange:
      return "a configuration change is not applied";
  }
  return "?";
}

std::string_view Verdict(VoteVerdict verdict) {
  switch (verdict) {
    case VoteVerdict::kGranted:
      return "granted";
    case VoteVerdict::kRejected:
      return "rejected";
    case VoteVerdict::kIgnoredInLease:
      return "ignored, the leader is alive";
  }
  return "?";
}

std::string_view Reason(StepDownReason reason) {
  switch (reason) {
    case StepDownReason::kNoQuorum:
      return "no contact to a quorum";
    case StepDownReason::kRemoved:
      return "no longer a voter";
    case StepDownReason::kHigherTerm:
      return "a higher term";
  }
  return "?";
}

std::string_view Verdict(SnapshotVerdict verdict) {
  switch (verdict) {
    case SnapshotVerdict::kRestored:
      return "restored";
    case SnapshotVerdict::kFastForwarded:
      return "the log has it, commit moved on";
    case SnapshotVerdict::kStale:
      return "stale";
    case SnapshotVerdict::kNotMember:
      return "ignored, this node is not in it";
  }
  return "?";
}

std::string_view Step(TransferStep step) {
  switch (step) {
    case TransferStep::kStarted:
      return "started";
    case TransferStep::kSentTimeoutNow:
      return "target may campaign";
    case TransferStep::kAborted:
      return "aborted";
  }
  return "?";
}

struct Printer {
  using S = std::string;
  S operator()(const RoleChanged& e) const {
    return Cat("became ", RoleName(e.to), " at term ", e.term, " (was ", RoleName(e.from), ")");
  }
  S operator()(const LeaderChanged& e) const {
    return Cat("leader ", e.from, " -> ", e.to, " at term ", e.term);
  }
  S operator()(const Campaigned& e) const {
    return Cat("campaigns, ", Kind(e.kind), ", for term ", e.term, " with log ", e.last_term, "/",
               e.last_index);
  }
  S operator()(const CampaignRefused& e) const {
    return Cat("does not campaign at term ", e.term, ": ", Why(e.why));
  }
  S operator()(const VoteCast& e) const {
    return Cat(e.pre ? "pre-vote" : "vote", " for ", e.candidate, " at term ", e.term, " ",
               Verdict(e.verdict));
  }
  S operator()(const VoteCounted& e) const {
    return Cat(e.pre ? "pre-vote" : "vote", " of ", e.from, ": ", e.granted ? "yes" : "no");
  }
  S operator()(const SteppedDown& e) const {
    return Cat("steps down at term ", e.term, ": ", Reason(e.reason));
  }
  S operator()(const EntriesAppended& e) const {
    return Cat("appended [", e.first, ", ", e.last, "] at term ", e.term);
  }
  S operator()(const LogTruncated& e) const { return Cat("truncated from ", e.from); }
  S operator()(const CommitAdvanced& e) const { return Cat("commit ", e.commit, " at term ", e.term); }
  S operator()(const AppendRejected& e) const {
    return Cat("rejected append of ", e.leader, " behind ", e.log_term, "/", e.index, ", hint ", e.hint_term,
               "/", e.hint);
  }
  S operator()(const ProgressChanged& e) const {
    return Cat("progress of ", e.peer, ": ", ProgressStateName(e.from), " -> ", ProgressStateName(e.to),
               " match=", e.match, " next=", e.next);
  }
  S operator()(const SnapshotSent& e) const {
    return Cat("sent snapshot ", e.term, "/", e.index, " to ", e.peer);
  }
  S operator()(const SnapshotReceived& e) const {
    return Cat("snapshot ", e.term, "/", e.index, ": ", Verdict(e.verdict));
  }
  S operator()(const ConfChangeRefused& e) const {
    if (e.index == 0) return "configuration change refused";
    return Cat("configuration change refused, empty entry at ", e.index);
  }
  S operator()(const ConfChanged& e) const { return Cat("configuration ", raft::ToString(e.conf_state)); }
  S operator()(const Transfer& e) const { return Cat("transfer to ", e.to, " ", Step(e.step)); }
  S operator()(const ReadRound& e) const {
    return Cat("read round ", e.round, " for ", e.reads, " at index ", e.index);
  }
  S operator()(const ReadReleased& e) const { return Cat("released ", e.reads, " at index ", e.index); }
  S operator()(const ProposalDropped& e) const { return Cat("dropped proposal: ", ProposeResultName(e.why)); }
  S operator()(const LeaderForgotten& e) const { return Cat("forgot leader ", e.leader); }
};

}  // namespace

std::string ToString(const Event& event) {
  return std::visit(Printer(), event);
}

}  // namespace trace
}  // namespace kvd::raft
