// Runs the scripts in scenarios/*.txt and compares what happens with what is written there.
//
//   raft_scenario_test                          all of them
//   raft_scenario_test --gtest_filter='*/prevote'
//   raft_scenario_test --rewrite                writes what happened into the files; read the difference
//
// A script is a sequence of
//
//   # why
//   command arguments
//   ----
//   what happened
//
// with an empty line at the end of each. Lines "N> ..." are trace events of member N; "N->M ..." messages.
//
// Commands (N, M: members; every cluster's log begins behind a snapshot of term 1, index 1):
//
//   nodes 1 2 3 [learners 4] [inflight=N] [inflight-bytes=N] [message-bytes=N]   start members that know one
//   another start N                       a member that knows nobody load N terms... commit=N      stop N,
//   and start it with a log of these terms behind index 1 campaign N | tick N count | forget-leader N |
//   transfer N M | read N token | status N | log N propose N text                | propose-change N
//   [v1|auto|implicit|explicit] v4 l5 r6 | leave N ready N | persist N | apply N        one step of a
//   member's own work settle N...                          all of it (of all members without arguments)
//   deliver [N...] [drop=Type]           what is in the network now, to these members
//   stabilize [N...]                     settle and deliver until nothing moves, among these members
//   compact N | crash N | isolate N | heal | unreachable N M | snapshot-failed N M | snapshot-arrived N M
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

#include "cluster.h"
#include "gtest/gtest.h"

namespace kvd::raft {
namespace {

bool rewrite = false;

std::string Show(const Entry& e) {
  std::string out = std::to_string(e.term) + "/" + std::to_string(e.index);
  if (e.type != EntryType::kNormal) return out + " change";
  return e.data.empty() ? out : out + " \"" + std::string(e.data.view()) + "\"";
}

std::string Show(const std::vector<Entry>& entries) {
  std::string out;
  for (const Entry& e : entries) out += (out.empty() ? "" : ", ") + Show(e);
  return "[" + out + "]";
}

std::string Show(const Message& m) {
  std::ostringstream out;
  out << m.from << "->" << m.to << " " << MessageTypeName(m.type) << " term=" << m.term;
  if (m.log_term != 0 || m.index != 0) out << " at=" << m.log_term << "/" << m.index;
  if (m.commit != 0) out << " commit=" << m.commit;
  if (m.reject) out << " rejected";
  if (m.reject_hint != 0) out << " hint=" << m.reject_hint;
  if (m.snapshot != nullptr) {
    out << " snapshot=" << m.snapshot->meta.term << "/" << m.snapshot->meta.index << " "
        << ToString(m.snapshot->meta.conf_state);
  }
  if (m.context.size() == 8) out << " round=" << base::LoadBigEndian64(m.context.data());
  if (!m.context.empty() && m.context.size() != 8) out << " " << m.context;
  if (!m.entries.empty()) out << " " << Show(m.entries);
  return out.str();
}

class Script {
 public:
  std::string Run(const std::string& line) {
    out_.str("");
    std::istringstream words(line);
    words >> command_;
    args_.clear();
    options_.clear();
    for (std::string word; words >> word;) {
      const size_t eq = word.find('=');
      if (eq == std::string::npos) {
        args_.push_back(word);
      } else {
        options_[word.substr(0, eq)] = word.substr(eq + 1);
      }
    }
    Dispatch();
    std::string text = out_.str();
    return text.empty() ? "ok\n" : text;
  }

 private:
  NodeId Id(size_t i) const { return std::stoull(args_.at(i)); }
  RaftCore& Core() { return (*c_)[Id(0)].core(); }
  TestNode& Node() { return (*c_)[Id(0)]; }

  void Dispatch() {
    if (command_ == "nodes") return Nodes();
    if (command_ == "start") return (void)c_->Add(Id(0));
    if (command_ == "load") return Load();
    if (command_ == "campaign") return Core().Campaign();
    if (command_ == "elect") return Elect();
    if (command_ == "tick") return c_->Tick(Id(0), std::stoi(args_.at(1)));
    if (command_ == "forget-leader") return Core().ForgetLeader();
    if (command_ == "transfer") return (void)Core().TransferLeadership(Id(1));
    if (command_ == "read") return Answer(Core().ReadIndex(args_.at(1)) ? "asked" : "no leader");
    if (command_ == "propose") return Answer(ProposeResultName(c_->Propose(Id(0), args_.at(1))));
    if (command_ == "propose-change") return ProposeChange();
    if (command_ == "leave") return Answer(ProposeResultName(Core().ProposeConfChange(ConfChangeV2())));
    if (command_ == "ready") return TakeReady(Id(0), true);
    if (command_ == "persist") return Persist(Id(0));
    if (command_ == "apply") return Apply(Id(0));
    if (command_ == "settle") return (void)Settle(Chosen());
    if (command_ == "deliver") return (void)Deliver(Chosen());
    if (command_ == "stabilize") return Stabilize();
    if (command_ == "compact") return Node().Compact();
    if (command_ == "crash") return c_->Restart(Id(0));
    if (command_ == "isolate") return c_->Isolate(Id(0));
    if (command_ == "heal") return c_->Heal();
    if (command_ == "unreachable") return Core().ReportUnreachable(Id(1));
    if (command_ == "snapshot-failed") return Core().ReportSnapshot(Id(1), false);
    if (command_ == "snapshot-arrived") return Core().ReportSnapshot(Id(1), true);
    if (command_ == "status") return Status();
    if (command_ == "log") return Answer(Show(Node().LogEntries()));
    out_ << "unknown command " << command_ << "\n";
  }

  void Answer(std::string_view text) { out_ << text << "\n"; }

  uint64_t Option(const std::string& name, uint64_t otherwise) const {
    auto it = options_.find(name);
    return it == options_.end() ? otherwise : std::stoull(it->second);
  }

  void Nodes() {
    config_.max_inflight_messages = Option("inflight", 512);
    config_.max_inflight_bytes = Option("inflight-bytes", 1 << 20);
    config_.max_message_bytes = Option("message-bytes", 1 << 20);
    bool learners = false;
    for (const std::string& arg : args_) {
      if (arg == "learners") {
        learners = true;
      } else {
        (learners ? conf_.learners : conf_.voters).push_back(std::stoull(arg));
      }
    }
    c_ = std::make_unique<TestCluster>(ConfState{}, config_);
    c_->on_event = [this](NodeId node, const trace::Event& event) {
      out_ << node << "> " << trace::ToString(event) << "\n";
    };
    for (const std::vector<NodeId>& ids : {conf_.voters, conf_.learners}) {
      for (NodeId id : ids) {
        c_->Add(id, conf_, {.hard = {1, 0, 1}, .snapshot = {1, 1, conf_}, .log = {}}, {1, 1, conf_, {}});
      }
    }
    out_.str("");
  }

  void Elect() {
    Core().Campaign();
    const std::string id = args_[0];
    args_.clear();
    Stabilize();
    out_.str("");
    out_ << id << (c_->Leader() == std::stoull(id) ? " leads\n" : " does not lead\n");
  }

  void Load() {
    TestDisk disk{.hard = {1, 0, Option("commit", 1)}, .snapshot = {1, 1, conf_}, .log = {}};
    for (size_t i = 1; i < args_.size(); ++i) {
      disk.log.push_back({std::stoull(args_[i]), i + 1, EntryType::kNormal, Bytes("t" + args_[i])});
      disk.hard.term = disk.log.back().term;
    }
    c_->Add(Id(0), conf_, disk, {1, 1, conf_, {}});
    out_.str("");
  }

  void ProposeChange() {
    ConfChangeV2 change;
    bool v1 = false;
    for (size_t i = 1; i < args_.size(); ++i) {
      const std::string& a = args_[i];
      if (a == "v1") {
        v1 = true;
      } else if (a == "auto" || a == "implicit" || a == "explicit") {
        change.transition = a == "auto"       ? ConfChangeTransition::kAuto
                            : a == "implicit" ? ConfChangeTransition::kJointImplicit
                                              : ConfChangeTransition::kJointExplicit;
      } else {
        const ConfChangeType type = a[0] == 'v'   ? ConfChangeType::kAddNode
                                    : a[0] == 'l' ? ConfChangeType::kAddLearnerNode
                                                  : ConfChangeType::kRemoveNode;
        change.changes.push_back({type, std::stoull(a.substr(1))});
      }
    }
    if (v1) {
      const ConfChangeSingle& one = change.changes.at(0);
      Answer(ProposeResultName(Core().ProposeConfChange(ConfChange{1, one.type, one.node, ""})));
    } else {
      Answer(ProposeResultName(Core().ProposeConfChange(change)));
    }
  }

  std::vector<NodeId> Chosen() const {
    std::vector<NodeId> out;
    for (size_t i = 0; i < args_.size(); ++i) out.push_back(Id(i));
    if (out.empty()) {
      for (const auto& [id, node] : c_->nodes) out.push_back(id);
    }
    return out;
  }

  void TakeReady(NodeId id, bool in_full) {
    TestNode& node = (*c_)[id];
    if (!node.CanTakeReady()) return Answer("nothing");
    const size_t before = c_->network.size();
    const Ready& r = node.TakeReady(&c_->network);
    if (in_full) {
      out_ << "ready " << r.number << (r.must_sync ? " sync" : "") << "\n";
      if (r.hard)
        out_ << "  hard term=" << r.hard->term << " vote=" << r.hard->vote << " commit=" << r.hard->commit
             << "\n";
      if (r.snapshot) out_ << "  snapshot " << r.snapshot->meta.term << "/" << r.snapshot->meta.index << "\n";
      if (!r.append.empty()) out_ << "  append " << Show(r.append) << "\n";
      for (size_t i = before; i < c_->network.size(); ++i) out_ << "  now " << Show(c_->network[i]) << "\n";
      for (const Message& m : r.send_after_persist) out_ << "  after " << Show(m) << "\n";
      if (!r.committed.empty()) out_ << "  committed " << Show(r.committed) << "\n";
    }
    for (const ReadState& read : r.reads)
      out_ << "  " << id << " may read " << read.token << " at " << read.index << "\n";
  }

  void Persist(NodeId id) {
    if (!(*c_)[id].Writing()) return Answer("nothing");
    (*c_)[id].Persist(&c_->network);
  }

  void Apply(NodeId id) {
    if (!(*c_)[id].Applying()) return Answer("nothing");
    (*c_)[id].Apply();
  }

  bool Settle(const std::vector<NodeId>& ids) {
    bool moved = false;
    for (NodeId id : ids) {
      TestNode& node = (*c_)[id];
      while (true) {
        if (node.CanTakeReady()) {
          TakeReady(id, false);
        } else if (node.Writing()) {
          Persist(id);
        } else if (node.Applying()) {
          Apply(id);
        } else {
          break;
        }
        moved = true;
      }
    }
    return moved;
  }

  bool Deliver(const std::vector<NodeId>& to) {
    std::vector<Message> now = std::exchange(c_->network, {});
    bool moved = false;
    for (Message& m : now) {
      if (std::find(to.begin(), to.end(), m.to) == to.end()) {
        c_->network.push_back(std::move(m));
        continue;
      }
      moved = true;
      const bool lost = c_->nodes.count(m.to) == 0 || c_->cut.count({m.from, m.to}) > 0 ||
                        (options_.count("drop") > 0 && options_["drop"] == MessageTypeName(m.type));
      out_ << Show(m) << (lost ? " (lost)" : "") << "\n";
      if (lost) continue;
      RaftCore& core = (*c_)[m.to].core();
      (void)core.Step(std::move(m));
    }
    return moved;
  }

  void Stabilize() {
    const std::vector<NodeId> ids = Chosen();
    bool moved = true;
    while (moved) {
      moved = Settle(ids);
      moved = Deliver(ids) || moved;
    }
  }

  void Status() {
    const raft::Status s = Core().GetStatus();
    out_ << RoleName(s.soft.role) << " term=" << s.hard.term << " vote=" << s.hard.vote
         << " leader=" << s.soft.leader << " commit=" << s.hard.commit << " applied=" << s.applied
         << " last=" << s.last_index << " " << ToString(s.conf_state) << "\n";
    for (const PeerStatus& p : s.peers) {
      out_ << "  " << p.id << " " << ProgressStateName(p.state) << " match=" << p.match << " next=" << p.next;
      if (p.learner) out_ << " learner";
      if (p.paused) out_ << " paused";
      if (p.pending_snapshot != 0) out_ << " pending-snapshot=" << p.pending_snapshot;
      if (p.inflight_messages != 0) out_ << " inflight=" << p.inflight_messages;
      out_ << "\n";
    }
  }

  std::ostringstream out_;
  std::string command_;
  std::vector<std::string> args_;
  std::map<std::string, std::string> options_;
  Config config_;
  ConfState conf_;
  std::unique_ptr<TestCluster> c_;
};

std::vector<std::string> Scenarios() {
  std::vector<std::string> out;
  for (const auto& file : std::filesystem::directory_iterator(KVD_SCENARIOS)) {
    if (file.path().extension() == ".txt") out.push_back(file.path().stem().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

class Scenario : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Files, Scenario, testing::ValuesIn(Scenarios()),
                         [](const auto& param) { return param.param; });

TEST_P(Scenario, HappensAsWritten) {
  const std::string path = std::string(KVD_SCENARIOS) + "/" + GetParam() + ".txt";
  std::ifstream in(path);
  ASSERT_TRUE(in.good()) << path;
  Script script;
  std::ostringstream result;
  std::string line;
  int number = 0;
  while (std::getline(in, line)) {
    ++number;
    result << line << "\n";
    if (line.empty() || line[0] == '#') continue;
    const int at = number;
    const std::string actual = script.Run(line);
    // What was expected: from the line of dashes up to an empty line. A new command need not have it yet.
    std::string expected;
    if (std::getline(in, line) && line == "----") {
      ++number;
      while (std::getline(in, line) && !line.empty()) {
        ++number;
        expected += line + "\n";
      }
      ++number;
    }
    result << "----\n" << actual << "\n";
    if (rewrite) continue;
    ASSERT_EQ(expected, actual) << GetParam() << ".txt:" << at;
  }
  in.close();
  if (rewrite) {
    std::string text = result.str();
    while (text.size() > 1 && text.substr(text.size() - 2) == "\n\n") text.pop_back();
    std::ofstream(path) << text;
  }
}

}  // namespace
}  // namespace kvd::raft

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i)
    kvd::raft::rewrite = kvd::raft::rewrite || std::strcmp(argv[i], "--rewrite") == 0;
  return RUN_ALL_TESTS();
}
