// The part of the log that has left the core, as the core reads it back: entries to send to a follower,
// entries to apply, terms to compare. Synchronous and in memory; the driver keeps one (raft/memory_log.h) and
// writes it to disk beside.
//
// Thread-safety: thread-compatible, used on the core's thread. The core only reads.
#pragma once

#include <optional>
#include <vector>

#include "raft/types.h"

namespace kvd::raft {

// Entries FirstIndex()..LastIndex(); the log before them is compacted, but the term at FirstIndex()-1 is
// known. An empty log has LastIndex() == FirstIndex()-1.
//
// Contract with the core: the entries and the snapshot of a Ready are in the view at the latest when that
// Ready is acknowledged (RaftCore::OnPersisted), and no entry is compacted away before it was reported
// applied.
class LogView {
 public:
  virtual ~LogView() = default;
  virtual Index FirstIndex() const = 0;
  virtual Index LastIndex() const = 0;
  // The term at `index`; nullopt if it is compacted or beyond the end.
  virtual std::optional<Term> TermAt(Index index) const = 0;
  // Appends the entries [low, high) to *out, stopping before `max_bytes` (EntryBytes) would be exceeded, but
  // gives at least one. REQUIRES: FirstIndex() <= low <= high <= LastIndex()+1.
  virtual void Entries(Index low, Index high, uint64_t max_bytes, std::vector<Entry>* out) const = 0;
  // The snapshot that a follower behind FirstIndex() can be sent now: its index is at least FirstIndex()-1.
  // nullopt if there is none at the moment; the core asks again later.
  virtual std::optional<SnapshotMeta> SnapshotToSend() const = 0;
};

}  // namespace kvd::raft
