// Proposals: back-pressure, the rules for configuration changes, the way to the leader.
#include <algorithm>

#include "base/check.h"
#include "base/mutant.h"
#include "base/sites.h"
#include "raft/conf_change.h"
#include "raft/impl.h"

namespace kvd::raft {

using Impl = RaftCore::Impl;

ProposeResult Impl::Dropped(ProposeResult why) const {
  Trace(trace::ProposalDropped{why});
  return why;
}

ProposeResult Impl::Propose(absl::Span<base::SharedBytes> payloads) {
  KVD_CHECK(!payloads.empty(), "a proposal has entries");
  if (role_ != Role::kLeader && (leader_ == kNoNode || !config_.forward_proposals))
    return ForwardProposals({});
  std::vector<Entry> entries(payloads.size());
  for (size_t i = 0; i < payloads.size(); ++i) entries[i].data = payloads[i];
  const ProposeResult result = role_ == Role::kLeader ? AppendProposals(std::move(entries), false)
                                                      : ForwardProposals(std::move(entries));
  if (result == ProposeResult::kOk) {
    for (base::SharedBytes& payload : payloads) payload = base::SharedBytes();
  }
  return result;
}

ProposeResult Impl::ProposeChange(EntryType type, std::string data) {
  std::vector<Entry> entries(1);
  entries[0].type = type;
  entries[0].data = base::SharedBytes(std::move(data));
  if (role_ == Role::kLeader) return AppendProposals(std::move(entries), /*replace_refused=*/false);
  return ForwardProposals(std::move(entries));
}

ProposeResult Impl::ForwardProposals(std::vector<Entry> entries) {
  if (leader_ == kNoNode) return Dropped(ProposeResult::kNoLeader);
  if (!config_.forward_proposals) return Dropped(ProposeResult::kNotLeader);
  Send({.type = MessageType::kProp, .to = leader_, .entries = std::move(entries)});
  return ProposeResult::kOk;
}

bool Impl::ConfChangeMayStand(const Entry& entry) const {
  std::optional<ConfChangeV2> change = ConfChangeOf(entry);
  if (!change.has_value()) return false;
  if (KVD_MUTANT("two_conf_changes_in_flight")) return true;
  // One at a time; and out of a joint configuration there is one way, which leads nowhere else.
  return pending_conf_index_ <= log_.applied() && IsJoint(conf_) == change->changes.empty();
}

ProposeResult Impl::AppendProposals(std::vector<Entry> entries, bool replace_refused) {
  if (entries.empty()) return ProposeResult::kOk;
  if (!IsMember(conf_, id_) || leaving_index_ != 0) return Dropped(ProposeResult::kNotMember);
  if (transferee_ != kNoNode) return Dropped(ProposeResult::kTransferring);

  uint64_t bytes = 0;
  Index pending = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    Entry& e = entries[i];
    if (e.type != EntryType::kNormal) {
      if (pending == 0 && ConfChangeMayStand(e)) {
        pending = log_.LastIndex() + i + 1;
      } else if (replace_refused) {
        KVD_PROBE("raft/second configuration change replaced");
        Trace(trace::ConfChangeRefused{log_.LastIndex() + i + 1});
        e = Entry();
      } else {
        KVD_PROBE("raft/second configuration change refused");
        Trace(trace::ConfChangeRefused{0});
        return Dropped(ProposeResult::kConfChangePending);
      }
    }
    bytes += e.data.size();
  }
  // What is larger than the limit alone passes when nothing else is waiting, and empty entries always do: a
  // leader must be able to open its term and to leave a joint configuration.
  if (bytes > 0 && uncommitted_bytes_ > 0 && uncommitted_bytes_ + bytes > config_.max_uncommitted_bytes) {
    KVD_PROBE("raft/too much uncommitted");
    return Dropped(ProposeResult::kTooMuchUncommitted);
  }
  uncommitted_bytes_ += bytes;
  if (pending != 0) pending_conf_index_ = pending;
  AppendOwn(std::move(entries));
  return ProposeResult::kOk;
}

void Impl::AppendOwn(std::vector<Entry> entries) {
  const Index first = log_.LastIndex() + 1;
  Index next = first;
  for (Entry& e : entries) {
    e.term = term_;
    e.index = next++;
    log_.Append(std::move(e));
  }
  TraceAppended(first);
  if (KVD_MUTANT("leader_counts_unsynced") && role_ == Role::kLeader) {
    Find(id_)->AckedUpTo(log_.LastIndex());
    MaybeCommit();
  }
}

}  // namespace kvd::raft
