// Who leads: timeouts, pre-votes, votes, the check of the quorum.
#include <algorithm>

#include "base/check.h"
#include "base/mutant.h"
#include "base/sites.h"
#include "raft/impl.h"

namespace kvd::raft {

using Impl = RaftCore::Impl;

void Impl::SetRole(Role role, NodeId leader) {
  if (role != role_) {
    trace::RoleChanged event{role_, role, term_, leader};
    role_ = role;
    Trace(event);
  }
  if (leader != leader_) {
    trace::LeaderChanged event{leader_, leader, term_};
    leader_ = leader;
    Trace(event);
  }
}

void Impl::Reset(Term term) {
  if (term != term_) {
    term_ = term;
    vote_ = kNoNode;
  }
  election_elapsed_ = 0;
  heartbeat_elapsed_ = 0;
  const auto ticks = static_cast<uint64_t>(config_.election_ticks);
  election_timeout_ = static_cast<int>(ticks + random_.Below(ticks));
  votes_.clear();
  transferee_ = kNoNode;
  uncommitted_bytes_ = 0;
  pending_conf_index_ = 0;
  leaving_index_ = 0;
  new_reads_.clear();
  rounds_.clear();
  tell_commit_ = false;
  for (Progress& p : peers_) {
    const bool learner = p.learner;
    p = Progress(p.id, log_.LastIndex() + 1, config_.max_inflight_messages, config_.max_inflight_bytes);
    p.learner = learner;
  }
}

void Impl::BecomeFollower(Term term, NodeId leader) {
  AbortTransfer();
  Reset(term);
  SetRole(Role::kFollower, leader);
}

void Impl::BecomePreCandidate() {
  // Neither term nor vote change: a member that cannot win disturbs nobody.
  votes_.clear();
  SetRole(Role::kPreCandidate, kNoNode);
}

void Impl::BecomeCandidate() {
  Reset(term_ + 1);
  vote_ = id_;
  SetRole(Role::kCandidate, kNoNode);
}

void Impl::BecomeLeader() {
  KVD_CHECK(role_ == Role::kCandidate, "only a candidate is elected");
  Reset(term_);
  SetRole(Role::kLeader, id_);
  // There may be a change among the entries not yet applied; to look for it would only save little.
  pending_conf_index_ = log_.LastIndex();
  Progress* self = Find(id_);
  self->BecomeReplicate();
  self->recent_active = true;
  self->match = log_.StableIndex();
  self->next = self->match + 1;
  // Nothing of earlier terms is committed by counting, so a leader opens its term with an entry of its own.
  AppendOwn(std::vector<Entry>(1));
}

bool Impl::Promotable() const {
  return IsVoter(conf_, id_) && !log_.SnapshotPending();
}

bool Impl::HasUnappliedConfChange() const {
  std::vector<Entry> page;
  Index next = log_.applied() + 1;
  while (next <= log_.commit()) {
    page.clear();
    log_.Entries(next, log_.commit() + 1, config_.max_committed_per_ready_bytes, &page);
    for (const Entry& e : page) {
      if (e.type != EntryType::kNormal) return true;
    }
    next += page.size();
  }
  return false;
}

void Impl::Hup(trace::CampaignKind kind) {
  using trace::CampaignRefusal;
  if (role_ == Role::kLeader) {
    Trace(trace::CampaignRefused{CampaignRefusal::kLeader, term_});
  } else if (!Promotable()) {
    Trace(trace::CampaignRefused{CampaignRefusal::kNotPromotable, term_});
  } else if (HasUnappliedConfChange()) {
    // It would count votes of members that are no longer, or miss those that are now.
    KVD_PROBE("raft/no campaign before a change is applied");
    Trace(trace::CampaignRefused{CampaignRefusal::kUnappliedConfChange, term_});
  } else {
    RequestVotes(kind);
  }
}

void Impl::RequestVotes(trace::CampaignKind kind) {
  const bool pre = kind == trace::CampaignKind::kPreElection;
  if (pre) {
    BecomePreCandidate();
  } else {
    BecomeCandidate();
  }
  const Term term = pre ? term_ + 1 : term_;
  const Term last_term = log_.LastTerm();
  Trace(trace::Campaigned{kind, term, last_term, log_.LastIndex()});
  for (const Progress& p : peers_) {
    if (p.id == id_ || !IsVoter(conf_, p.id)) continue;
    Send({.type = pre ? MessageType::kPreVote : MessageType::kVote,
          .to = p.id,
          .term = term,
          .log_term = last_term,
          .index = log_.LastIndex(),
          .context = std::string(kind == trace::CampaignKind::kTransfer ? kTransferCampaign : "")});
  }
  if (pre) {
    CountVote(id_, true, true);  // promises nothing, so nothing has to be on disk
  } else {
    self_vote_term_ = term_;
    self_vote_ready_ = 0;
  }
}

void Impl::CountVote(NodeId from, bool granted, bool pre) {
  Trace(trace::VoteCounted{pre, from, granted});
  auto same = [from](const auto& v) { return v.first == from; };
  if (std::none_of(votes_.begin(), votes_.end(), same)) votes_.emplace_back(from, granted);
  auto answer = [this](NodeId id) -> std::optional<bool> {
    for (const auto& [voter, vote] : votes_) {
      if (voter == id) return vote;
    }
    return std::nullopt;
  };
  switch (JointVoteOf(conf_, answer)) {
    case VoteResult::kPending:
      return;
    case VoteResult::kLost:
      BecomeFollower(term_, kNoNode);
      return;
    case VoteResult::kWon:
      if (pre) {
        RequestVotes(trace::CampaignKind::kElection);
      } else {
        BecomeLeader();
      }
  }
}

// A voter that does not know the last change of the membership to be committed may need the vote of somebody
// who has been removed by it, and whose log is longer than its own. It gets no vote, but it gets to know the
// change.
void Impl::LearnCommit(const Message& m) {
  if (role_ == Role::kLeader || !m.reject || m.commit <= log_.commit() || !log_.Matches(m.commit, m.log_term))
    return;
  KVD_PROBE("raft/commit learned from a refused vote");
  log_.CommitTo(m.commit);
  Trace(trace::CommitAdvanced{m.commit, term_});
  if (role_ != Role::kFollower && HasUnappliedConfChange()) BecomeFollower(term_, kNoNode);
}

void Impl::AnswerVoteRequest(const Message& m) {
  const bool pre = m.type == MessageType::kPreVote;
  // Again to the one who has it already; or to anyone, once, unless somebody leads; or without obligation for
  // a term to come. A learner votes as well: the candidate's newer configuration may count it.
  const bool free = vote_ == m.from || (vote_ == kNoNode && leader_ == kNoNode) || (pre && m.term > term_);
  const bool granted =
      m.term >= term_ && free && (log_.IsUpToDate(m.index, m.log_term) || KVD_MUTANT("vote_for_short_log"));
  Trace(trace::VoteCast{pre, m.from, m.term,
                        granted ? trace::VoteVerdict::kGranted : trace::VoteVerdict::kRejected});
  // A granted pre-vote answers in the term asked for; a refusal tells the asker which term we are in.
  Message answer{.type = pre ? MessageType::kPreVoteResp : MessageType::kVoteResp,
                 .reject = !granted,
                 .to = m.from,
                 .term = granted ? m.term : term_};
  if (!granted) {
    answer.commit = log_.commit();
    answer.log_term = log_.TermAt(log_.commit()).value_or(0);
  }
  Send(std::move(answer));
  if (granted && !pre) {
    election_elapsed_ = 0;
    vote_ = m.from;
  }
}

// Of all voters' majority, or both while joint, since the last check.
bool Impl::HeardOfQuorum() {
  auto active = [this](NodeId id) -> std::optional<bool> {
    const Progress* p = Find(id);
    return id == id_ || (p != nullptr && p->recent_active);
  };
  return JointVoteOf(conf_, active) == VoteResult::kWon;
}

void Impl::CheckQuorum() {
  if (!HeardOfQuorum()) {
    KVD_PROBE("raft/leader without a quorum steps down");
    Trace(trace::SteppedDown{trace::StepDownReason::kNoQuorum, term_});
    BecomeFollower(term_, kNoNode);
    return;
  }
  for (Progress& p : peers_) {
    if (p.id != id_) p.recent_active = false;
  }
}

void Impl::ForgetLeader() {
  if (role_ != Role::kFollower || leader_ == kNoNode) return;
  Trace(trace::LeaderForgotten{leader_});
  SetRole(Role::kFollower, kNoNode);
}

}  // namespace kvd::raft
