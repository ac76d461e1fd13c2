// What a member has on disk, opened: the log, the state machine, and the snapshot files beside them.
//
//   <data-dir>/member/wal/               the log (wal/wal.h)
//   <data-dir>/member/rocksdb/ACTIVE     the name of the directory beside it that holds the state machine
//   <data-dir>/member/rocksdb/<n>/       a RocksDB; a received snapshot becomes <n+1>
//   <data-dir>/member/version            who wrote it last (server/node/data_version.h)
//   <data-dir>/member/snap/              %016x.snap.db: received databases, named after their index; tmp*:
//   unfinished
//
// A received snapshot takes effect in this order, so that a crash at any point leaves either the old state or
// the new one: its file is synced; the log gets a marker; the file is built into a new RocksDB; ACTIVE names
// it. If the log's newest marker is ahead of the state machine, opening does the last two again.
//
// Thread-safety: Open and Create before the member runs; InstallSnapshot on the apply thread; the rest any
// thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "raft/memory_log.h"
#include "raft/types.h"
#include "server/membership/member.h"
#include "server/node/data_version.h"

namespace kvd::base {
class Executor;
class FileSystem;
}  // namespace kvd::base
namespace kvd::storage {
class Engine;
class Store;
}  // namespace kvd::storage
namespace kvd::wal {
class Wal;
struct Options;
}  // namespace kvd::wal

namespace kvd::server {

struct DiskOptions {
  std::string member_dir;  // <data-dir>/member
  std::string wal_dir;
  std::string snap_dir;
  std::string backend_dir;  // <data-dir>/member/rocksdb
  uint32_t max_wals = 5;
  uint64_t wal_segment_bytes = 64'000'000;
  bool no_fsync = false;
  std::string program_version;  // of this kvd, for member/version
  std::string name;             // of this member, for force_new_cluster where the log is lost
  // --force-new-cluster: Open makes a cluster of this member alone, with all that its log and its state
  // machine hold, committed or not; also where the log is lost.
  bool force_new_cluster = false;
  uint64_t block_cache_bytes = 256ull << 20;
  uint64_t write_buffer_bytes = 64ull << 20;
  // Opens the engine in a directory, created if it may be. Null: RocksDB.
  std::function<absl::StatusOr<std::unique_ptr<storage::Engine>>(const std::string& path, bool create)>
      open_engine;
};

class MemberDisk {
 public:
  struct State {
    uint64_t member_id = 0;
    uint64_t cluster_id = 0;
    std::unique_ptr<wal::Wal> wal;
    std::unique_ptr<storage::Store> store;
    std::unique_ptr<raft::MemoryLog> log;
    raft::HardState hard;
    raft::ConfState conf_state;  // at the state machine's applied index
  };

  MemberDisk(DiskOptions options, base::FileSystem& fs, base::Executor& background);

  absl::StatusOr<bool> HasLog() const;
  // Bytes free where the member's files are, and how many should be, beside what the state machine has yet
  // to flush: as long as there are so many, the log can begin a new segment and the state machine flush, so
  // that deletes and compaction still work. Any thread.
  absl::StatusOr<uint64_t> FreeBytes() const;
  uint64_t ReserveBytes() const { return options_.wal_segment_bytes + options_.write_buffer_bytes; }
  // Whether there is a state machine that has applied something. Before Open and Create.
  absl::StatusOr<bool> HasState();
  // kDataLoss if there is such a state machine and no log: what makes the directory a member's is gone.
  absl::Status CheckLogNotLost();
  // An empty member. `first_members` are those that found the cluster: the log begins with the entries that
  // add them, the same on each of them; none for a member that joins.
  absl::StatusOr<State> Create(uint64_t member_id, uint64_t cluster_id, std::vector<Member> first_members);
  // A state machine that is missing is built again if the log reaches back to the first entry. Errors:
  // kDataLoss where something is missing or damaged, with what it is; kFailedPrecondition for data of a later
  // program; those of the log (wal.h) and of the store.
  absl::StatusOr<State> Open();
  // The members that the state machine knew when it was opened, as far as that came.
  const std::vector<Member>& known_members() const { return known_members_; }

  // A consistent image of the store as an etcd database with its checksum behind it, in a new file under
  // snap/. Long; on a background thread. Gives its size.
  struct Image {
    std::string path;
    uint64_t size_bytes = 0;
    raft::SnapshotMeta meta;
  };
  absl::StatusOr<Image> WriteImage(const storage::Store& store);
  // Names for what comes in and for what it becomes.
  std::string IncomingPath();
  std::string SnapshotPath(raft::Index index) const;
  void RemoveTemporary(const std::string& path);  // a failure is logged; the next start removes it
  // Gives the synced file its final name.
  absl::Status KeepSnapshot(const std::string& path, raft::Index index);
  // Builds the received snapshot into a new store.
  absl::StatusOr<std::unique_ptr<storage::Store>> LoadSnapshot(const raft::SnapshotMeta& meta);
  // Makes what LoadSnapshot built the member's own, and removes files that are no longer needed. The old
  // store is closed by now.
  absl::Status ActivateLoaded();

 private:
  static constexpr std::string_view kActiveFile = "ACTIVE";
  static constexpr std::string_view kFirstGeneration = "1";

  wal::Options LogOptions() const;
  absl::StatusOr<std::unique_ptr<storage::Engine>> OpenEngine(const std::string& generation, bool create);
  absl::StatusOr<std::unique_ptr<storage::Store>> OpenStore(const std::string& generation, bool create);
  absl::StatusOr<std::unique_ptr<storage::Store>> MakeStore();
  absl::StatusOr<std::optional<std::string>> ActiveGeneration() const;
  absl::StatusOr<std::unique_ptr<storage::Store>> RebuildStore();
  absl::Status RecoverSnapshot(uint64_t index, uint64_t term, const std::string& conf_state, State& state);
  absl::Status OpenLog(State& state, bool from_first);
  // The two of --force-new-cluster.
  absl::Status MakeLog(State& state);
  absl::Status MakeAlone(State& state);
  void RememberMembers(const storage::Store& store);
  absl::Status SaveVersion(const State& state, const std::optional<DataVersion>& found);
  absl::Status CleanUp();

  const DiskOptions options_;
  base::FileSystem& fs_;
  base::Executor& background_;
  std::string generation_;         // of the active store
  std::string loaded_generation_;  // built, not yet active
  std::vector<Member> known_members_;
  std::atomic<uint64_t> next_temporary_{1};
};

// The log's metadata record: etcdserverpb.Metadata{NodeID = 1, ClusterID = 2}.
std::string EncodeLogMetadata(uint64_t member_id, uint64_t cluster_id);
bool DecodeLogMetadata(std::string_view bytes, uint64_t* member_id, uint64_t* cluster_id);

}  // namespace kvd::server
