// The whole log as the core sees it: the part in the LogView, and behind it the tail that is not on this
// member's disk yet.
//
//        view                    unstable
//   [first ....... stable] [stable+1 ... handed-1 | handed ... last]
//                           being written           not in a Ready yet
//
// Acknowledgements and ABA. Several writes may be on their way to the disk when a new leader replaces their
// entries, perhaps twice, back to what they were: then the acknowledgement of the first write says nothing
// about what the disk holds in the end, although term and index agree. So each write on its way remembers how
// far it is still valid, and a truncation cuts that down; an acknowledgement makes stable exactly what is
// left of its write.
//
// Thread-safety: thread-compatible.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "raft/entry_queue.h"
#include "raft/log_view.h"
#include "raft/raft_core.h"
#include "raft/types.h"

namespace kvd::raft {

class RaftLog {
 public:
  struct Position {
    Index index = 0;
    Term term = 0;
  };

  // REQUIRES: applied and commit lie in the view.
  RaftLog(const LogView* view, Index applied, Index commit);

  Index FirstIndex() const;
  Index LastIndex() const { return offset_ + unstable_.size() - 1; }
  // The last index that is on this member's disk. REQUIRES: !SnapshotPending().
  Index StableIndex() const { return offset_ - 1; }
  Term LastTerm() const;
  std::optional<Term> TermAt(Index index) const;
  bool Matches(Index index, Term term) const { return TermAt(index) == std::optional<Term>(term); }
  // A log that ends at (index, term) holds everything that this one may have committed.
  bool IsUpToDate(Index index, Term term) const;
  // The greatest index <= `index` whose term is <= `term`; {i, 0} where the terms are compacted away.
  Position FindConflictByTerm(Index index, Term term) const;
  // The entries [low, high), cut as LogView::Entries does. REQUIRES: low >= FirstIndex().
  void Entries(Index low, Index high, uint64_t max_bytes, std::vector<Entry>* out) const;
  const LogView& view() const { return *view_; }

  // A leader's own entry. REQUIRES: e.index == LastIndex()+1.
  void Append(Entry e) { unstable_.PushBack(std::move(e)); }
  // A follower's: skips what is there already, truncates at the first conflict and appends the rest. Gives
  // the index from which on entries were dropped, 0 if none. REQUIRES: the entry before entries[0] matches.
  Index AppendFrom(std::vector<Entry> entries);

  Index commit() const { return commit_; }
  // A smaller one does nothing. REQUIRES: index <= LastIndex().
  void CommitTo(Index index);
  Index applied() const { return applied_; }
  void AppliedTo(Index index, bool by_snapshot);

  // Replaces the log by a snapshot. REQUIRES: its index is beyond the commit index.
  void Restore(std::shared_ptr<const Snapshot> snapshot);
  // A snapshot is not on disk yet: nothing can be applied until it is.
  bool SnapshotPending() const { return snapshot_ != nullptr; }

  // To write: what TakeUnwritten() would put into a Ready.
  bool HasUnwritten() const { return handed_ <= LastIndex() || (snapshot_ != nullptr && !snapshot_handed_); }
  void TakeUnwritten(Ready* ready);
  // The acknowledgement of a Ready and of all before it. A number that was acknowledged already does nothing.
  void Persisted(const Persisted& ack);

  // To apply: committed, stable, not handed out yet, within the limit of bytes being applied.
  bool HasCommitted(uint64_t max_apply_bytes) const;
  void TakeCommitted(uint64_t max_bytes, std::vector<Entry>* out);

 private:
  struct Write {
    ::kvd::raft::Persisted ack;
    Index valid_to;
  };
  struct Batch {
    Index last;
    uint64_t bytes;
  };
  void InvalidateWritesFrom(Index index);
  void StableTo(Index index);

  const LogView* view_;
  EntryQueue unstable_;
  Index offset_;  // of unstable_[0], or the next index
  Index handed_;  // entries before it are in a Ready
  std::shared_ptr<const Snapshot> snapshot_;
  bool snapshot_handed_ = false;
  std::deque<Write> writes_;

  Index commit_;
  Index applying_;  // handed out up to here
  Index applied_;
  std::deque<Batch> batches_;
  uint64_t applying_bytes_ = 0;
};

}  // namespace kvd::raft
