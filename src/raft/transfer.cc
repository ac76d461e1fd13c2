// Handing the leadership over: bring the target's log up to date, then tell it to campaign without waiting.
#include "base/sites.h"
#include "raft/impl.h"

namespace kvd::raft {

using Impl = RaftCore::Impl;

TransferResult Impl::TransferLeadership(NodeId to) {
  if (role_ == Role::kLeader) return StartTransfer(to);
  if (leader_ == kNoNode) return TransferResult::kNoLeader;
  if (leader_ == to) return TransferResult::kAlreadyLeader;
  // The sender of this message is the target.
  Send({.type = MessageType::kTransferLeader, .to = leader_, .from = to});
  return TransferResult::kStarted;
}

TransferResult Impl::StartTransfer(NodeId to) {
  Progress* p = Find(to);
  if (p == nullptr || !IsVoter(conf_, to)) return TransferResult::kNotMember;
  if (transferee_ == to) return TransferResult::kStarted;
  AbortTransfer();
  if (to == id_) return TransferResult::kAlreadyLeader;
  // It has an election timeout's time.
  election_elapsed_ = 0;
  transferee_ = to;
  Trace(trace::Transfer{trace::TransferStep::kStarted, to});
  if (p->match == log_.LastIndex()) {
    SendTimeoutNow(to);
  } else {
    p->append_due = true;
  }
  return TransferResult::kStarted;
}

void Impl::SendTimeoutNow(NodeId to) {
  Trace(trace::Transfer{trace::TransferStep::kSentTimeoutNow, to});
  Send({.type = MessageType::kTimeoutNow, .to = to});
}

void Impl::AbortTransfer() {
  if (transferee_ == kNoNode) return;
  KVD_PROBE("raft/transfer aborted");
  Trace(trace::Transfer{trace::TransferStep::kAborted, transferee_});
  transferee_ = kNoNode;
}

}  // namespace kvd::raft
