#include "raft/raft_core.h"

#include <utility>

#include "base/check.h"
#include "base/sites.h"
#include "raft/conf_change.h"
#include "raft/impl.h"

namespace kvd::raft {

using Impl = RaftCore::Impl;

RaftCore::Impl::Impl(const Config& config, const LogView* view, base::Random random, TraceSink* trace)
    : config_(config),
      id_(config.id),
      trace_(trace),
      random_(random),
      log_(view, config.applied, std::max(config.hard_state.commit, config.applied)) {
  KVD_CHECK(id_ != kNoNode, "a member has an ID");
  KVD_CHECK(config.heartbeat_ticks > 0 && config.election_ticks > config.heartbeat_ticks,
            "elections must be rarer than heartbeats");
  KVD_CHECK(config.max_inflight_messages > 0 && config.max_inflight_bytes > 0, "a window cannot be empty");
  term_ = config.hard_state.term;
  vote_ = config.hard_state.vote;
  handed_hard_ = config.hard_state;
  ConfState conf = config.conf_state;
  Normalize(&conf);
  SwitchTo(std::move(conf));
  Reset(term_);
}

void Impl::Tick() {
  ++election_elapsed_;
  if (role_ != Role::kLeader) {
    const bool due = election_elapsed_ >= election_timeout_ || KVD_BUGGIFY("raft/campaign early");
    if (due && Promotable()) {
      election_elapsed_ = 0;
      Hup(trace::CampaignKind::kPreElection);
    }
    return;
  }
  ++heartbeat_elapsed_;
  if (election_elapsed_ >= config_.election_ticks) {
    election_elapsed_ = 0;
    CheckQuorum();
    if (role_ != Role::kLeader) return;
    // A target that has not taken over within an election timeout will not.
    AbortTransfer();
    MaybeLeaveJoint();
  }
  if (heartbeat_elapsed_ >= config_.heartbeat_ticks) {
    heartbeat_elapsed_ = 0;
    for (Progress& p : peers_) p.acked_since_beat = false;
    RetryReadRound();
  }
}

namespace {
bool IsLocal(MessageType type) {
  switch (type) {
    case MessageType::kHup:
    case MessageType::kBeat:
    case MessageType::kUnreachable:
    case MessageType::kSnapStatus:
    case MessageType::kCheckQuorum:
    case MessageType::kStorageAppend:
    case MessageType::kStorageAppendResp:
    case MessageType::kStorageApply:
    case MessageType::kStorageApplyResp:
      return true;
    default:
      return false;
  }
}

bool IsVoteRequest(MessageType type) {
  return type == MessageType::kVote || type == MessageType::kPreVote;
}

// Sent only by somebody who leads in the message's term.
bool IsFromLeader(MessageType type) {
  return type == MessageType::kApp || type == MessageType::kHeartbeat || type == MessageType::kSnap;
}
}  // namespace

StepResult Impl::Step(Message m) {
  if (IsLocal(m.type) || (m.to != kNoNode && m.to != id_)) return StepResult::kIgnored;
  if (m.term != 0 && m.term != term_ && !CheckTerm(m)) return StepResult::kOk;
  if (IsVoteRequest(m.type)) {
    AnswerVoteRequest(m);
    return StepResult::kOk;
  }
  if (m.type == MessageType::kVoteResp || m.type == MessageType::kPreVoteResp) LearnCommit(m);
  switch (role_) {
    case Role::kLeader:
      return StepLeader(m);
    case Role::kFollower:
      return StepFollower(m);
    case Role::kPreCandidate:
    case Role::kCandidate:
      return StepCandidate(m);
  }
  return StepResult::kIgnored;
}

bool Impl::CheckTerm(const Message& m) {
  if (m.term > term_) {
    if (IsVoteRequest(m.type) && m.context != kTransferCampaign && InLease()) {
      // There is a leader: whoever campaigns is cut off from it, or has been removed.
      KVD_PROBE("raft/vote refused because somebody leads");
      Trace(trace::VoteCast{m.type == MessageType::kPreVote, m.from, m.term,
                            trace::VoteVerdict::kIgnoredInLease});
      return false;
    }
    // A pre-vote asks about a term that nobody has entered; so does its positive answer.
    if (m.type == MessageType::kPreVote) return true;
    if (m.type == MessageType::kPreVoteResp && !m.reject) return true;
    if (role_ == Role::kLeader) Trace(trace::SteppedDown{trace::StepDownReason::kHigherTerm, term_});
    BecomeFollower(m.term, IsFromLeader(m.type) ? m.from : kNoNode);
    return true;
  }
  if (m.type == MessageType::kApp || m.type == MessageType::kHeartbeat) {
    KVD_PROBE("raft/message of a leader of the past");
    // A leader of the past, which ignores our vote requests because it has followers: an answer with our term
    // makes it step down, so that a member that was cut off with a higher term can come back.
    Send({.type = MessageType::kAppResp, .to = m.from});
  } else if (m.type == MessageType::kPreVote) {
    AnswerVoteRequest(m);
  }
  return false;
}

StepResult Impl::StepLeader(Message& m) {
  switch (m.type) {
    case MessageType::kProp:
      (void)AppendProposals(std::move(m.entries), /*replace_refused=*/true);
      return StepResult::kOk;
    case MessageType::kReadIndex:
      if (m.entries.size() == 1) AskReadIndex(m.from, std::string(m.entries[0].data.view()));
      return StepResult::kOk;
    case MessageType::kTransferLeader:
      (void)StartTransfer(m.from);
      return StepResult::kOk;
    case MessageType::kAppResp:
    case MessageType::kHeartbeatResp:
      if (Find(m.from) == nullptr) return StepResult::kIgnored;
      if (m.type == MessageType::kAppResp) {
        HandleAppendAnswer(m);
      } else {
        HandleHeartbeatAnswer(m);
      }
      return StepResult::kOk;
    default:
      // A second leader of this term would be a broken promise of somebody; its messages are not for us to
      // obey.
      KVD_CHECK(!IsFromLeader(m.type) || m.from == id_, "two leaders in one term");
      return StepResult::kIgnored;
  }
}

StepResult Impl::StepFollower(Message& m) {
  switch (m.type) {
    case MessageType::kApp:
    case MessageType::kHeartbeat:
    case MessageType::kSnap:
      election_elapsed_ = 0;
      SetRole(Role::kFollower, m.from);
      if (m.type == MessageType::kApp) {
        HandleAppend(m);
      } else if (m.type == MessageType::kHeartbeat) {
        HandleHeartbeat(m);
      } else {
        HandleSnapshot(m);
      }
      return StepResult::kOk;
    case MessageType::kProp:
      (void)ForwardProposals(std::move(m.entries));
      return StepResult::kOk;
    case MessageType::kTransferLeader:
    case MessageType::kReadIndex:
      if (leader_ == kNoNode) return StepResult::kOk;
      m.to = leader_;
      Send(std::move(m));
      return StepResult::kOk;
    case MessageType::kReadIndexResp:
      if (m.entries.size() == 1) reads_.push_back({m.index, std::string(m.entries[0].data.view())});
      return StepResult::kOk;
    case MessageType::kTimeoutNow:
      // The leader wants this member to take over, so there is no need to ask whether it could win.
      Hup(trace::CampaignKind::kTransfer);
      return StepResult::kOk;
    case MessageType::kForgetLeader:
      ForgetLeader();
      return StepResult::kOk;
    default:
      return StepResult::kIgnored;
  }
}

StepResult Impl::StepCandidate(Message& m) {
  if (IsFromLeader(m.type)) {
    BecomeFollower(m.term, m.from);
    return StepFollower(m);
  }
  const bool pre = role_ == Role::kPreCandidate;
  if (m.type == (pre ? MessageType::kPreVoteResp : MessageType::kVoteResp)) {
    CountVote(m.from, !m.reject, pre);
    return StepResult::kOk;
  }
  return m.type == MessageType::kProp ? StepResult::kOk : StepResult::kIgnored;
}

void Impl::Send(Message m) {
  if (m.from == kNoNode) m.from = id_;
  switch (m.type) {
    case MessageType::kProp:
    case MessageType::kReadIndex:
      m.term = 0;
      break;
    case MessageType::kVote:
    case MessageType::kVoteResp:
    case MessageType::kPreVote:
    case MessageType::kPreVoteResp:
      KVD_CHECK(m.term != 0, "a vote is about a term");
      break;
    default:
      m.term = term_;
  }
  switch (m.type) {
    case MessageType::kAppResp:
      // An acknowledgement of more includes that of less.
      if (!m.reject && !send_after_persist_.empty()) {
        Message& last = send_after_persist_.back();
        if (last.type == MessageType::kAppResp && !last.reject && last.to == m.to && last.term == m.term) {
          last.index = std::max(last.index, m.index);
          last.context = std::move(m.context);
          return;
        }
      }
      send_after_persist_.push_back(std::move(m));
      return;
    // A request for votes, too: the candidate's own vote and the log that it boasts of must survive its
    // crash, or a late answer could elect a successor of itself that has forgotten both.
    case MessageType::kVote:
    case MessageType::kVoteResp:
    case MessageType::kPreVoteResp:
      send_after_persist_.push_back(std::move(m));
      return;
    default:
      send_now_.push_back(std::move(m));
  }
}

// --- the public face ---

RaftCore::RaftCore(const Config& config, const LogView* log, base::Random random, TraceSink* trace)
    : impl_(std::make_unique<Impl>(config, log, random, trace)) {}
RaftCore::~RaftCore() = default;

void RaftCore::Tick() {
  impl_->Tick();
}
StepResult RaftCore::Step(Message m) {
  return impl_->Step(std::move(m));
}
ProposeResult RaftCore::Propose(absl::Span<base::SharedBytes> payloads) {
  return impl_->Propose(payloads);
}
ProposeResult RaftCore::ProposeConfChange(const ConfChange& change) {
  return impl_->ProposeChange(EntryType::kConfChange, EncodeConfChange(change));
}
ProposeResult RaftCore::ProposeConfChange(const ConfChangeV2& change) {
  return impl_->ProposeChange(EntryType::kConfChangeV2, EncodeConfChange(change));
}
bool RaftCore::ReadIndex(std::string token) {
  return impl_->ReadIndex(std::move(token));
}
TransferResult RaftCore::TransferLeadership(NodeId to) {
  return impl_->TransferLeadership(to);
}
void RaftCore::ForgetLeader() {
  impl_->ForgetLeader();
}
void RaftCore::Campaign() {
  impl_->Hup(trace::CampaignKind::kPreElection);
}
void RaftCore::ReportUnreachable(NodeId id) {
  impl_->Unreachable(id);
}
void RaftCore::ReportSnapshot(NodeId id, bool ok) {
  impl_->ReportSnapshot(id, ok);
}
void RaftCore::SetPatient(bool patient) {
  impl_->patient_ = patient;
}
Index RaftCore::CommitToldToAll() const {
  return impl_->CommitToldToAll();
}
void RaftCore::TellCommit() {
  impl_->tell_commit_ = true;
}
void RaftCore::OnPersisted(const Persisted& ack) {
  impl_->OnPersisted(ack);
}
void RaftCore::OnApplied(Index index) {
  impl_->OnApplied(index);
}
ConfState RaftCore::ApplyConfChange(const ConfChangeV2& change) {
  return impl_->ApplyConfChange(change);
}
bool RaftCore::HasReady() const {
  return impl_->HasReady();
}
Ready RaftCore::TakeReady() {
  return impl_->TakeReady();
}

NodeId RaftCore::id() const {
  return impl_->id_;
}
Role RaftCore::role() const {
  return impl_->role_;
}
NodeId RaftCore::leader() const {
  return impl_->leader_;
}
Term RaftCore::term() const {
  return impl_->term_;
}
Index RaftCore::commit() const {
  return impl_->log_.commit();
}
Index RaftCore::applied() const {
  return impl_->log_.applied();
}
Index RaftCore::last_index() const {
  return impl_->log_.LastIndex();
}
ConfState RaftCore::conf_state() const {
  return impl_->conf_;
}
Status RaftCore::GetStatus() const {
  return impl_->GetStatus();
}

}  // namespace kvd::raft
