// What the core costs a leader of three: propose, hand out, acknowledge from the disk and from both
// followers, commit, apply. Followers are played by answers, so only the leader's work is measured;
// BM_Cluster runs all three.
#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "base/bytes.h"
#include "raft/memory_log.h"
#include "raft/raft_core.h"

namespace kvd::raft {
namespace {

struct Member {
  explicit Member(NodeId id) {
    Config config{.id = id, .conf_state = {.voters = {1, 2, 3}}};
    core = std::make_unique<RaftCore>(config, &log, base::Random(id), nullptr);
  }
  // Takes every Ready and treats it as written and applied at once.
  void Drain(std::vector<Message>* out) {
    while (core->HasReady()) {
      Ready r = core->TakeReady();
      log.Append(r.append);
      for (Message& m : r.send_now) out->push_back(std::move(m));
      for (Message& m : r.send_after_persist) out->push_back(std::move(m));
      core->OnPersisted(r.ack);
      if (!r.committed.empty()) {
        const Index applied = r.committed.back().index;
        core->OnApplied(applied);
        if (applied > 10000 && log.FirstIndex() + 20000 < applied) log.Compact(applied - 10000);
      }
    }
  }
  MemoryLog log;
  std::unique_ptr<RaftCore> core;
};

std::vector<base::SharedBytes> Payloads(size_t n) {
  return std::vector<base::SharedBytes>(n, base::SharedBytes(std::string(256, 'x')));
}

void Elect(Member& m, std::vector<Message>* out) {
  m.core->Campaign();
  m.Drain(out);
  (void)m.core->Step({.type = MessageType::kPreVoteResp, .to = 1, .from = 2, .term = 1});
  m.Drain(out);
  (void)m.core->Step({.type = MessageType::kVoteResp, .to = 1, .from = 2, .term = 1});
  m.Drain(out);
  for (NodeId id : {2, 3}) {
    (void)m.core->Step({.type = MessageType::kAppResp, .to = 1, .from = id, .term = 1, .index = 1});
  }
  m.Drain(out);
}

// The argument: entries proposed between two Readys.
void BM_Leader(benchmark::State& state) {
  Member m(1);
  std::vector<Message> out;
  Elect(m, &out);
  const auto n = static_cast<size_t>(state.range(0));
  const auto payloads = Payloads(n);
  for (auto _ : state) {
    auto batch = payloads;
    if (m.core->Propose(absl::MakeSpan(batch)) != ProposeResult::kOk) state.SkipWithError("refused");
    out.clear();
    m.Drain(&out);
    for (NodeId id : {2, 3}) {
      (void)m.core->Step(
          {.type = MessageType::kAppResp, .to = 1, .from = id, .term = 1, .index = m.core->last_index()});
    }
    m.Drain(&out);
    benchmark::DoNotOptimize(out.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(n));
}
BENCHMARK(BM_Leader)->Arg(1)->Arg(8)->Arg(64)->Arg(256);

// All three cores, messages handed over directly.
void BM_Cluster(benchmark::State& state) {
  std::vector<std::unique_ptr<Member>> members;
  for (NodeId id = 1; id <= 3; ++id) members.push_back(std::make_unique<Member>(id));
  std::vector<Message> network;
  auto run = [&] {
    while (true) {
      for (auto& m : members) m->Drain(&network);
      if (network.empty()) return;
      std::vector<Message> now;
      now.swap(network);
      for (Message& m : now) {
        Member& to = *members[m.to - 1];
        (void)to.core->Step(std::move(m));
      }
    }
  };
  members[0]->core->Campaign();
  run();
  const auto n = static_cast<size_t>(state.range(0));
  const auto payloads = Payloads(n);
  for (auto _ : state) {
    auto batch = payloads;
    if (members[0]->core->Propose(absl::MakeSpan(batch)) != ProposeResult::kOk)
      state.SkipWithError("refused");
    run();
  }
  if (members[2]->core->applied() < state.iterations() * n) state.SkipWithError("not everything was applied");
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(n));
}
BENCHMARK(BM_Cluster)->Arg(1)->Arg(64);

// Reads that share a round, and its answers.
void BM_ReadIndex(benchmark::State& state) {
  Member m(1);
  std::vector<Message> out;
  Elect(m, &out);
  const int64_t n = state.range(0);
  for (auto _ : state) {
    for (int64_t i = 0; i < n; ++i) (void)m.core->ReadIndex("12345678");
    out.clear();
    m.Drain(&out);
    (void)m.core->Step(
        {.type = MessageType::kHeartbeatResp, .to = 1, .from = 2, .term = 1, .context = out.back().context});
    m.Drain(&out);
  }
  state.SetItemsProcessed(state.iterations() * n);
}
BENCHMARK(BM_ReadIndex)->Arg(1)->Arg(64);

}  // namespace
}  // namespace kvd::raft
