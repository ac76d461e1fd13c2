// How entries get from the leader's log into the others: appends, heartbeats, their answers, the commit
// index.
//
// The leader does not send at once: Flush() runs when a Ready is asked for, so whatever came in between
// (proposals, acknowledgements, a new commit index) travels in one append per follower.
#include <algorithm>

#include "base/check.h"
#include "base/mutant.h"
#include "base/sites.h"
#include "raft/impl.h"

namespace kvd::raft {

using Impl = RaftCore::Impl;

Progress* Impl::Find(NodeId id) {
  for (Progress& p : peers_) {
    if (p.id == id) return &p;
  }
  return nullptr;
}

void Impl::TraceAppended(Index first) const {
  if (trace_ == nullptr) return;
  trace::EntriesAppended event{term_, first, log_.LastIndex()};
  log_.Entries(first, log_.LastIndex() + 1, kNoLimit, &event.entries);
  Trace(event);
}

void Impl::ChangeProgress(Progress& p, ProgressState to, Index snapshot_index) {
  const ProgressState from = p.state;
  switch (to) {
    case ProgressState::kProbe:
      p.BecomeProbe();
      break;
    case ProgressState::kReplicate:
      p.BecomeReplicate();
      break;
    case ProgressState::kSnapshot:
      p.BecomeSnapshot(snapshot_index);
      break;
  }
  if (from != to) Trace(trace::ProgressChanged{p.id, from, to, p.match, p.next});
}

void Impl::Flush() {
  if (role_ != Role::kLeader) return;
  StartReadRound();
  for (Progress& p : peers_) {
    if (p.id != id_) SendAppends(p);
  }
  tell_commit_ = false;
}

// A change of the membership is always told at once: whom it removes is not spoken to any more once it is
// applied here.
bool Impl::CommitMayWait(const Progress& p) const {
  return p.patient && p.state == ProgressState::kReplicate && !tell_commit_ &&
         p.sent_commit >= pending_conf_index_ && transferee_ == kNoNode;
}

Index Impl::CommitToldToAll() const {
  Index told = log_.commit();
  if (role_ != Role::kLeader) return told;
  for (const Progress& p : peers_) {
    if (p.id != id_ && !p.Paused() && p.sent_commit < p.CommitToSend(log_.commit()))
      told = std::min(told, p.sent_commit);
  }
  return told;
}

void Impl::SendAppends(Progress& p) {
  while (!p.Paused()) {
    const bool entries = p.next <= log_.LastIndex();
    const bool commit = p.CommitToSend(log_.commit()) > p.sent_commit && !CommitMayWait(p);
    if (!entries && !commit && !p.append_due) return;
    if (!SendAppend(p)) return;
  }
}

bool Impl::SendAppend(Progress& p) {
  std::optional<Term> term = log_.TermAt(p.next - 1);
  if (!term.has_value()) return SendSnapshot(p);
  if (p.next <= log_.LastIndex() && KVD_BUGGIFY("raft/snapshot early")) {
    std::optional<SnapshotMeta> meta = log_.view().SnapshotToSend();
    if (meta.has_value() && meta->index >= p.next && SendSnapshot(p)) return true;
  }
  Message m{
      .type = MessageType::kApp, .to = p.id, .log_term = *term, .index = p.next - 1, .commit = log_.commit()};
  // A full window still lets an empty append through when one is due: its answer tells whether the window's
  // messages were lost.
  uint64_t bytes = 0;
  if ((p.state != ProgressState::kReplicate || !p.inflights.Full()) && p.next <= log_.LastIndex()) {
    const uint64_t most = KVD_BUGGIFY("raft/append one entry") ? 1 : config_.max_message_bytes;
    log_.Entries(p.next, log_.LastIndex() + 1, most, &m.entries);
    for (const Entry& e : m.entries) bytes += EntryBytes(e);
  }
  p.SentAppend(m.entries.size(), bytes, log_.commit());
  Send(std::move(m));
  return true;
}

void Impl::BroadcastHeartbeat(const std::string& context) {
  for (const Progress& p : peers_) {
    if (p.id == id_) continue;
    // The follower may not hold more than what it has acknowledged, so it must not be told to commit more.
    Send({.type = MessageType::kHeartbeat,
          .to = p.id,
          .commit = std::min(p.match, log_.commit()),
          .context = context});
  }
}

void Impl::HandleAppend(Message& m) {
  Message answer{.type = MessageType::kAppResp, .to = m.from};
  if (m.index < log_.commit()) {
    answer.index = log_.commit();
    Send(std::move(answer));
    return;
  }
  if (!log_.Matches(m.index, m.log_term)) {
    // The leader may skip every entry of ours that is newer than its own at that place.
    const auto hint = log_.FindConflictByTerm(std::min(m.index, log_.LastIndex()), m.log_term);
    KVD_PROBE("raft/append rejected");
    Trace(trace::AppendRejected{m.from, m.index, m.log_term, hint.index, hint.term});
    answer.reject = true;
    answer.index = m.index;
    answer.reject_hint = hint.index;
    answer.log_term = hint.term;
    Send(std::move(answer));
    return;
  }
  Index expected = m.index;
  for (const Entry& e : m.entries) {
    KVD_CHECK(e.index == ++expected, "the entries of a message must follow one another");
  }
  const Index last = m.index + m.entries.size();
  const Index before = log_.LastIndex();
  const Index dropped = log_.AppendFrom(std::move(m.entries));
  if (dropped != 0) {
    KVD_PROBE("raft/log truncated");
    Trace(trace::LogTruncated{dropped});
  }
  if (dropped != 0 || log_.LastIndex() > before) TraceAppended(dropped != 0 ? dropped : before + 1);
  const Index commit = std::min(m.commit, last);
  if (commit > log_.commit()) {
    log_.CommitTo(commit);
    Trace(trace::CommitAdvanced{commit, term_});
  }
  answer.index = last;
  if (patient_) answer.context = kPatient;
  Send(std::move(answer));
}

void Impl::HandleHeartbeat(const Message& m) {
  if (m.commit > log_.commit()) {
    log_.CommitTo(m.commit);
    Trace(trace::CommitAdvanced{m.commit, term_});
  }
  Send({.type = MessageType::kHeartbeatResp, .to = m.from, .context = m.context});
}

void Impl::HandleAppendAnswer(const Message& m) {
  Progress& p = *Find(m.from);
  p.recent_active = true;
  p.acked_since_beat = true;
  p.patient = m.context == kPatient;
  if (m.reject) {
    // The follower named the last entry that could be common, by term; what of ours is newer than that term
    // cannot be, so skip it too. Either way whole terms are skipped, not single entries.
    Index probe = m.reject_hint;
    if (m.log_term > 0) probe = log_.FindConflictByTerm(m.reject_hint, m.log_term).index;
    if (p.Rejected(m.index, probe)) {
      if (p.state == ProgressState::kReplicate) ChangeProgress(p, ProgressState::kProbe);
      p.append_due = true;
    }
    return;
  }
  KVD_CHECK(m.index <= log_.LastIndex(), "a follower acknowledged what its leader does not have");
  const bool was_paused = p.Paused();
  const bool advanced = p.AckedUpTo(m.index);
  if (!advanced && !(p.match == m.index && p.state == ProgressState::kProbe)) return;
  switch (p.state) {
    case ProgressState::kProbe:
      ChangeProgress(p, ProgressState::kReplicate);
      break;
    case ProgressState::kSnapshot:
      // Whether by this snapshot or by an older one: it has what our log continues.
      KVD_PROBE("raft/acknowledgement while a snapshot is on its way");
      if (p.match + 1 >= log_.FirstIndex()) ChangeProgress(p, ProgressState::kReplicate);
      break;
    case ProgressState::kReplicate:
      p.inflights.FreeUpTo(m.index);
      p.flow_paused = p.inflights.Full();
      break;
  }
  if (was_paused && !p.Paused()) p.append_due = p.next <= log_.LastIndex();
  if (advanced) MaybeCommit();
  if (m.from == transferee_ && p.match == log_.LastIndex()) SendTimeoutNow(m.from);
}

void Impl::HandleHeartbeatAnswer(const Message& m) {
  Progress& p = *Find(m.from);
  p.recent_active = true;
  if (p.state == ProgressState::kReplicate && KVD_BUGGIFY("raft/probe again")) {
    ChangeProgress(p, ProgressState::kProbe);
  }
  // A probe that was lost is sent again; and where something is unanswered and nothing was answered for a
  // while, an append asks where the follower stands.
  const bool probing = p.state == ProgressState::kProbe;
  const bool silent =
      p.state == ProgressState::kReplicate && p.match < log_.LastIndex() && !p.acked_since_beat;
  if (probing || silent) {
    p.flow_paused = false;
    p.append_due = true;
  }
  if (!m.context.empty()) ConfirmReads(m.from, m.context);
}

void Impl::MaybeCommit() {
  auto acked = [this](NodeId id) -> Index {
    const Progress* p = Find(id);
    return p == nullptr ? 0 : p->match;
  };
  const Index index = JointCommittedOf(conf_, acked);
  if (index == kNoLimit || index <= log_.commit()) return;
  // Only entries of the own term are committed by counting; they take the older ones along.
  if (!log_.Matches(index, term_)) KVD_PROBE("raft/a quorum has an entry of an older term");
  if (!log_.Matches(index, term_) && !KVD_MUTANT("commits_old_term_by_counting")) return;
  log_.CommitTo(index);
  Trace(trace::CommitAdvanced{index, term_});
  MaybeStepDown();
}

void Impl::Unreachable(NodeId id) {
  if (role_ != Role::kLeader) return;
  Progress* p = Find(id);
  // An append was probably lost: go back to what is acknowledged instead of sending on into the void.
  if (p != nullptr && p->state == ProgressState::kReplicate) ChangeProgress(*p, ProgressState::kProbe);
}

}  // namespace kvd::raft
