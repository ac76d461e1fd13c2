#include "cluster.h"

#include <algorithm>

#include "base/check.h"

namespace kvd::raft {

base::SharedBytes Bytes(std::string_view text) {
  return base::SharedBytes::Copy(text);
}

TestNode::TestNode(Config config, uint64_t seed, TraceSink* trace, TestDisk disk, TestMachine machine)
    : config_(std::move(config)), disk_(std::move(disk)), machine_(machine), durable_(std::move(machine)) {
  log_ = std::make_unique<MemoryLog>(disk_.snapshot);
  log_->Append(disk_.log);
  if (machine_.applied > 0)
    log_->SetSnapshotToSend(SnapshotMeta{machine_.applied, machine_.applied_term, machine_.conf});
  config_.hard_state = disk_.hard;
  config_.conf_state = machine_.conf;
  config_.applied = machine_.applied;
  core_ = std::make_unique<RaftCore>(config_, log_.get(), base::Random(seed), trace);
}

const Ready& TestNode::TakeReady(std::vector<Message>* out) {
  writing_.push_back(core_->TakeReady());
  Ready& r = writing_.back();
  if (r.snapshot != nullptr) {
    log_->InstallSnapshot(r.snapshot->meta);
    applying_.clear();
  }
  log_->Append(r.append);
  for (Message& m : r.send_now) out->push_back(m);
  if (!r.committed.empty()) applying_.push_back(r.committed);
  for (ReadState& read : r.reads) reads_.push_back(read);
  return r;
}

void TestNode::Persist(std::vector<Message>* out) {
  Ready r = std::move(writing_.front());
  writing_.pop_front();
  if (r.snapshot != nullptr) {
    disk_.snapshot = r.snapshot->meta;
    disk_.log.clear();
    machine_ = fetch_snapshot(r.snapshot->meta);
    durable_ = machine_;
  }
  if (!r.append.empty()) {
    const Index from = r.append[0].index;
    while (!disk_.log.empty() && disk_.log.back().index >= from) disk_.log.pop_back();
    disk_.log.insert(disk_.log.end(), r.append.begin(), r.append.end());
  }
  if (r.hard) disk_.hard = *r.hard;
  for (Message& m : r.send_after_persist) out->push_back(std::move(m));
  core_->OnPersisted(r.ack);
}

void TestNode::Apply() {
  std::vector<Entry> batch = std::move(applying_.front());
  applying_.pop_front();
  for (const Entry& e : batch) {
    KVD_CHECK(e.index == machine_.applied + 1, "entries are applied in order, each once");
    if (e.type != EntryType::kNormal) {
      std::optional<ConfChangeV2> change = ConfChangeOf(e);
      KVD_CHECK(change.has_value(), "a committed change can be read");
      machine_.conf = core_->ApplyConfChange(*change);
    } else if (!e.data.empty()) {
      machine_.data[e.index] = std::string(e.data.view());
    }
    machine_.applied = e.index;
    machine_.applied_term = e.term;
  }
  core_->OnApplied(machine_.applied);
  log_->SetSnapshotToSend(SnapshotMeta{machine_.applied, machine_.applied_term, machine_.conf});
}

void TestNode::Settle(std::vector<Message>* out) {
  while (true) {
    if (CanTakeReady()) {
      TakeReady(out);
    } else if (Writing()) {
      Persist(out);
    } else if (Applying()) {
      Apply();
    } else {
      return;
    }
  }
}

void TestNode::Compact(Index keep) {
  durable_ = machine_;
  const Index to = machine_.applied > keep ? machine_.applied - keep : 0;
  if (to < log_->FirstIndex() || to > log_->LastIndex()) return;
  const SnapshotMeta at{to, *log_->TermAt(to), {}};
  while (!disk_.log.empty() && disk_.log.front().index <= to) disk_.log.erase(disk_.log.begin());
  disk_.snapshot = at;
  log_->Compact(to);
}

std::unique_ptr<TestNode> TestNode::Restarted(uint64_t seed, TraceSink* trace) const {
  auto node = std::make_unique<TestNode>(config_, seed, trace, disk_, durable_);
  node->fetch_snapshot = fetch_snapshot;
  return node;
}

std::vector<std::string> TestNode::Applied() const {
  std::vector<std::string> out;
  for (const auto& [index, data] : machine_.data) out.push_back(data);
  return out;
}

std::vector<Entry> TestNode::LogEntries() const {
  std::vector<Entry> out;
  log_->Entries(log_->FirstIndex(), log_->LastIndex() + 1, kNoLimit, &out);
  return out;
}

namespace {
ConfState FirstVoters(size_t n) {
  ConfState conf;
  for (NodeId id = 1; id <= n; ++id) conf.voters.push_back(id);
  return conf;
}
}  // namespace

TestCluster::TestCluster(size_t voters, Config config, uint64_t seed)
    : TestCluster(FirstVoters(voters), std::move(config), seed) {}

TestCluster::TestCluster(ConfState conf, Config config, uint64_t seed)
    : config_(std::move(config)), seed_(seed) {
  std::set<NodeId> ids(conf.voters.begin(), conf.voters.end());
  ids.insert(conf.learners.begin(), conf.learners.end());
  ids.insert(conf.voters_outgoing.begin(), conf.voters_outgoing.end());
  for (NodeId id : ids) Add(id, conf);
}

void TestCluster::Connect(TestNode& node) {
  node.fetch_snapshot = [this](const SnapshotMeta& meta) {
    for (auto& [id, other] : nodes) {
      if (other->machine().applied < meta.index) continue;
      TestMachine machine = other->machine();
      machine.data.erase(machine.data.upper_bound(meta.index), machine.data.end());
      machine.applied = meta.index;
      machine.applied_term = meta.term;
      machine.conf = meta.conf_state;
      return machine;
    }
    KVD_CHECK(false, "a snapshot was taken from somewhere");
    return TestMachine();
  };
}

TestNode& TestCluster::Add(NodeId id, ConfState conf, TestDisk disk, TestMachine machine) {
  Config config = config_;
  config.id = id;
  if (machine.conf == ConfState{}) machine.conf = std::move(conf);
  nodes[id] =
      std::make_unique<TestNode>(config, seed_ * 1000 + id, this, std::move(disk), std::move(machine));
  Connect(*nodes[id]);
  return *nodes[id];
}

void TestCluster::Restart(NodeId id) {
  nodes[id] = nodes[id]->Restarted(++seed_ * 1000 + id, this);
}

void TestCluster::Settle() {
  for (auto& [id, node] : nodes) node->Settle(&network);
}

void TestCluster::Deliver() {
  std::vector<Message> now = std::exchange(network, {});
  for (Message& m : now) {
    auto it = nodes.find(m.to);
    if (it == nodes.end() || cut.count({m.from, m.to}) > 0 || dropped_types.count(m.type) > 0) continue;
    (void)it->second->core().Step(std::move(m));
  }
}

void TestCluster::Stabilize() {
  Settle();
  while (!network.empty()) {
    Deliver();
    Settle();
  }
}

void TestCluster::Tick(NodeId id, int ticks) {
  for (int i = 0; i < ticks; ++i) core(id).Tick();
}

void TestCluster::Elect(NodeId id) {
  // The others have not heard of a leader for long enough.
  for (auto& [other, node] : nodes) {
    if (other != id) node->core().ForgetLeader();
  }
  core(id).Campaign();
  Stabilize();
}

ProposeResult TestCluster::Propose(NodeId id, std::string_view data) {
  base::SharedBytes payload = Bytes(data);
  return core(id).Propose(absl::MakeSpan(&payload, 1));
}

NodeId TestCluster::Leader() const {
  NodeId leader = kNoNode;
  Term term = 0;
  for (const auto& [id, node] : nodes) {
    if (node->core().role() == Role::kLeader && node->core().term() > term) {
      term = node->core().term();
      leader = id;
    }
  }
  return leader;
}

void TestCluster::Isolate(NodeId id) {
  for (const auto& [other, node] : nodes) {
    if (other == id) continue;
    Cut(id, other);
    Cut(other, id);
  }
}

void TestCluster::OnEvent(NodeId node, const trace::Event& event) {
  events.emplace_back(node, event);
  if (on_event) on_event(node, event);
}

}  // namespace kvd::raft
