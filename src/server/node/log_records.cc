#include "server/node/log_records.h"

#include "raft/conf_change.h"
#include "server/node/raft_convert.h"
#include "wal/wal.h"

namespace kvd::server {

wal::HardState ToWal(const raft::HardState& hard) {
  return {hard.term, hard.vote, hard.commit};
}

wal::SnapshotMarker ToWal(const raft::SnapshotMeta& meta) {
  return {meta.index, meta.term, EncodeConfState(meta.conf_state)};
}

std::vector<wal::Entry> ToWal(const std::vector<raft::Entry>& entries) {
  std::vector<wal::Entry> out;
  out.reserve(entries.size());
  for (const raft::Entry& e : entries) out.push_back({e.index, e.term, static_cast<int32_t>(e.type), e.data});
  return out;
}

raft::Entry ChangeEntry(const raft::ConfChange& change, raft::Index index, raft::Term term) {
  raft::Entry entry;
  entry.term = term;
  entry.index = index;
  entry.type = raft::EntryType::kConfChange;
  entry.data = base::SharedBytes(raft::EncodeConfChange(change));
  return entry;
}

}  // namespace kvd::server
