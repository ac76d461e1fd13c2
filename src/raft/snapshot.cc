// Followers whose next entry the leader has compacted away.
#include "base/check.h"
#include "base/sites.h"
#include "raft/impl.h"

namespace kvd::raft {

using Impl = RaftCore::Impl;

bool Impl::SendSnapshot(Progress& p) {
  // A snapshot is expensive; not for somebody who is not there.
  if (!p.recent_active) {
    KVD_PROBE("raft/no snapshot for who is silent");
    return false;
  }
  std::optional<SnapshotMeta> meta = log_.view().SnapshotToSend();
  if (!meta.has_value()) return false;
  KVD_CHECK(meta->index + 1 >= log_.FirstIndex(), "a snapshot must reach up to the log");
  Trace(trace::SnapshotSent{p.id, meta->index, meta->term});
  ChangeProgress(p, ProgressState::kSnapshot, meta->index);
  p.append_due = false;
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->meta = std::move(*meta);
  Send({.type = MessageType::kSnap, .to = p.id, .snapshot = std::move(snapshot)});
  return true;
}

void Impl::HandleSnapshot(const Message& m) {
  if (m.snapshot == nullptr) return;
  const bool restored = Restore(m.snapshot);
  Send({.type = MessageType::kAppResp, .to = m.from, .index = restored ? log_.LastIndex() : log_.commit()});
}

bool Impl::Restore(std::shared_ptr<const Snapshot> snapshot) {
  using trace::SnapshotVerdict;
  const SnapshotMeta& meta = snapshot->meta;
  auto verdict = [&](SnapshotVerdict v) { Trace(trace::SnapshotReceived{meta.index, meta.term, v}); };
  if (meta.index <= log_.commit()) {
    KVD_PROBE("raft/stale snapshot");
    verdict(SnapshotVerdict::kStale);
    return false;
  }
  ConfState conf = meta.conf_state;
  Normalize(&conf);
  if (!IsMember(conf, id_)) {
    verdict(SnapshotVerdict::kNotMember);
    return false;
  }
  if (log_.Matches(meta.index, meta.term)) {
    // The log holds all of it; it was only not known to be committed.
    KVD_PROBE("raft/snapshot of what the log holds");
    verdict(SnapshotVerdict::kFastForwarded);
    log_.CommitTo(meta.index);
    Trace(trace::CommitAdvanced{meta.index, term_});
    return false;
  }
  KVD_PROBE("raft/snapshot restored");
  verdict(SnapshotVerdict::kRestored);
  log_.Restore(std::move(snapshot));
  SwitchTo(std::move(conf));
  return true;
}

void Impl::ReportSnapshot(NodeId id, bool ok) {
  if (role_ != Role::kLeader) return;
  Progress* p = Find(id);
  if (p == nullptr || p->state != ProgressState::kSnapshot) return;
  if (!ok) {
    KVD_PROBE("raft/snapshot did not arrive");
    p->pending_snapshot = 0;
  }
  ChangeProgress(*p, ProgressState::kProbe);
  // If it arrived, wait for the follower's acknowledgement; if not, for a heartbeat's answer before trying
  // again.
  p->flow_paused = true;
}

}  // namespace kvd::raft
