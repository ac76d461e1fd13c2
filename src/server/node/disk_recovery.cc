// What a member makes of a data directory that has lost a part: MemberDisk's ways out.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/file_system.h"
#include "base/log.h"
#include "base/strings.h"
#include "raft/conf_change.h"
#include "raft/membership.h"
#include "server/node/conf_state_json.h"
#include "server/node/log_records.h"
#include "server/node/member_disk.h"
#include "server/node/raft_convert.h"
#include "storage/store.h"
#include "wal/wal.h"

namespace kvd::server {
absl::StatusOr<bool> MemberDisk::HasState() {
  absl::StatusOr<std::optional<std::string>> generation = ActiveGeneration();
  if (!generation.ok()) return generation.status();
  if (!generation->has_value()) return false;
  absl::StatusOr<std::unique_ptr<storage::Store>> store = OpenStore(**generation, false);
  if (!store.ok()) return store.status();
  RememberMembers(**store);
  return (*store)->applied().index > 0;
}

absl::Status MemberDisk::CheckLogNotLost() {
  absl::StatusOr<bool> has_log = HasLog();
  if (!has_log.ok()) return has_log.status();
  if (*has_log) return absl::OkStatus();
  absl::StatusOr<bool> has_state = HasState();
  if (!has_state.ok()) return has_state.status();
  if (!*has_state) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      "the log in ", options_.wal_dir, " is missing, though the database in ", options_.backend_dir,
      " is there: what was written last, and what this member has voted, were only in the log"));
}

void MemberDisk::RememberMembers(const storage::Store& store) {
  known_members_.clear();
  store.ForEachInTable(storage::Table::kMembers, [this](std::string_view, std::string_view value) {
    absl::StatusOr<Member> member = MemberFromJson(value);
    if (member.ok()) known_members_.push_back(*std::move(member));
  });
}

absl::Status MemberDisk::SaveVersion(const State& state, const std::optional<DataVersion>& found) {
  DataVersion version;
  version.kvd = options_.program_version;
  version.member_id = state.member_id;
  version.cluster_id = state.cluster_id;
  if (found == version) return absl::OkStatus();
  return WriteDataVersion(fs_, options_.member_dir, version);
}

// An empty store, to which the log will be applied from its first entry.
absl::StatusOr<std::unique_ptr<storage::Store>> MemberDisk::RebuildStore() {
  absl::StatusOr<wal::Contents> log = wal::Wal::Read(fs_, options_.wal_dir, wal::SnapshotMarker());
  if (!log.ok()) {
    return absl::DataLossError(
        absl::StrCat("database file ", base::JoinPath(options_.backend_dir, kActiveFile),
                     " of the backend is missing, and it cannot be built again, since the log in ",
                     options_.wal_dir, " does not reach back to the first entry: ", log.status().message()));
  }
  KVD_LOG(kWarn, "the database is missing; building it again from the log, which is whole",
          {"path", options_.backend_dir}, {"entries", log->entries.size()});
  if (absl::Status made = fs_.CreateDirs(options_.backend_dir); !made.ok()) return made;
  return MakeStore();
}

// A log that begins where the state machine ends.
absl::Status MemberDisk::MakeLog(State& state) {
  const storage::AppliedState applied = state.store->applied();
  raft::ConfState conf;
  if (applied.index == 0 || !ConfStateFromJson(state.store->conf_state(), &conf)) {
    return absl::DataLossError(
        absl::StrCat("neither the log in ", options_.wal_dir, " nor the database holds a membership"));
  }
  std::vector<uint64_t> ids;
  for (const Member& member : known_members_) {
    ids.push_back(member.id);
    if (state.member_id == 0 && member.name == options_.name) state.member_id = member.id;
  }
  if (state.member_id == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("the database knows no member \"", options_.name, "\": --name is wrong"));
  }
  if (state.cluster_id == 0) state.cluster_id = ClusterIdOf(ids);
  KVD_LOG(kWarn, "making a log that begins where the database ends; what came later is lost",
          {"index", applied.index});
  absl::StatusOr<std::unique_ptr<wal::Wal>> wal = wal::Wal::Create(
      fs_, options_.wal_dir, EncodeLogMetadata(state.member_id, state.cluster_id), LogOptions());
  if (!wal.ok()) return wal.status();
  state.wal = std::move(*wal);
  // The votes of this term are not known any more.
  state.hard = {applied.term + 1, raft::kNoNode, applied.index};
  const wal::HardState hard = ToWal(state.hard);
  absl::Status written = state.wal->Append(&hard, {});
  if (written.ok()) written = state.wal->SaveSnapshot({applied.index, applied.term, EncodeConfState(conf)});
  state.log = std::make_unique<raft::MemoryLog>(raft::SnapshotMeta{applied.index, applied.term, {}});
  return written;
}

// Everything in the log counts as committed, and behind it all other members are removed. What was never
// committed is kept: it may have been acknowledged, and nobody is left who could say.
absl::Status MemberDisk::MakeAlone(State& state) {
  raft::ConfState conf = state.conf_state;
  const raft::Index first = std::max(state.store->applied().index + 1, state.log->FirstIndex());
  std::vector<raft::Entry> tail;
  if (first <= state.log->LastIndex()) {
    state.log->Entries(first, state.log->LastIndex() + 1, UINT64_MAX, &tail);
  }
  for (const raft::Entry& entry : tail) {
    if (entry.type == raft::EntryType::kNormal) continue;
    std::optional<raft::ConfChangeV2> change = raft::ConfChangeOf(entry);
    if (!change.has_value())
      return absl::DataLossError("a change of the membership in the log cannot be read");
    absl::StatusOr<raft::ConfState> next = raft::Change(conf, *change);
    if (next.ok()) conf = *std::move(next);
  }

  std::vector<raft::Entry> entries;
  raft::Index index = state.log->LastIndex();
  const raft::Term term = std::max(state.hard.term, state.log->TermAt(index).value_or(0));
  auto propose = [&](raft::ConfChange change) {
    ++index;
    change.id = index;
    entries.push_back(ChangeEntry(change, index, term));
  };
  const bool votes = std::find(conf.voters.begin(), conf.voters.end(), state.member_id) != conf.voters.end();
  if (!votes) {
    ConfChangeContext context;
    context.is_promote = true;
    context.member.id = state.member_id;
    for (const Member& member : known_members_) {
      if (member.id == state.member_id) context.member.peer_urls = member.peer_urls;
    }
    raft::ConfChange change;
    change.type = raft::ConfChangeType::kAddNode;
    change.node = state.member_id;
    change.context = ConfChangeContextToJson(context);
    propose(std::move(change));
  }
  for (const std::vector<raft::NodeId>* ids : {&conf.voters, &conf.learners}) {
    for (raft::NodeId id : *ids) {
      if (id == state.member_id) continue;
      raft::ConfChange change;
      change.type = raft::ConfChangeType::kRemoveNode;
      change.node = id;
      KVD_LOG(kWarn, "--force-new-cluster: removing a member", {"member-id", base::HexId(id)});
      propose(std::move(change));
    }
  }
  state.hard.term = term;
  state.hard.commit = index;
  const wal::HardState hard = ToWal(state.hard);
  absl::Status written = state.wal->Append(&hard, ToWal(entries));
  if (written.ok()) written = state.wal->Sync();
  if (!written.ok()) return written;
  state.log->Append(entries);
  return absl::OkStatus();
}

}  // namespace kvd::server
