#include "raft/memory_log.h"

#include <utility>

#include "base/check.h"

namespace kvd::raft {

MemoryLog::MemoryLog(SnapshotMeta start) : before_{start.index, start.term} {
  if (start.index > 0) to_send_ = std::move(start);
}

void MemoryLog::Append(absl::Span<const Entry> entries) {
  while (!entries.empty() && entries.front().index <= before_.index) entries.remove_prefix(1);
  if (entries.empty()) return;
  const Index from = entries.front().index;
  KVD_CHECK(from <= LastIndex() + 1, "entries must follow one another");
  while (LastIndex() >= from) {
    bytes_ -= EntryBytes(entries_.back());
    entries_.TruncateTo(entries_.size() - 1);
  }
  for (const Entry& e : entries) {
    KVD_CHECK(e.index == LastIndex() + 1, "entries must follow one another");
    bytes_ += EntryBytes(e);
    entries_.PushBack(e);
  }
}

void MemoryLog::Compact(Index index) {
  if (index <= before_.index) return;
  KVD_CHECK(index <= LastIndex(), "only what is there can be compacted");
  const size_t n = index - before_.index;
  before_ = {index, entries_[n - 1].term};
  for (size_t i = 0; i < n; ++i) bytes_ -= EntryBytes(entries_[i]);
  entries_.PopFront(n);
}

void MemoryLog::SetSnapshotToSend(std::optional<SnapshotMeta> meta) {
  to_send_ = std::move(meta);
}

void MemoryLog::InstallSnapshot(const SnapshotMeta& meta) {
  before_ = {meta.index, meta.term};
  entries_.Clear();
  bytes_ = 0;
  to_send_ = meta;
}

std::optional<Term> MemoryLog::TermAt(Index index) const {
  if (index == before_.index) return before_.term;
  if (index < before_.index || index > LastIndex()) return std::nullopt;
  return entries_[index - before_.index - 1].term;
}

void MemoryLog::Entries(Index low, Index high, uint64_t max_bytes, std::vector<Entry>* out) const {
  KVD_CHECK(low > before_.index && low <= high && high <= LastIndex() + 1,
            "the entries asked for must be there");
  uint64_t bytes = 0;
  size_t n = 0;
  const size_t first = low - before_.index - 1;
  for (; n < high - low; ++n) {
    bytes += EntryBytes(entries_[first + n]);
    if (n > 0 && bytes > max_bytes) break;
  }
  auto slice = entries_.Slice(first, first + n);
  out->insert(out->end(), slice.begin(), slice.end());
}

}  // namespace kvd::raft
