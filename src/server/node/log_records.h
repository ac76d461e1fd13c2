// What the core gives to be kept, as the log's records (wal/wal.h), and the entries that a member writes into
// its log without the core: those that change the membership where there is no leader yet or any more. The
// bytes of entries are shared, not copied.
//
// Thread-safety: functions without state; any thread.
#pragma once

#include <vector>

#include "raft/types.h"

namespace kvd::wal {
struct Entry;
struct HardState;
struct SnapshotMarker;
}  // namespace kvd::wal

namespace kvd::server {

wal::HardState ToWal(const raft::HardState& hard);
wal::SnapshotMarker ToWal(const raft::SnapshotMeta& meta);
std::vector<wal::Entry> ToWal(const std::vector<raft::Entry>& entries);
raft::Entry ChangeEntry(const raft::ConfChange& change, raft::Index index, raft::Term term);

}  // namespace kvd::server
