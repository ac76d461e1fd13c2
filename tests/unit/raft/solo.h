// One real core whose peers are played by the test.
#pragma once

#include <string>
#include <vector>

#include "cluster.h"

namespace kvd::raft {

inline Entry MakeEntry(Index index, Term term, std::string_view data = "") {
  return {term, index, EntryType::kNormal, Bytes(data)};
}

// A log with the given terms, from index 1 on.
inline std::vector<Entry> LogOf(const std::vector<Term>& terms) {
  std::vector<Entry> out;
  for (Term t : terms) out.push_back(MakeEntry(out.size() + 1, t, "t" + std::to_string(t)));
  return out;
}

struct SoloOptions {
  size_t voters = 3;
  std::vector<NodeId> learners = {};
  std::vector<Entry> log = {};
  HardState hard = {};
  Config config = {};
  uint64_t seed = 1;
};

class Solo : public TraceSink {
 public:
  using Options = SoloOptions;
  explicit Solo(Options o = {}) : node_(Make(std::move(o), this)) {}

  RaftCore& core() { return node_.core(); }
  TestNode& node() { return node_; }

  void Tick(int n = 1) {
    for (int i = 0; i < n; ++i) core().Tick();
  }
  // Finishes all writes and applications; gives the messages since the last call.
  std::vector<Message> Settle() {
    node_.Settle(&out_);
    return std::exchange(out_, {});
  }
  std::vector<Message> Step(Message m) {
    m.to = 1;
    (void)core().Step(std::move(m));
    return Settle();
  }
  // Elected by the votes of the first others.
  void Lead(size_t votes = 1) {
    core().Campaign();
    Settle();
    for (NodeId id = 2; id < 2 + votes; ++id)
      Step({.type = MessageType::kPreVoteResp, .from = id, .term = core().term() + 1});
    for (NodeId id = 2; id < 2 + votes; ++id)
      Step({.type = MessageType::kVoteResp, .from = id, .term = core().term()});
    Settle();
  }
  std::vector<Message> Ack(NodeId from, Index index) {
    return Step({.type = MessageType::kAppResp, .from = from, .term = core().term(), .index = index});
  }
  ProposeResult Propose(std::string_view data) {
    base::SharedBytes payload = Bytes(data);
    return core().Propose(absl::MakeSpan(&payload, 1));
  }
  std::vector<Term> LogTerms() {
    std::vector<Term> out;
    for (const Entry& e : node_.LogEntries()) out.push_back(e.term);
    return out;
  }
  void OnEvent(NodeId, const trace::Event& event) override { events.push_back(event); }

  std::vector<trace::Event> events;

 private:
  static TestNode Make(Options o, TraceSink* trace) {
    ConfState conf;
    for (NodeId id = 1; id <= o.voters; ++id) conf.voters.push_back(id);
    conf.learners = o.learners;
    o.config.id = 1;
    return TestNode(o.config, o.seed, trace, {.hard = o.hard, .snapshot = {}, .log = o.log},
                    {.applied = 0, .applied_term = 0, .conf = conf, .data = {}});
  }
  std::vector<Message> out_;
  TestNode node_;
};

inline std::vector<Message> OfType(const std::vector<Message>& messages, MessageType type) {
  std::vector<Message> out;
  for (const Message& m : messages) {
    if (m.type == type) out.push_back(m);
  }
  return out;
}

}  // namespace kvd::raft
