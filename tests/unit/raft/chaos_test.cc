// Whole clusters under a lossy network, crashes that lose what was not written, changing memberships; after
// every step the promises of the algorithm are checked. One seed is one run:
//
//   KVD_CHAOS_SEED=17 raft_test --gtest_filter='Chaos.*'     (also KVD_CHAOS_SEEDS=5000 for more of them)
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>

#include "base/check.h"
#include "base/random.h"
#include "cluster.h"
#include "gtest/gtest.h"
#include "raft/membership.h"

namespace kvd::raft {
namespace {

uint64_t current_seed = 0;

void PrintSeed(int) {
  std::fprintf(stderr, "the seed was %llu\n", static_cast<unsigned long long>(current_seed));
  std::_Exit(1);
}

// What may go wrong, drawn once per run, so that some runs are calm in one respect and wild in another.
struct Swarm {
  explicit Swarm(base::Random& r)
      : voters(r.Between(1, 5)),
        spare(r.Between(0, 2)),
        drop(r.Chance(0.3) ? 0 : r.Unit() * 0.3),
        duplicate(r.Chance(0.5) ? 0 : r.Unit() * 0.1),
        reorder(r.Chance(0.3) ? 0 : r.Unit()),
        crash(r.Chance(0.3) ? 0 : r.Unit() * 0.01),
        cut(r.Chance(0.3) ? 0 : r.Unit() * 0.01),
        reconfigure(r.Chance(0.4) ? 0 : r.Unit() * 0.02),
        transfer(r.Chance(0.5) ? 0 : r.Unit() * 0.01),
        compact(r.Chance(0.4) ? 0 : r.Unit() * 0.02),
        tick(0.02 + r.Unit() * 0.2),
        lazy_disk(r.Unit()) {
    config.election_ticks = static_cast<int>(r.Between(3, 10));
    config.heartbeat_ticks = 1;
    config.max_message_bytes = r.Chance(0.5) ? 64 : 1 << 20;
    config.max_inflight_messages = r.Chance(0.5) ? 2 : 64;
    config.max_inflight_bytes = r.Chance(0.5) ? 100 : 1 << 20;
    config.max_uncommitted_bytes = r.Chance(0.5) ? 200 : 1 << 20;
    config.max_apply_bytes = r.Chance(0.5) ? 60 : 1 << 20;
    config.max_committed_per_ready_bytes = r.Chance(0.5) ? 60 : 1 << 20;
  }
  uint64_t voters;
  uint64_t spare;  // members that only a configuration change brings in
  double drop, duplicate, reorder, crash, cut, reconfigure, transfer, compact, tick, lazy_disk;
  Config config;
};

class World : public TraceSink {
 public:
  explicit World(uint64_t seed) : random_(seed), swarm_(random_) {
    ConfState conf;
    for (NodeId id = 1; id <= swarm_.voters; ++id) conf.voters.push_back(id);
    if (random_.Chance(0.2) && swarm_.voters > 1) {
      conf.learners.push_back(conf.voters.back());
      conf.voters.pop_back();
    }
    // The log begins behind a snapshot, as that of every member that joins later.
    committed_[1] = Entry{1, 1, EntryType::kNormal, {}};
    confs_[1] = conf;
    for (NodeId id = 1; id <= swarm_.voters; ++id) {
      AddNode(id, {.hard = {1, 0, 1}, .snapshot = {1, 1, conf}, .log = {}}, {1, 1, conf, {}});
    }
    for (NodeId id = swarm_.voters + 1; id <= swarm_.voters + swarm_.spare; ++id) AddNode(id, {}, {});
  }

  void Run(int steps) {
    for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) Step(true);
    CheckLogMatching();
    Calm();
    CheckLogMatching();
  }

  // How often each kind of event happened, over all runs: a test that never got anywhere proves nothing.
  static std::map<size_t, uint64_t>& Seen() {
    static auto& seen = *new std::map<size_t, uint64_t>();
    return seen;
  }

  void OnEvent(NodeId node, const trace::Event& event) override {
    ++Seen()[event.index()];
    if (const auto* role = std::get_if<trace::RoleChanged>(&event)) {
      if (role->to == Role::kLeader) new_leaders_.push_back({node, role->term});
    }
    if (const auto* commit = std::get_if<trace::CommitAdvanced>(&event)) {
      EXPECT_GT(commit->commit, commits_[node]) << "commit went back on " << node;
      commits_[node] = commit->commit;
    }
    if (const auto* snap = std::get_if<trace::SnapshotReceived>(&event)) {
      if (snap->verdict == trace::SnapshotVerdict::kRestored) commits_[node] = snap->index;
    }
  }

 private:
  void AddNode(NodeId id, TestDisk disk, TestMachine machine) {
    Config config = swarm_.config;
    config.id = id;
    nodes_[id] =
        std::make_unique<TestNode>(config, random_.Next(), this, std::move(disk), std::move(machine));
    Connect(id);
  }

  void Connect(NodeId id) {
    commits_[id] = nodes_[id]->core().commit();
    nodes_[id]->fetch_snapshot = [this](const SnapshotMeta& meta) {
      TestMachine machine{meta.index, meta.term, meta.conf_state, {}};
      for (const auto& [index, e] : committed_) {
        if (index <= meta.index && e.type == EntryType::kNormal && !e.data.empty()) {
          machine.data[index] = std::string(e.data.view());
        }
      }
      return machine;
    };
  }

  TestNode& Any() {
    auto it = nodes_.begin();
    std::advance(it, random_.Below(nodes_.size()));
    return *it->second;
  }

  void Step(bool faults) {
    TestNode& node = Any();
    if (random_.Chance(swarm_.tick)) node.core().Tick();
    if (random_.Chance(0.1)) Propose(node);
    if (random_.Chance(0.05)) Read(node);
    if (random_.Chance(0.05)) node.core().SetPatient(random_.Chance(0.5));
    if (random_.Chance(0.02)) node.core().TellCommit();
    if (faults) Fault(node);
    if (!network_.empty()) Deliver(faults);
    if (node.CanTakeReady() && random_.Chance(0.8)) TakeReady(node);
    if (node.Writing() && random_.Chance(faults ? 1 - swarm_.lazy_disk * 0.8 : 1)) node.Persist(&network_);
    if (node.Applying() && random_.Chance(0.8)) node.Apply();
    CheckReads(node);
    CheckNewLeaders();
    if (faults && random_.Chance(swarm_.crash)) Crash(node.config().id);
  }

  void TakeReady(TestNode& node) {
    const Ready& r = node.TakeReady(&network_);
    for (const Entry& e : r.committed) {
      auto [it, fresh] = committed_.insert({e.index, e});
      EXPECT_EQ(it->second, e) << "two entries committed at index " << e.index;
    }
  }

  void Deliver(bool faults) {
    const size_t i = random_.Chance(swarm_.reorder) ? random_.Below(network_.size()) : 0;
    Message m = network_[i];
    if (!faults || !random_.Chance(swarm_.duplicate))
      network_.erase(network_.begin() + static_cast<ptrdiff_t>(i));
    const bool lost = faults && (random_.Chance(swarm_.drop) || cut_.count({m.from, m.to}) > 0);
    auto to = nodes_.find(m.to);
    if (to == nodes_.end()) return;
    auto from = nodes_.find(m.from);
    if (!lost) {
      if (random_.Chance(0.9)) (void)to->second->core().Step(m);
      if (m.type == MessageType::kSnap) from->second->core().ReportSnapshot(m.to, true);
    } else if (m.type == MessageType::kSnap) {
      from->second->core().ReportSnapshot(m.to, false);
    } else if (random_.Chance(0.2) && from != nodes_.end()) {
      from->second->core().ReportUnreachable(m.to);
    }
  }

  void Propose(TestNode& node) {
    std::string data = "p" + std::to_string(++proposals_);
    base::SharedBytes payload = Bytes(data);
    (void)node.core().Propose(absl::MakeSpan(&payload, 1));
  }

  // A read must see everything that anybody had applied when it was asked for.
  void Read(TestNode& node) {
    const std::string token = std::to_string(++tokens_);
    if (node.core().ReadIndex(token)) asked_[token] = committed_.rbegin()->first;
  }

  void CheckReads(TestNode& node) {
    for (const ReadState& read : node.TakeReads()) {
      ASSERT_TRUE(asked_.count(read.token));
      EXPECT_GE(read.index, asked_[read.token]) << "a stale read on " << node.config().id;
      ++reads_;
    }
  }

  void Fault(TestNode& node) {
    const NodeId id = node.config().id;
    if (random_.Chance(swarm_.transfer))
      (void)node.core().TransferLeadership(random_.Between(1, nodes_.size()));
    if (random_.Chance(swarm_.reconfigure)) Reconfigure(node);
    if (random_.Chance(swarm_.transfer)) node.core().ForgetLeader();
    if (random_.Chance(swarm_.compact)) {
      // What a crash would roll back to must lie behind the start of the log.
      node.Compact(random_.Below(4));
    }
    if (random_.Chance(swarm_.cut)) {
      cut_.clear();
      for (const auto& [other, n] : nodes_) {
        if (other == id || random_.Chance(0.5)) continue;
        cut_.insert({id, other});
        if (random_.Chance(0.7)) cut_.insert({other, id});
      }
    }
  }

  void Crash(NodeId id) {
    // Some of the writes on their way may have reached the disk, in order; their messages die with the
    // process.
    std::vector<Message> lost;
    while (nodes_[id]->Writing() && random_.Chance(0.5)) nodes_[id]->Persist(&lost);
    new_leaders_.clear();
    nodes_[id] = nodes_[id]->Restarted(random_.Next(), this);
    Connect(id);
  }

  void Reconfigure(TestNode& node) {
    const uint64_t n = random_.Between(1, 3);
    ConfChangeV2 change;
    for (uint64_t i = 0; i < n; ++i) {
      change.changes.push_back(
          {static_cast<ConfChangeType>(random_.Below(4)), random_.Between(1, nodes_.size())});
    }
    if (random_.Chance(0.2)) change.changes.clear();
    change.transition = static_cast<ConfChangeTransition>(random_.Below(3));
    if (change.changes.empty()) change.transition = ConfChangeTransition::kAuto;
    // The proposer's business, as it is in a running member: never leave a cluster without voters.
    absl::StatusOr<ConfState> next = Change(node.core().conf_state(), change);
    if (!next.ok() || IsJoint(node.core().conf_state()) != WantsLeave(change)) return;
    if (node.core().role() != Role::kLeader) return;
    if (n == 1 && !change.changes.empty() && random_.Chance(0.5)) {
      (void)node.core().ProposeConfChange(ConfChange{7, change.changes[0].type, change.changes[0].node, "x"});
    } else {
      (void)node.core().ProposeConfChange(change);
    }
  }

  void CheckNewLeaders() {
    for (const auto& [id, term] : std::exchange(new_leaders_, {})) {
      auto [it, fresh] = leaders_.insert({term, id});
      EXPECT_EQ(it->second, id) << "two leaders in term " << term;
      TestNode& node = *nodes_[id];
      for (const auto& [index, e] : committed_) {
        if (index + 1 < node.log().FirstIndex()) continue;
        std::optional<Term> own = TermOf(node, index);
        EXPECT_EQ(own, std::optional<Term>(e.term))
            << "leader " << id << " of term " << term << " lacks " << index;
      }
    }
  }

  static std::optional<Term> TermOf(TestNode& node, Index index) { return node.log().TermAt(index); }

  // Equal term at an index: equal logs up to there.
  void CheckLogMatching() {
    for (const auto& [a, first] : nodes_) {
      for (const auto& [b, second] : nodes_) {
        if (b <= a) continue;
        bool matched = false;
        for (Index i = std::min(first->log().LastIndex(), second->log().LastIndex());; --i) {
          if (i < first->log().FirstIndex() || i < second->log().FirstIndex()) break;
          matched = matched || first->log().TermAt(i) == second->log().TermAt(i);
          if (!matched) continue;
          std::vector<Entry> x, y;
          first->log().Entries(i, i + 1, kNoLimit, &x);
          second->log().Entries(i, i + 1, kNoLimit, &y);
          EXPECT_EQ(x[0], y[0]) << "logs of " << a << " and " << b << " differ at " << i;
        }
      }
    }
  }

  // Without faults, something new must be committed and reach everybody who is a member.
  void Calm() {
    cut_.clear();
    swarm_.reorder = 0;
    swarm_.tick = 0.05;
    const Index before = committed_.rbegin()->first;
    for (int i = 0; i < 60000 && !::testing::Test::HasFailure(); ++i) {
      Step(false);
      if (i % 64 == 0 && Converged(before)) return;
    }
    EXPECT_TRUE(Converged(before)) << Describe();
  }

  bool Converged(Index before) {
    TestNode* leader = nullptr;
    for (auto& [id, node] : nodes_) {
      if (node->core().role() == Role::kLeader && (!leader || node->core().term() > leader->core().term())) {
        leader = node.get();
      }
    }
    if (leader == nullptr || leader->core().commit() <= before || leader->core().conf_state().auto_leave)
      return false;
    for (NodeId id : Members(leader->core().conf_state())) {
      if (nodes_[id]->machine().applied <= before) return false;
    }
    return true;
  }

  std::string Describe() {
    std::string out;
    for (auto& [id, node] : nodes_) {
      const RaftCore& c = node->core();
      out += std::to_string(id) + ": " + std::string(RoleName(c.role())) + " term " +
             std::to_string(c.term()) + " leader " + std::to_string(c.leader()) + " commit " +
             std::to_string(c.commit()) + " applied " + std::to_string(node->machine().applied) + " last " +
             std::to_string(c.last_index()) + " " + ToString(c.conf_state()) + "\n";
      for (const PeerStatus& p : c.GetStatus().peers) {
        out += "   " + std::to_string(p.id) + " " + std::string(ProgressStateName(p.state)) + " match " +
               std::to_string(p.match) + " next " + std::to_string(p.next) + (p.paused ? " paused" : "") +
               "\n";
      }
    }
    return out;
  }

  base::Random random_;
  Swarm swarm_;
  std::map<NodeId, std::unique_ptr<TestNode>> nodes_;
  std::vector<Message> network_;
  std::set<std::pair<NodeId, NodeId>> cut_;
  std::map<Index, Entry> committed_;  // by anybody, ever
  std::map<Index, ConfState> confs_;
  std::map<Term, NodeId> leaders_;
  std::map<NodeId, Index> commits_;
  std::vector<std::pair<NodeId, Term>> new_leaders_;
  std::map<std::string, Index> asked_;
  uint64_t proposals_ = 0;
  uint64_t tokens_ = 0;
  uint64_t reads_ = 0;
};

TEST(Chaos, RandomFaults_PromisesHold) {
  uint64_t first = 1;
  uint64_t count = 300;
  if (const char* seed = std::getenv("KVD_CHAOS_SEED")) {
    first = std::strtoull(seed, nullptr, 10);
    count = 1;
  }
  if (const char* seeds = std::getenv("KVD_CHAOS_SEEDS")) count = std::strtoull(seeds, nullptr, 10);
  auto before = std::signal(SIGABRT, PrintSeed);
  for (uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    current_seed = seed;
    World(seed).Run(2000);
    if (HasFailure()) break;
  }
  std::signal(SIGABRT, before);
  if (count < 100 || HasFailure()) return;
  EXPECT_EQ(World::Seen().size(), std::variant_size_v<trace::Event>) << "some kind of event never happened";
  for (const auto& [kind, n] : World::Seen()) EXPECT_GT(n, count / 50) << "event kind " << kind << " is rare";
}

}  // namespace
}  // namespace kvd::raft
