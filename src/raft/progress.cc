#include "raft/progress.h"

#include <algorithm>

namespace kvd::raft {

void Progress::ResetState(ProgressState s) {
  state = s;
  flow_paused = false;
  pending_snapshot = 0;
  inflights.Clear();
}

void Progress::BecomeProbe() {
  // Behind a snapshot that has been sent, probing starts where the snapshot ends.
  Index from = match + 1;
  if (state == ProgressState::kSnapshot) from = std::max(from, pending_snapshot + 1);
  ResetState(ProgressState::kProbe);
  next = from;
  sent_commit = std::min(sent_commit, next - 1);
}

void Progress::BecomeReplicate() {
  ResetState(ProgressState::kReplicate);
  next = match + 1;
}

void Progress::BecomeSnapshot(Index snapshot_index) {
  ResetState(ProgressState::kSnapshot);
  pending_snapshot = snapshot_index;
  next = snapshot_index + 1;
  sent_commit = snapshot_index;
}

void Progress::SentAppend(size_t n, uint64_t bytes, Index commit) {
  append_due = false;
  if (state == ProgressState::kReplicate) {
    if (n > 0) {
      next += n;
      inflights.Add(next - 1, bytes);
    }
    flow_paused = inflights.Full();
    sent_commit = std::max(sent_commit, CommitToSend(commit));
  } else {
    flow_paused = true;
    sent_commit = std::max(sent_commit, std::min(commit, next - 1 + n));
  }
}

bool Progress::AckedUpTo(Index index) {
  if (index <= match) return false;
  match = index;
  next = std::max(next, index + 1);
  flow_paused = false;
  return true;
}

bool Progress::Rejected(Index rejected, Index hint) {
  if (state == ProgressState::kReplicate) {
    if (rejected <= match) return false;
    next = match + 1;
  } else {
    // Only the one outstanding probe can be refused.
    if (next - 1 != rejected) return false;
    next = std::max(std::min(rejected, hint + 1), match + 1);
  }
  sent_commit = std::min(sent_commit, next - 1);
  flow_paused = false;
  return true;
}

}  // namespace kvd::raft
