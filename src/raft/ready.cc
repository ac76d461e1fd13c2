// What goes out, and what comes back from the disk and from the applier.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "raft/impl.h"

namespace kvd::raft {

using Impl = RaftCore::Impl;

bool Impl::HasReady() {
  Flush();
  return !send_now_.empty() || !send_after_persist_.empty() || !reads_.empty() || log_.HasUnwritten() ||
         CurrentHardState() != handed_hard_ || CurrentSoftState() != handed_soft_ ||
         log_.HasCommitted(config_.max_apply_bytes);
}

Ready Impl::TakeReady() {
  KVD_CHECK(HasReady(), "there is something in a Ready");
  Ready r;
  r.number = ++number_;
  if (SoftState soft = CurrentSoftState(); soft != handed_soft_) r.soft = handed_soft_ = soft;
  if (HardState hard = CurrentHardState(); hard != handed_hard_) {
    // The commit index alone can be found out again.
    r.must_sync = hard.term != handed_hard_.term || hard.vote != handed_hard_.vote;
    r.hard = handed_hard_ = hard;
  }
  log_.TakeUnwritten(&r);
  r.must_sync = r.must_sync || !r.append.empty() || r.snapshot != nullptr;
  r.send_now = std::exchange(send_now_, {});
  r.send_after_persist = std::exchange(send_after_persist_, {});
  r.reads = std::exchange(reads_, {});
  if (log_.HasCommitted(config_.max_apply_bytes)) {
    log_.TakeCommitted(config_.max_committed_per_ready_bytes, &r.committed);
    if (role_ == Role::kLeader) {
      uint64_t bytes = 0;
      for (const Entry& e : r.committed) bytes += e.data.size();
      // Entries of earlier leaders were never counted.
      uncommitted_bytes_ -= std::min(uncommitted_bytes_, bytes);
    }
  }
  if (self_vote_term_ != 0 && self_vote_ready_ == 0) self_vote_ready_ = r.number;
  return r;
}

void Impl::OnPersisted(const Persisted& ack) {
  KVD_CHECK(ack.number <= number_, "only what was handed out can be acknowledged");
  log_.Persisted(ack);
  if (self_vote_term_ != 0 && self_vote_ready_ != 0 && self_vote_ready_ <= ack.number) {
    const Term term = std::exchange(self_vote_term_, 0);
    if (role_ == Role::kCandidate && term == term_) CountVote(id_, true, false);
  }
  if (role_ == Role::kLeader) {
    Progress* self = Find(id_);
    // The leader's own part in the quorum: what is on its disk.
    if (self != nullptr && self->AckedUpTo(log_.StableIndex())) MaybeCommit();
  }
}

void Impl::OnApplied(Index index) {
  log_.AppliedTo(index, /*by_snapshot=*/false);
  MaybeLeaveJoint();
}

Status Impl::GetStatus() const {
  Status s{.id = id_,
           .soft = CurrentSoftState(),
           .hard = CurrentHardState(),
           .applied = log_.applied(),
           .last_index = log_.LastIndex(),
           .transferee = transferee_,
           .conf_state = conf_,
           .peers = {}};
  if (role_ != Role::kLeader) return s;
  for (const Progress& p : peers_) {
    s.peers.push_back({.id = p.id,
                       .match = p.match,
                       .next = p.next,
                       .state = p.state,
                       .learner = p.learner,
                       .recent_active = p.recent_active,
                       .paused = p.Paused(),
                       .pending_snapshot = p.pending_snapshot,
                       .inflight_messages = p.inflights.count()});
  }
  return s;
}

}  // namespace kvd::raft
