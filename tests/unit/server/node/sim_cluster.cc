#include "sim_cluster.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace kvd::server {

// Every message takes its own time, so they overtake one another; some are lost.
class SimCluster::Network final : public PeerNetwork {
 public:
  Network(SimCluster& cluster, size_t self) : cluster_(cluster), self_(self) {}

  void Send(std::vector<raft::Message> messages) override {
    for (raft::Message& message : messages) {
      if (message.type == raft::MessageType::kSnap) {
        SendSnapshot(std::move(message));
        continue;
      }
      if (cluster_.random_.Chance(cluster_.options_.loss)) continue;
      Deliver(std::move(message));
    }
  }
  void AddPeer(uint64_t, std::vector<std::string>) override {}
  void UpdatePeer(uint64_t, std::vector<std::string>) override {}
  void RemovePeer(uint64_t) override {}
  std::optional<base::Nanos> ActiveSince(uint64_t id) const override {
    for (size_t i = 0; i < cluster_.members_.size(); ++i) {
      if (cluster_.members_[i].id == id && cluster_.alive(i) && !cluster_.isolated_.contains(i))
        return base::Nanos(1);
    }
    return std::nullopt;
  }
  void Ask(std::vector<std::string> urls, PeerRequest request, Done done) override {
    for (size_t i = 0; i < cluster_.members_.size(); ++i) {
      if (cluster_.founders_[i].peer_urls != urls) continue;
      Later([this, i, request = std::move(request), done = std::move(done)]() mutable {
        if (!cluster_.alive(i) || Cut(i)) return done(absl::UnavailableError("cut off"));
        cluster_.node(i).OnRequest(request,
                                   [done = std::move(done)](PeerAnswer answer) mutable { done(answer); });
      });
      return;
    }
    done(absl::UnavailableError("nobody there"));
  }

 private:
  bool Cut(size_t to) const { return cluster_.isolated_.contains(self_) || cluster_.isolated_.contains(to); }

  void Later(base::Task task) {
    uint64_t most = static_cast<uint64_t>(cluster_.options_.max_delay.count());
    cluster_.wire_->PostAfter(base::Nanos(cluster_.random_.Below(most) + 1), std::move(task));
  }

  void Deliver(raft::Message message) {
    for (size_t i = 0; i < cluster_.members_.size(); ++i) {
      if (cluster_.members_[i].id != message.to) continue;
      Later([this, i, message = std::move(message)]() mutable {
        if (!cluster_.alive(i) || Cut(i)) return;
        std::vector<raft::Message> one;
        one.push_back(std::move(message));
        cluster_.node(i).OnMessages(std::move(one));
      });
      return;
    }
  }

  // The file of one member's disk becomes a file of the other's.
  void SendSnapshot(raft::Message message) {
    size_t to = 0;
    while (cluster_.members_[to].id != message.to) ++to;
    cluster_.node(self_).MakeSnapshot(
        std::move(message), [this, to](absl::StatusOr<PeerReceiver::SnapshotFile> file) {
          uint64_t id = cluster_.members_[to].id;
          if (!file.ok() || !cluster_.alive(to) || Cut(to))
            return cluster_.node(self_).OnSnapshotSent(id, false);
          absl::StatusOr<std::string> bytes = base::ReadFile(*cluster_.members_[self_].fs, file->path);
          KVD_CHECK(bytes.ok(), "a snapshot that was made can be read");
          std::string path = cluster_.node(to).IncomingSnapshotPath();
          absl::Status written = base::WriteFileAtomically(*cluster_.members_[to].fs, path, *bytes);
          KVD_CHECK(written.ok(), "a snapshot can be written");
          cluster_.node(to).AdoptSnapshot(std::move(file->message), path, [this, id](absl::Status adopted) {
            if (cluster_.alive(self_)) cluster_.node(self_).OnSnapshotSent(id, adopted.ok());
          });
          cluster_.node(self_).DropSnapshot(file->path);
        });
  }

  SimCluster& cluster_;
  const size_t self_;
};

SimCluster::SimCluster(const Options& options)
    : options_(options),
      random_(options.seed),
      scheduler_(options.seed),
      wire_(scheduler_.NewExecutor("wire")) {
  std::vector<uint64_t> ids;
  for (size_t i = 0; i < options.members; ++i) {
    Member member;
    member.name = "m" + std::to_string(i);
    member.peer_urls = {"http://127.0.0.1:" + std::to_string(10000 + i)};
    member.id = BootstrapMemberId(member.peer_urls, "sim");
    member.name.clear();
    ids.push_back(member.id);
    founders_.push_back(member);
  }
  cluster_id_ = ClusterIdOf(ids);
  members_.resize(options.members);
  for (size_t i = 0; i < options.members; ++i) {
    members_[i].id = ids[i];
    members_[i].fs = std::make_unique<base::MemFileSystem>();
    members_[i].network = std::make_unique<Network>(*this, i);
    Boot(i, true);
  }
}

SimCluster::~SimCluster() {
  for (size_t i = 0; i < members_.size(); ++i) TearDown(i);
}

DiskOptions SimCluster::DiskOf(size_t i) {
  DiskOptions disk;
  disk.member_dir = "/data/member";
  disk.wal_dir = "/data/member/wal";
  disk.snap_dir = "/data/member/snap";
  disk.backend_dir = "/data/member/rocksdb";
  disk.open_engine = [this, i](const std::string& path,
                               bool) -> absl::StatusOr<std::unique_ptr<storage::Engine>> {
    std::shared_ptr<storage::ModelDisk>& engine = members_[i].engines[path];
    if (engine == nullptr) engine = storage::NewModelDisk();
    return storage::OpenModelEngine(engine, 50);
  };
  return disk;
}

void SimCluster::Boot(size_t i, bool fresh) {
  MemberState& m = members_[i];
  for (const char* name : {"consensus", "log", "apply", "watch", "background"}) {
    m.executors.push_back(scheduler_.NewExecutor(name));
  }
  NodeExecutors executors{*m.executors[0], *m.executors[1], *m.executors[2], *m.executors[3],
                          *m.executors[4]};
  m.disk = std::make_unique<MemberDisk>(DiskOf(i), *m.fs, executors.background);
  absl::StatusOr<MemberDisk::State> state =
      fresh ? m.disk->Create(m.id, cluster_id_, founders_) : m.disk->Open();
  KVD_CHECK(state.ok(), std::string(state.status().ToString()).c_str());
  NodeOptions options;
  options.name = "m" + std::to_string(i);
  options.client_urls = {"http://127.0.0.1:" + std::to_string(20000 + i)};
  options.seed = options_.seed * 1000 + i * 100 + m.starts++;
  options.snapshot_count = 200;
  options.snapshot_catchup_entries = 100;
  Node::Events events;
  events.on_ready = [] {};
  events.on_removed = [] {};
  m.node = std::make_unique<Node>(options, executors, *m.disk, std::move(*state),
                                  fresh ? founders_ : std::vector<Member>(), *m.network, std::move(events));
  absl::Status loaded = m.node->Load();
  KVD_CHECK(loaded.ok(), "the store can be loaded");
  m.node->Start();
}

void SimCluster::TearDown(size_t i) {
  MemberState& m = members_[i];
  m.executors.clear();  // what was posted is dropped
  m.node.reset();
  m.disk.reset();
}

void SimCluster::Kill(size_t i) {
  TearDown(i);
}

void SimCluster::Crash(size_t i) {
  TearDown(i);
  base::MemFileSystem::CrashOptions crash;
  crash.keep_write = random_.Unit();
  crash.keep_directory_op = random_.Unit();
  members_[i].fs = members_[i].fs->CrashClone(random_, crash);
}

void SimCluster::Restart(size_t i) {
  Boot(i, false);
}

std::optional<size_t> SimCluster::Leader() {
  for (size_t i = 0; i < members_.size(); ++i) {
    if (!alive(i) || !node(i).is_leader() || isolated_.contains(i)) continue;
    size_t followers = 0;
    for (size_t k = 0; k < members_.size(); ++k) {
      if (alive(k) && node(k).driver().leader() == members_[i].id && node(k).term() == node(i).term())
        ++followers;
    }
    if (followers > members_.size() / 2) return i;
  }
  return std::nullopt;
}

bool SimCluster::WaitForLeader() {
  return RunUntil([this] { return Leader().has_value(); });
}

std::shared_ptr<SimCluster::Result> SimCluster::Propose(size_t i, RequestField field,
                                                        const std::string& request) {
  auto result = std::make_shared<Result>();
  node(i).Propose(field, request, [result](ApplyOutcome&& outcome) {
    result->outcome = std::move(outcome);
    result->finished = true;
  });
  return result;
}

std::shared_ptr<SimCluster::Result> SimCluster::Put(size_t i, const std::string& key,
                                                    const std::string& value, int64_t lease) {
  std::string request;
  AppendBytesField(request, 1, key);
  AppendBytesField(request, 2, value);
  AppendInt64Field(request, 3, lease);
  return Propose(i, RequestField::kPut, request);
}

std::shared_ptr<SimCluster::ReadResult> SimCluster::Get(size_t i, const std::string& key) {
  auto result = std::make_shared<ReadResult>();
  node(i).LinearizableRead([this, i, key, result](Error error) {
    result->finished = true;
    result->error = error;
    if (error != Error::kOk) return;
    std::string record;
    result->found = node(i).store().GetAt(key, 0, &record);
    storage::KeyValueView kv;
    if (result->found && storage::DecodeKeyValue(record, &kv)) result->value = std::string(kv.value);
  });
  return result;
}

bool SimCluster::Converged() {
  std::optional<uint64_t> applied;
  std::optional<uint32_t> hash;
  for (size_t i = 0; i < members_.size(); ++i) {
    if (!alive(i)) continue;
    if (!applied) applied = node(i).applier().applied_index();
    if (node(i).applier().applied_index() != *applied) return false;
  }
  for (size_t i = 0; i < members_.size(); ++i) {
    if (!alive(i)) continue;
    uint32_t h = node(i).store().HashKv(0).hash;
    if (!hash) hash = h;
    if (h != *hash) return false;
  }
  return true;
}

}  // namespace kvd::server
