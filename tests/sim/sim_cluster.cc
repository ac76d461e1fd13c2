#include "sim_cluster.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "base/strings.h"
#include "raft_checker.h"
#include "sim_network.h"

namespace kvd::sim {

using server::Error;
using server::Member;
using server::Node;

// What the core of one member does, as long as that counts.
class SimCluster::Tap final : public raft::TraceSink {
 public:
  Tap(SimCluster& cluster, size_t self) : cluster_(cluster), self_(self) {}
  void OnEvent(raft::NodeId node, const raft::trace::Event& event) override {
    if (!cluster_.members_[self_].dying) cluster_.options_.checker->OnEvent(node, event);
  }

 private:
  SimCluster& cluster_;
  const size_t self_;
};

server::NodeOptions SimCluster::DefaultNode() {
  server::NodeOptions node;
  node.snapshot_count = 200;
  node.snapshot_catchup_entries = 100;
  return node;
}

SimCluster::SimCluster(const Options& options)
    : options_(options),
      random_(options.seed),
      network_random_(random_.Split("network")),
      crash_random_(random_.Split("crash")),
      scheduler_(options.seed),
      wire_(scheduler_.NewExecutor("wire")),
      loss_(options.loss),
      duplicate_(options.duplicate),
      min_delay_(options.min_delay),
      max_delay_(options.max_delay) {
  std::vector<uint64_t> ids;
  for (size_t i = 0; i < options.members; ++i) {
    Member member;
    member.peer_urls = {"http://127.0.0.1:" + std::to_string(10000 + i)};
    member.id = server::BootstrapMemberId(member.peer_urls, "sim");
    ids.push_back(member.id);
    founders_.push_back(member);
  }
  cluster_id_ = server::ClusterIdOf(ids);
  members_.resize(options.members + options.spare);
  base::Random clocks = random_.Split("clocks");
  for (size_t i = 0; i < members_.size(); ++i) {
    MemberState& m = members_[i];
    m.fs = std::make_unique<base::MemFileSystem>();
    m.time = std::make_unique<MemberTime>();
    m.time->rate = 1.0 + options.max_drift * (2 * clocks.Unit() - 1);
    if (options.max_drift > 0)
      m.time->wall_offset = base::Nanos(static_cast<int64_t>(clocks.Below(1u << 31)));
    m.clock = std::make_unique<MemberClock>(scheduler_.clock(), *m.time);
    m.log_latency = std::make_unique<Latency>(options.log_latency);
    m.other_latency = std::make_unique<Latency>(options.other_latency);
    m.network = std::make_unique<Network>(*this, i);
    if (options.checker != nullptr) m.trace = std::make_unique<Tap>(*this, i);
    if (i >= options.members) continue;
    m.id = ids[i];
    m.peer_urls = founders_[i].peer_urls;
    absl::Status booted = Boot(i, Start::kFound, founders_);
    KVD_CHECK(booted.ok(), std::string(booted.ToString()).c_str());
  }
}

SimCluster::~SimCluster() {
  on_tear_down_ = nullptr;
  for (size_t i = 0; i < members_.size(); ++i) TearDown(i);
}

std::optional<size_t> SimCluster::SlotOf(uint64_t id) const {
  for (size_t i = 0; i < members_.size(); ++i) {
    if (members_[i].id == id) return i;
  }
  return std::nullopt;
}

server::DiskOptions SimCluster::DiskOf(size_t i) {
  server::DiskOptions disk;
  disk.member_dir = "/data/member";
  disk.wal_dir = "/data/member/wal";
  disk.snap_dir = "/data/member/snap";
  disk.backend_dir = "/data/member/rocksdb";
  disk.wal_segment_bytes = options_.wal_segment_bytes;
  disk.max_wals = options_.max_wals;
  disk.open_engine = [this, i](const std::string& path,
                               bool create) -> absl::StatusOr<std::unique_ptr<storage::Engine>> {
    std::shared_ptr<storage::ModelDisk>& engine = members_[i].engines[path];
    if (engine == nullptr || create) engine = storage::NewModelDisk();
    std::unique_ptr<storage::Engine> opened = storage::OpenModelEngine(engine, options_.flush_every_batches);
    return options_.wrap_engine ? options_.wrap_engine(i, std::move(opened)) : std::move(opened);
  };
  return disk;
}

absl::Status SimCluster::Boot(size_t i, Start start, std::vector<Member> members) {
  MemberState& m = members_[i];
  ++m.life;
  m.fs->SetFaultHook(
      [this, i](base::MemFileSystem::Op op, const std::string& path) { return OnDiskOp(i, op, path); });
  base::Random random = random_.Split("member " + std::to_string(i) + " life " + std::to_string(m.life));
  for (const char* name : {"consensus", "log", "apply", "watch", "background", "bulk"}) {
    const Latency& latency = std::string_view(name) == "log" ? *m.log_latency : *m.other_latency;
    m.executors.push_back(
        std::make_unique<MemberExecutor>(scheduler_, name, *m.clock, *m.time, latency, random.Split(name)));
  }
  server::NodeExecutors executors{*m.executors[0], *m.executors[1], *m.executors[2],
                                  *m.executors[3], *m.executors[4], *m.executors[5]};
  m.disk = std::make_unique<server::MemberDisk>(DiskOf(i), *m.fs, executors.background);
  absl::StatusOr<server::MemberDisk::State> state =
      start == Start::kAgain
          ? m.disk->Open()
          : m.disk->Create(m.id, cluster_id_, start == Start::kFound ? founders_ : std::vector<Member>());
  if (!state.ok()) {
    TearDown(i);
    return state.status();
  }
  m.created = true;
  if (options_.checker != nullptr &&
      !options_.checker->OnStart(m.id, state->hard, *state->log, m.disk_has_lied)) {
    state = absl::DataLossError("the disk has lost what the member has promised");
    TearDown(i);
    return state.status();
  }
  server::NodeOptions options = options_.node;
  options.name = "m" + std::to_string(i);
  options.client_urls = {"http://127.0.0.1:" + std::to_string(20000 + i)};
  options.seed = random.Split("raft").Next();
  options.trace = m.trace.get();
  Node::Events events;
  events.on_ready = [] {};
  events.on_disk_failure = [this, i](const absl::Status&) {
    members_[i].dying = true;
    if (on_disk_failure_) on_disk_failure_(i);
  };
  events.on_removed = [this, i] { members_[i].removed = true; };
  m.node = std::make_unique<Node>(options, executors, *m.disk, std::move(*state), std::move(members),
                                  *m.network, std::move(events));
  if (absl::Status loaded = m.node->Load(); !loaded.ok()) {
    TearDown(i);
    return loaded;
  }
  m.node->Start();
  return absl::OkStatus();
}

void SimCluster::TearDown(size_t i) {
  MemberState& m = members_[i];
  if (on_tear_down_) on_tear_down_(i);
  m.executors.clear();  // what was posted is dropped
  m.node.reset();
  m.disk.reset();
  ++m.life;
  if (m.after_crash != nullptr) m.fs = std::move(m.after_crash);
  m.dying = false;
  m.dies_in = m.sync_fails_in = 0;
}

bool SimCluster::Step() {
  if (!scheduler_.RunOne()) return false;
  for (size_t i = 0; i < members_.size(); ++i) {
    if (members_[i].dying || (members_[i].removed && members_[i].node != nullptr)) TearDown(i);
  }
  return true;
}

void SimCluster::Kill(size_t i) {
  TearDown(i);
}

void SimCluster::Crash(size_t i) {
  base::MemFileSystem::CrashOptions crash;
  crash.keep_write = random_.Unit();
  crash.keep_directory_op = random_.Unit();
  Crash(i, crash);
}

void SimCluster::Crash(size_t i, const base::MemFileSystem::CrashOptions& crash) {
  TearDown(i);
  members_[i].fs->SetFaultHook(nullptr);
  members_[i].fs = members_[i].fs->CrashClone(crash_random_, crash);
}

void SimCluster::CrashAtOp(size_t i, uint64_t n, const base::MemFileSystem::CrashOptions& crash) {
  members_[i].dies_in = n;
  members_[i].dies_how = crash;
}

absl::Status SimCluster::OnDiskOp(size_t i, base::MemFileSystem::Op op, const std::string& path) {
  using Op = base::MemFileSystem::Op;
  MemberState& m = members_[i];
  if (m.dying) return absl::OkStatus();
  if (op == Op::kRead && !m.unreadable.empty() && path == m.unreadable) {
    m.injected = true;
    return absl::DataLossError(base::StrCat("read ", path, ": Input/output error"));
  }
  if (op == Op::kRead || op == Op::kList) return absl::OkStatus();
  if (m.node != nullptr && m.dies_in > 0 && --m.dies_in == 0) {
    m.after_crash = m.fs->CrashClone(crash_random_, m.dies_how);
    m.dying = true;
    return absl::OkStatus();
  }
  if (op == Op::kSync && m.sync_fails_in > 0 && --m.sync_fails_in == 0) {
    m.injected = true;
    return absl::DataLossError(base::StrCat("sync ", path, ": Input/output error"));
  }
  return absl::OkStatus();
}

void SimCluster::LieAboutSync(size_t i, bool lies) {
  members_[i].fs->SetLyingSync(lies);
  members_[i].disk_has_lied |= lies;
}

bool SimCluster::LoseLogFile(size_t i) {
  const std::string dir = DiskOf(i).wal_dir;
  absl::StatusOr<std::vector<std::string>> names = members_[i].fs->List(dir);
  if (!names.ok()) return false;
  std::erase_if(*names, [](const std::string& name) { return !name.ends_with(".wal"); });
  if (names->empty()) return false;
  members_[i].unreadable = base::JoinPath(dir, (*names)[crash_random_.Below(names->size())]);
  return true;
}

absl::Status SimCluster::TryRestart(size_t i) {
  return Boot(i, Start::kAgain, {});
}

void SimCluster::Restart(size_t i) {
  absl::Status booted = TryRestart(i);
  KVD_CHECK(booted.ok(), std::string(booted.ToString()).c_str());
}

Member SimCluster::Joining(size_t i, bool learner) {
  MemberState& m = members_[i];
  m.fs = std::make_unique<base::MemFileSystem>();
  m.engines.clear();
  m.created = m.removed = false;
  m.peer_urls = {"http://127.0.0.1:" + std::to_string(10000 + i)};
  Member member;
  member.peer_urls = m.peer_urls;
  member.is_learner = learner;
  // A second is too coarse where members come and go fast.
  m.id = member.id = server::RuntimeMemberId(m.peer_urls, scheduler_.clock().Wall().count());
  return member;
}

absl::Status SimCluster::BootJoined(size_t i, std::vector<Member> members) {
  return Boot(i, Start::kJoin, std::move(members));
}

void SimCluster::SetNetwork(double loss, double duplicate, base::Nanos min_delay, base::Nanos max_delay) {
  loss_ = loss;
  duplicate_ = duplicate;
  min_delay_ = min_delay;
  max_delay_ = max_delay;
}

void SimCluster::Pause(size_t i, base::Nanos duration) {
  members_[i].time->paused_until = scheduler_.clock().Monotonic() + duration;
}

void SimCluster::SetDiskRoom(size_t i, std::optional<uint64_t> bytes) {
  base::MemFileSystem& fs = *members_[i].fs;
  fs.SetCapacity(UINT64_MAX);
  if (!bytes) return;
  absl::StatusOr<uint64_t> free = fs.FreeBytes("/");
  KVD_CHECK(free.ok(), "the free space of a file system in memory is known");
  fs.SetCapacity(UINT64_MAX - *free + *bytes);
}

bool SimCluster::RotLog(size_t i) {
  const std::string dir = DiskOf(i).wal_dir;
  base::MemFileSystem& fs = *members_[i].fs;
  absl::StatusOr<std::string> mark = base::ReadFile(fs, base::JoinPath(dir, "synced"));
  absl::StatusOr<std::vector<std::string>> names = fs.List(dir);
  if (!mark.ok() || !names.ok() || mark->size() < 16) return false;
  std::string last;
  for (const std::string& name : *names) {
    if (name.ends_with(".wal")) last = name;
  }
  uint64_t synced = base::LoadLittleEndian64(mark->data() + 8);
  if (last.empty() || synced == 0) return false;
  uint64_t at = crash_random_.Below(synced);
  return fs.FlipBit(base::JoinPath(dir, last), at, static_cast<int>(crash_random_.Below(8))).ok();
}

void SimCluster::Heal() {
  isolated_.clear();
  cut_.clear();
  loss_ = duplicate_ = 0;
  for (size_t i = 0; i < members_.size(); ++i) {
    MemberState& m = members_[i];
    m.dies_in = m.sync_fails_in = 0;
    m.fs->SetLyingSync(false);
    SetDiskRoom(i, std::nullopt);
    m.time->paused_until = base::Nanos(0);
    m.log_latency->stall_chance = m.other_latency->stall_chance = 0;
  }
}

std::optional<size_t> SimCluster::Leader() {
  for (size_t i = 0; i < members_.size(); ++i) {
    if (!alive(i) || !node(i).is_leader() || isolated_.contains(i)) continue;
    size_t members = 0;
    size_t followers = 0;
    for (size_t k = 0; k < members_.size(); ++k) {
      if (members_[k].created && !members_[k].removed) ++members;
      if (alive(k) && node(k).driver().leader() == members_[i].id && node(k).term() == node(i).term())
        ++followers;
    }
    if (followers > members / 2) return i;
  }
  return std::nullopt;
}

bool SimCluster::WaitForLeader() {
  return RunUntil([this] { return Leader().has_value(); });
}

std::shared_ptr<SimCluster::Result> SimCluster::Propose(size_t i, server::RequestField field,
                                                        const std::string& request) {
  auto result = std::make_shared<Result>();
  node(i).Propose(field, request, [result](server::ApplyOutcome&& outcome) {
    result->outcome = std::move(outcome);
    result->finished = true;
  });
  return result;
}

std::shared_ptr<SimCluster::Result> SimCluster::Put(size_t i, const std::string& key,
                                                    const std::string& value, int64_t lease) {
  std::string request;
  server::AppendBytesField(request, 1, key);
  server::AppendBytesField(request, 2, value);
  server::AppendInt64Field(request, 3, lease);
  return Propose(i, server::RequestField::kPut, request);
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

}  // namespace kvd::sim
