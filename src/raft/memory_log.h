// The recent log in memory: the LogView that a running member uses. The file log is only written; it is read
// back into one of these at the start.
//
// Thread-safety: thread-compatible, the core's thread only.
#pragma once

#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "raft/entry_queue.h"
#include "raft/log_view.h"
#include "raft/types.h"

namespace kvd::raft {

class MemoryLog final : public LogView {
 public:
  // An empty log whose next entry is start.index+1. `start` is what the state machine holds at the start: the
  // last snapshot, or {} in a new cluster.
  explicit MemoryLog(SnapshotMeta start = {});

  // Appends entries with consecutive indexes, first dropping everything from entries[0].index on. Entries at
  // or before FirstIndex()-1 are skipped. REQUIRES: no gap.
  void Append(absl::Span<const Entry> entries);
  // Drops the entries up to and including `index`; a smaller index than before does nothing.
  // REQUIRES: index <= LastIndex().
  void Compact(Index index);
  // Sets what SnapshotToSend() gives; nullopt while no snapshot can be made.
  void SetSnapshotToSend(std::optional<SnapshotMeta> meta);
  // Replaces everything by an empty log behind the snapshot, which also becomes the one to send.
  void InstallSnapshot(const SnapshotMeta& meta);

  uint64_t bytes() const { return bytes_; }  // EntryBytes of all entries held
  size_t size() const { return entries_.size(); }

  Index FirstIndex() const override { return before_.index + 1; }
  Index LastIndex() const override { return before_.index + entries_.size(); }
  std::optional<Term> TermAt(Index index) const override;
  void Entries(Index low, Index high, uint64_t max_bytes, std::vector<Entry>* out) const override;
  std::optional<SnapshotMeta> SnapshotToSend() const override { return to_send_; }

 private:
  struct Point {
    Index index = 0;
    Term term = 0;
  };
  Point before_;  // the entry before the first
  EntryQueue entries_;
  uint64_t bytes_ = 0;
  std::optional<SnapshotMeta> to_send_;
};

}  // namespace kvd::raft
