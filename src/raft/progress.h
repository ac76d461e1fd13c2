// What a leader knows of one member's log, and how much it may send it.
//
//   kProbe      one append per answer (or heartbeat answer) until it is known where the logs agree
//   kReplicate  optimistic: `next` moves on with every append, as far as the window of inflights allows
//   kSnapshot   nothing is sent until the snapshot has arrived, or failed
//
// Invariants: match < next; inflights is empty unless kReplicate; pending_snapshot is 0 unless kSnapshot.
//
// Thread-safety: thread-compatible.
#pragma once

#include "raft/inflights.h"
#include "raft/raft_core.h"
#include "raft/types.h"

namespace kvd::raft {

struct Progress {
  Progress(NodeId node, Index next_index, size_t max_messages, uint64_t max_bytes)
      : id(node), next(next_index), inflights(max_messages, max_bytes) {}

  NodeId id;
  Index match = 0;
  Index next;
  // The highest commit index that was sent along, cut to what the member would hold then.
  Index sent_commit = 0;
  Index pending_snapshot = 0;
  ProgressState state = ProgressState::kProbe;
  bool learner = false;
  // Heard of since the last check of the quorum.
  bool recent_active = false;
  // Nothing more may be sent before an answer: the probe is out, or the window is full.
  bool flow_paused = false;
  // An append is due even if it carries nothing.
  bool append_due = false;
  // An append was answered since the last heartbeat tick, so none needs to be sent just to see where it
  // stands.
  bool acked_since_beat = false;
  // Nobody at the member waits for what is committed, by its last answer: news of that may wait for the next
  // entries.
  bool patient = false;
  Inflights inflights;

  bool Paused() const { return state == ProgressState::kSnapshot || flow_paused; }
  // How far an append without entries would let the member commit.
  Index CommitToSend(Index commit) const { return commit < next - 1 ? commit : next - 1; }

  void BecomeProbe();
  void BecomeReplicate();
  void BecomeSnapshot(Index snapshot_index);

  // An append with `n` entries of `bytes` bytes, and with the leader's commit index, has been sent.
  void SentAppend(size_t n, uint64_t bytes, Index commit);
  // The member holds everything up to `index`. False: it was known.
  bool AckedUpTo(Index index);
  // The member refused an append behind `rejected` and says that its log may agree at `hint`. False: the
  // refusal is older than what is known.
  bool Rejected(Index rejected, Index hint);

 private:
  void ResetState(ProgressState s);
};

}  // namespace kvd::raft
