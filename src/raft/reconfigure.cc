// A committed change of the membership takes effect.
#include <algorithm>

#include "base/check.h"
#include "base/sites.h"
#include "raft/impl.h"

namespace kvd::raft {

using Impl = RaftCore::Impl;

ConfState Impl::ApplyConfChange(const ConfChangeV2& change) {
  absl::StatusOr<ConfState> next = Change(conf_, change);
  KVD_CHECK(next.ok(), "a committed configuration change must be possible");
  SwitchTo(std::move(*next));
  return conf_;
}

void Impl::SwitchTo(ConfState conf) {
  conf_ = std::move(conf);
  if (trace_ != nullptr) Trace(trace::ConfChanged{conf_});

  std::vector<Progress> old = std::move(peers_);
  peers_.clear();
  for (NodeId id : Members(conf_)) {
    auto known = std::find_if(old.begin(), old.end(), [id](const Progress& p) { return p.id == id; });
    if (known != old.end()) {
      peers_.push_back(std::move(*known));
    } else {
      // Counted as active, or a check of the quorum could find a new member guilty before it was ever spoken
      // to.
      peers_.emplace_back(id, log_.LastIndex() + 1, config_.max_inflight_messages,
                          config_.max_inflight_bytes);
      peers_.back().recent_active = true;
      peers_.back().append_due = true;
    }
    peers_.back().learner = IsLearner(conf_, id);
  }
  if (role_ != Role::kLeader) return;

  if (!IsVoter(conf_, id_)) {
    // The others act on a change once they know that it is committed, so a leader that fell silent now could
    // leave behind voters that still need its vote, and a log too long to give it. It leads on, without a
    // part in the quorum and without proposals, until one more entry is committed: whoever holds that entry
    // was told.
    if (leaving_index_ == 0) {
      AbortTransfer();
      AppendOwn(std::vector<Entry>(1));
      leaving_index_ = log_.LastIndex();
    }
  }
  if (transferee_ != kNoNode && !IsVoter(conf_, transferee_)) AbortTransfer();
  // A smaller quorum may have everything already: entries, and rounds of reads.
  MaybeCommit();
  if (!rounds_.empty()) RetryReadRound();
}

void Impl::MaybeStepDown() {
  if (leaving_index_ == 0 || log_.commit() < leaving_index_) return;
  KVD_PROBE("raft/removed leader steps down");
  Trace(trace::SteppedDown{trace::StepDownReason::kRemoved, term_});
  auto best = std::max_element(peers_.begin(), peers_.end(), [this](const Progress& a, const Progress& b) {
    return (IsVoter(conf_, a.id) ? a.match : 0) < (IsVoter(conf_, b.id) ? b.match : 0);
  });
  if (best->match >= leaving_index_) SendTimeoutNow(best->id);
  BecomeFollower(term_, kNoNode);
}

void Impl::MaybeLeaveJoint() {
  if (role_ != Role::kLeader || !conf_.auto_leave || transferee_ != kNoNode ||
      log_.applied() < pending_conf_index_)
    return;
  std::vector<Entry> entries(1);
  entries[0].type = EntryType::kConfChangeV2;
  // Refused while the leadership is being handed over; the next leader does it.
  (void)AppendProposals(std::move(entries), /*replace_refused=*/false);
}

}  // namespace kvd::raft
