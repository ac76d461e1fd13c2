#include "server/node/member_disk.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/file_system.h"
#include "base/log.h"
#include "base/sites.h"
#include "base/strings.h"
#include "server/node/conf_state_json.h"
#include "server/node/log_records.h"
#include "server/node/raft_convert.h"
#include "server/node/snapshot_file.h"
#include "server/node/wire_codec.h"
#include "storage/store.h"
#include "wal/wal.h"

namespace kvd::server {
namespace {

constexpr std::string_view kSnapshotSuffix = ".snap.db";
constexpr std::string_view kTemporaryPrefix = "tmp";
constexpr raft::Term kBootstrapTerm = 1;

storage::RocksOptions EngineOptions(const DiskOptions& options, bool create) {
  storage::RocksOptions out;
  out.block_cache_bytes = options.block_cache_bytes;
  out.write_buffer_bytes = options.write_buffer_bytes;
  out.create_if_missing = create;
  return out;
}

// The entries that add the founders, the same on each of them (ETCD: raft's StartNode).
std::vector<raft::Entry> FoundingEntries(std::vector<Member> members) {
  std::sort(members.begin(), members.end(), [](const Member& a, const Member& b) { return a.id < b.id; });
  std::vector<raft::Entry> entries;
  for (const Member& member : members) {
    raft::ConfChange change;
    change.type = raft::ConfChangeType::kAddNode;
    change.node = member.id;
    change.context = MemberToJson(member);
    entries.push_back(ChangeEntry(change, entries.size() + 1, kBootstrapTerm));
  }
  return entries;
}

// What of the log stands behind the marker. Entries of an older term were overwritten by the snapshot that
// the marker names and only look as if they followed it.
std::vector<raft::Entry> FromWal(std::vector<wal::Entry>&& entries, raft::Term marker_term) {
  std::vector<raft::Entry> out;
  out.reserve(entries.size());
  for (wal::Entry& e : entries) {
    if (e.term < marker_term) break;
    out.push_back({e.term, e.index, static_cast<raft::EntryType>(e.type), std::move(e.data)});
  }
  return out;
}

}  // namespace

std::string EncodeLogMetadata(uint64_t member_id, uint64_t cluster_id) {
  std::string out;
  AppendUint64Field(out, 1, member_id);
  AppendUint64Field(out, 2, cluster_id);
  return out;
}

bool DecodeLogMetadata(std::string_view bytes, uint64_t* member_id, uint64_t* cluster_id) {
  *member_id = *cluster_id = 0;
  FieldReader fields(bytes);
  while (fields.Next()) {
    if (fields.field() == 1) *member_id = fields.varint();
    if (fields.field() == 2) *cluster_id = fields.varint();
  }
  return fields.ok() && *member_id != 0 && *cluster_id != 0;
}

MemberDisk::MemberDisk(DiskOptions options, base::FileSystem& fs, base::Executor& background)
    : options_(std::move(options)), fs_(fs), background_(background) {}

absl::StatusOr<bool> MemberDisk::HasLog() const {
  return wal::Wal::Exists(fs_, options_.wal_dir);
}

absl::StatusOr<uint64_t> MemberDisk::FreeBytes() const {
  return fs_.FreeBytes(options_.member_dir);
}

// Nothing where there is no state machine.
absl::StatusOr<std::optional<std::string>> MemberDisk::ActiveGeneration() const {
  absl::StatusOr<std::string> name = base::ReadFile(fs_, base::JoinPath(options_.backend_dir, kActiveFile));
  if (absl::IsNotFound(name.status())) return std::nullopt;
  if (!name.ok()) return name.status();
  if (options_.open_engine) return *name;
  // Of RocksDB's files this one names all others.
  const std::string dir = base::JoinPath(options_.backend_dir, *name);
  absl::StatusOr<bool> there = fs_.Exists(base::JoinPath(dir, "CURRENT"));
  if (!there.ok()) return there.status();
  if (!*there) return std::nullopt;
  return *name;
}

absl::StatusOr<std::unique_ptr<storage::Engine>> MemberDisk::OpenEngine(const std::string& generation,
                                                                        bool create) {
  std::string path = base::JoinPath(options_.backend_dir, generation);
  if (options_.open_engine) return options_.open_engine(path, create);
  return storage::OpenRocksEngine(path, EngineOptions(options_, create));
}

absl::StatusOr<std::unique_ptr<storage::Store>> MemberDisk::OpenStore(const std::string& generation,
                                                                      bool create) {
  absl::StatusOr<std::unique_ptr<storage::Engine>> engine = OpenEngine(generation, create);
  if (!engine.ok()) return engine.status();
  return storage::Store::Open(std::move(*engine), background_);
}

// An empty one in the place of what is there under its name.
absl::StatusOr<std::unique_ptr<storage::Store>> MemberDisk::MakeStore() {
  generation_ = kFirstGeneration;
  if (absl::Status cleared = fs_.RemoveAll(base::JoinPath(options_.backend_dir, generation_));
      !cleared.ok()) {
    return cleared;
  }
  absl::StatusOr<std::unique_ptr<storage::Store>> store = OpenStore(generation_, true);
  if (!store.ok()) return store.status();
  absl::Status named =
      base::WriteFileAtomically(fs_, base::JoinPath(options_.backend_dir, kActiveFile), generation_);
  if (!named.ok()) return named;
  return store;
}

wal::Options MemberDisk::LogOptions() const {
  wal::Options out;
  out.max_segments = options_.max_wals;
  out.segment_bytes = options_.wal_segment_bytes;
  out.no_fsync = options_.no_fsync;
  out.background = &background_;
  return out;
}

absl::StatusOr<MemberDisk::State> MemberDisk::Create(uint64_t member_id, uint64_t cluster_id,
                                                     std::vector<Member> first_members) {
  for (const std::string& dir : {options_.member_dir, options_.snap_dir, options_.backend_dir}) {
    if (absl::Status made = fs_.CreateDirs(dir); !made.ok()) return made;
  }
  State state;
  state.member_id = member_id;
  state.cluster_id = cluster_id;
  // A start that was cut short left a state machine without a log: nothing in it was ever acknowledged.
  absl::StatusOr<std::unique_ptr<storage::Store>> store = MakeStore();
  if (!store.ok()) return store.status();
  state.store = std::move(*store);

  // Last: a log is what makes the directory a member's.
  absl::StatusOr<std::unique_ptr<wal::Wal>> wal =
      wal::Wal::Create(fs_, options_.wal_dir, EncodeLogMetadata(member_id, cluster_id), LogOptions());
  if (!wal.ok()) return wal.status();
  state.wal = std::move(*wal);
  state.log = std::make_unique<raft::MemoryLog>();
  std::vector<raft::Entry> entries = FoundingEntries(std::move(first_members));
  if (!entries.empty()) {
    state.hard = {kBootstrapTerm, raft::kNoNode, entries.back().index};
    const wal::HardState hard = ToWal(state.hard);
    absl::Status written = state.wal->Append(&hard, ToWal(entries));
    if (written.ok()) written = state.wal->Sync();
    if (!written.ok()) return written;
    state.log->Append(entries);
  }
  if (absl::Status saved = SaveVersion(state, std::nullopt); !saved.ok()) return saved;
  return state;
}

absl::StatusOr<MemberDisk::State> MemberDisk::Open() {
  absl::StatusOr<std::optional<DataVersion>> version = ReadDataVersion(fs_, options_.member_dir);
  if (!version.ok()) return version.status();
  absl::StatusOr<bool> has_log = HasLog();
  if (!has_log.ok()) return has_log.status();
  absl::StatusOr<std::optional<std::string>> generation = ActiveGeneration();
  if (!generation.ok()) return generation.status();
  State state;
  const bool rebuild = !generation->has_value();
  if (!rebuild) generation_ = **generation;
  absl::StatusOr<std::unique_ptr<storage::Store>> store =
      rebuild ? RebuildStore() : OpenStore(generation_, false);
  if (!store.ok()) return store.status();
  state.store = std::move(*store);
  RememberMembers(*state.store);
  if (version->has_value()) {
    state.member_id = (*version)->member_id;
    state.cluster_id = (*version)->cluster_id;
  }
  absl::Status log = *has_log ? OpenLog(state, rebuild) : MakeLog(state);
  if (!log.ok()) return log;
  if (version->has_value() &&
      (state.member_id != (*version)->member_id || state.cluster_id != (*version)->cluster_id)) {
    return absl::DataLossError(absl::StrCat(
        "the log in ", options_.wal_dir, " is that of member ", base::HexId(state.member_id), " of cluster ",
        base::HexId(state.cluster_id), ", but the data in ", options_.member_dir, " are those of member ",
        base::HexId((*version)->member_id), " of cluster ", base::HexId((*version)->cluster_id)));
  }
  if (state.store->applied().index > 0 && !ConfStateFromJson(state.store->conf_state(), &state.conf_state)) {
    return absl::DataLossError("the membership in the state machine cannot be read");
  }
  if (options_.force_new_cluster) {
    if (absl::Status alone = MakeAlone(state); !alone.ok()) return alone;
  }
  if (absl::Status saved = SaveVersion(state, *version); !saved.ok()) return saved;
  if (absl::Status cleaned = CleanUp(); !cleaned.ok()) {
    KVD_LOG(kWarn, "left-over files were not removed", {"error", cleaned});
  }
  return state;
}

// A received snapshot that the log knows of and the state machine does not hold yet.
absl::Status MemberDisk::RecoverSnapshot(uint64_t index, uint64_t term, const std::string& conf_state,
                                         State& state) {
  KVD_PROBE("node/snapshot taken up at the start");
  KVD_LOG(kInfo, "Recovering from snapshot backend", {"snapshot-index", index});
  raft::SnapshotMeta meta{index, term, {}};
  DecodeConfState(conf_state, &meta.conf_state);
  absl::StatusOr<std::unique_ptr<storage::Store>> loaded = LoadSnapshot(meta);
  if (absl::IsNotFound(loaded.status())) {
    return absl::DataLossError(
        absl::StrCat("the log in ", options_.wal_dir, " begins after index ", index,
                     ", the state machine ends at ", state.store->applied().index,
                     ", and the snapshot between them is missing: ", loaded.status().message()));
  }
  if (!loaded.ok()) return loaded.status();
  state.store = std::move(*loaded);
  return ActivateLoaded();
}

absl::Status MemberDisk::OpenLog(State& state, bool from_first) {
  wal::SnapshotMarker from;
  if (!from_first) {
    absl::StatusOr<std::vector<wal::SnapshotMarker>> markers =
        wal::Wal::ReadSnapshotMarkers(fs_, options_.wal_dir);
    if (!markers.ok()) return markers.status();
    if (markers->empty())
      return absl::DataLossError(absl::StrCat("the log in ", options_.wal_dir, " has no marker"));
    from = markers->back();
    if (from.index > state.store->applied().index) {
      if (absl::Status recovered = RecoverSnapshot(from.index, from.term, from.conf_state, state);
          !recovered.ok()) {
        return recovered;
      }
    }
  }
  absl::StatusOr<wal::Wal::Opened> opened = wal::Wal::Open(fs_, options_.wal_dir, from, LogOptions());
  if (!opened.ok()) return opened.status();
  state.wal = std::move(opened->wal);
  wal::Contents& contents = opened->contents;
  if (contents.repair) {
    KVD_LOG(kWarn, "repaired the torn end of the log", {"path", contents.repair->path},
            {"offset", contents.repair->offset}, {"reason", contents.repair->reason},
            {"copy", contents.repair->broken_copy});
  }
  if (!DecodeLogMetadata(contents.metadata, &state.member_id, &state.cluster_id)) {
    return absl::DataLossError(absl::StrCat("the log in ", options_.wal_dir, " does not say whose it is"));
  }
  state.log = std::make_unique<raft::MemoryLog>(raft::SnapshotMeta{from.index, from.term, {}});
  state.log->Append(FromWal(std::move(contents.entries), from.term));
  state.hard = {contents.hard_state.term, contents.hard_state.vote, contents.hard_state.commit};
  // The commit index is written lazily; what was applied was committed.
  const raft::Index applied = state.store->applied().index;
  state.hard.commit = std::max<uint64_t>(state.hard.commit, applied);
  if (applied < state.hard.commit) KVD_PROBE("node/log replayed");
  if (state.log->LastIndex() < state.hard.commit) {
    KVD_PROBE("node/loss of committed entries found");
    return absl::DataLossError(absl::StrCat("the log in ", options_.wal_dir, " ends at index ",
                                            state.log->LastIndex(), ", but index ", state.hard.commit,
                                            " was committed: entries are lost"));
  }
  return absl::OkStatus();
}

std::string MemberDisk::IncomingPath() {
  return base::JoinPath(options_.snap_dir,
                        absl::StrCat(base::ToAbsl(kTemporaryPrefix), next_temporary_.fetch_add(1)));
}

std::string MemberDisk::SnapshotPath(raft::Index index) const {
  return base::JoinPath(options_.snap_dir, absl::StrFormat("%016x%s", index, base::ToAbsl(kSnapshotSuffix)));
}

void MemberDisk::RemoveTemporary(const std::string& path) {
  if (absl::Status removed = fs_.Remove(path); !removed.ok()) {
    KVD_LOG(kWarn, "a temporary snapshot was not removed", {"path", path}, {"error", removed});
  }
}

absl::Status MemberDisk::KeepSnapshot(const std::string& path, raft::Index index) {
  if (absl::Status renamed = fs_.Rename(path, SnapshotPath(index)); !renamed.ok()) return renamed;
  return fs_.SyncDir(options_.snap_dir);
}

absl::StatusOr<MemberDisk::Image> MemberDisk::WriteImage(const storage::Store& store) {
  std::unique_ptr<storage::StoreImage> image = store.OpenImage();
  Image out;
  out.path = IncomingPath();
  out.meta.index = image->applied().index;
  out.meta.term = image->applied().term;
  if (!ConfStateFromJson(image->conf_state(), &out.meta.conf_state)) {
    return absl::InternalError("the membership in the state machine cannot be read");
  }
  absl::StatusOr<uint64_t> size = WriteSnapshotFile(*image, fs_, out.path, Checksum::kNone);
  if (!size.ok()) {
    RemoveTemporary(out.path);
    return size.status();
  }
  out.size_bytes = *size;
  return out;
}

absl::StatusOr<std::unique_ptr<storage::Store>> MemberDisk::LoadSnapshot(const raft::SnapshotMeta& meta) {
  uint64_t number = 0;
  std::from_chars(generation_.data(), generation_.data() + generation_.size(), number);
  loaded_generation_ = absl::StrCat(number + 1);
  std::string path = base::JoinPath(options_.backend_dir, loaded_generation_);
  if (absl::Status cleared = fs_.RemoveAll(path); !cleared.ok()) return cleared;
  absl::StatusOr<std::unique_ptr<storage::Engine>> engine = OpenEngine(loaded_generation_, true);
  if (!engine.ok()) return engine.status();
  storage::StoreBuilder builder(**engine);
  if (absl::Status read = ReadSnapshotFile(fs_, SnapshotPath(meta.index), builder); !read.ok()) return read;
  builder.SetApplied({meta.index, meta.term});
  if (!meta.conf_state.voters.empty()) builder.SetConfState(ConfStateToJson(meta.conf_state));
  if (absl::Status finished = builder.Finish(); !finished.ok()) return finished;
  return storage::Store::Open(std::move(*engine), background_);
}

absl::Status MemberDisk::ActivateLoaded() {
  if (absl::Status named = base::WriteFileAtomically(fs_, base::JoinPath(options_.backend_dir, kActiveFile),
                                                     loaded_generation_);
      !named.ok()) {
    return named;
  }
  generation_ = loaded_generation_;
  return absl::OkStatus();
}

// Removes snapshot files and state machines that nothing refers to any more.
absl::Status MemberDisk::CleanUp() {
  absl::StatusOr<std::vector<std::string>> snaps = fs_.List(options_.snap_dir);
  if (!snaps.ok()) return snaps.status();
  for (const std::string& name : *snaps) {
    if (!name.starts_with(kTemporaryPrefix) && !name.ends_with(kSnapshotSuffix)) continue;
    if (absl::Status removed = fs_.Remove(base::JoinPath(options_.snap_dir, name)); !removed.ok())
      return removed;
  }
  absl::StatusOr<std::vector<std::string>> generations = fs_.List(options_.backend_dir);
  if (!generations.ok()) return generations.status();
  for (const std::string& name : *generations) {
    bool is_number =
        !name.empty() && std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!is_number || name == generation_) continue;
    if (absl::Status removed = fs_.RemoveAll(base::JoinPath(options_.backend_dir, name)); !removed.ok())
      return removed;
  }
  return absl::OkStatus();
}

}  // namespace kvd::server
