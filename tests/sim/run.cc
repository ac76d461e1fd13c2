#include "run.h"

#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "history_checker.h"
#include "nemesis.h"
#include "raft_checker.h"
#include "sim_sites.h"
#include "truth.h"
#include "verdict.h"
#include "wgl_checker.h"
#include "workload.h"

namespace kvd::sim {
namespace {

using base::Nanos;

constexpr Nanos kHashEvery = std::chrono::milliseconds(500);

class OneRun {
 public:
  OneRun(const Swarm& swarm, const RunOptions& options)
      : swarm_(swarm),
        options_(options),
        sites_(base::Random(swarm.seed).Split("sites"), swarm.buggify, SiteCounters::Shared()),
        raft_(verdict_) {
    SimCluster::Options cluster = swarm.cluster;
    cluster.wrap_engine = [this](size_t member, std::unique_ptr<storage::Engine> engine) {
      if (truth_ == nullptr) truth_ = std::make_unique<Truth>(clock_, verdict_);
      return truth_->Watch(member, std::move(engine));
    };
    cluster.checker = &raft_;
    cluster_ = std::make_unique<SimCluster>(cluster);
    clock_.world = &cluster_->scheduler().clock();
    auto note = [this](const std::string& what) { Note(what); };
    workload_ = std::make_unique<Workload>(*cluster_, swarm_, *truth_, verdict_, note);
    nemesis_ = std::make_unique<Nemesis>(*cluster_, swarm_, verdict_, note);
    cluster_->SetOnTearDown([this](size_t member) { workload_->OnTearDown(member); });
  }

  RunResult Run() {
    Note(swarm_.Describe());
    workload_->Start();
    nemesis_->Start();
    Advance(options_.until.count() > 0 ? options_.until : swarm_.duration, nullptr);
    bool whole = options_.until.count() == 0;
    if (whole && !verdict_.failed()) Settle();
    if (!verdict_.failed()) CheckHistory(workload_->ops(), *truth_, verdict_);
    if (!verdict_.failed()) CheckLeases(workload_->ops(), *truth_, swarm_.cluster.max_drift, verdict_);
    if (!verdict_.failed() && swarm_.registers_only) CheckGenerally();
    return Result();
  }

 private:
  // The engines of the founders are opened while the cluster is still being made.
  class LateClock final : public base::Clock {
   public:
    Nanos Monotonic() const override { return world == nullptr ? Nanos(0) : world->Monotonic(); }
    Nanos Wall() const override { return world == nullptr ? Nanos(0) : world->Wall(); }
    base::Clock* world = nullptr;
  };

  Nanos Now() const { return clock_.Monotonic(); }

  void Note(const std::string& what) {
    if (options_.log_events)
      std::cout << absl::StrFormat("%12.3f ms  ", static_cast<double>(Now().count()) / 1e6) << what << "\n";
  }

  // Runs for at most `limit`, until `done` or the first failure. True if done.
  bool Advance(Nanos limit, const std::function<bool()>& done) {
    Nanos end = Now() + limit;
    while (!verdict_.failed() && Now() < end) {
      if (done && done()) return true;
      if (!cluster_->Step()) break;
      Look();
    }
    return done && !verdict_.failed() && done();
  }

  // What must hold after every step.
  void Look() {
    for (size_t i = 0; i < cluster_->size(); ++i) {
      if (!cluster_->alive(i)) continue;
      server::RaftDriver::State state = cluster_->node(i).driver().state();
      if (state.role == raft::Role::kLeader) {
        auto [leader, added] = leaders_.try_emplace(state.term, i);
        if (leader->second != i) {
          verdict_.Fail("one leader",
                        absl::StrCat("members ", leader->second, " and ", i, " lead in term ", state.term));
        }
        if (added) Note(absl::StrCat("member ", i, " leads in term ", state.term));
      }
    }
    if (Now() >= next_hash_) {
      next_hash_ = Now() + kHashEvery;
      Hash();
    }
  }

  void Hash() {
    for (size_t i = 0; i < cluster_->size(); ++i) {
      if (!cluster_->alive(i)) continue;
      storage::HashResult hash = cluster_->node(i).store().HashKv(0);
      if (hash.error == storage::StoreError::kNone)
        truth_->Hash(i, hash.hash_revision, hash.compact_revision, hash.hash);
    }
  }

  // The phase without faults: everything must come right within a bounded time.
  void Settle() {
    Note("the faults end");
    workload_->StopLoad();
    nemesis_->Stop();
    sites_.Quieten();
    cluster_->Heal();
    cluster_->SetNetwork(0, 0, swarm_.cluster.min_delay, swarm_.cluster.max_delay);
    Nanos budget = std::chrono::seconds(30) + 60 * swarm_.election();
    // Changes of the membership that are still under way end first.
    Advance(std::chrono::seconds(4), nullptr);
    cluster_->Heal();
    if (verdict_.failed()) return;
    nemesis_->RestoreAll({});
    if (!Advance(2 * budget, [&] { return nemesis_->Repaired(); })) {
      return verdict_.Fail("liveness", "a member whose disk is lost cannot be removed: " + WhatIsUnsettled());
    }
    // Who takes its place may still be on its way.
    Advance(std::chrono::seconds(4), nullptr);
    std::vector<uint64_t> members;
    bool led = Advance(budget, [&] {
      std::optional<std::vector<uint64_t>> known = MembersOfLeader();
      if (known) members = *known;
      return known.has_value();
    });
    if (!led)
      return verdict_.Fail("liveness", "no leader that all follow within the budget: " + WhatIsUnsettled());
    nemesis_->RestoreAll(members);
    CheckRequests(budget);
    if (verdict_.failed()) return;
    if (!Advance(budget, [&] { return Quiet(); })) {
      return verdict_.Fail("liveness", absl::StrCat("not settled within the budget: ", WhatIsUnsettled()));
    }
    Hash();
    CompareTables();
    CheckDurability();
    if (!verdict_.failed() && swarm_.seed % 4 == 0) CheckRot();
  }

  // A flipped bit in what a member has synced is not taken for a torn end: the member may refuse to start, or
  // not have needed it, but it does not come back with a shorter log.
  void CheckRot() {
    size_t victim = swarm_.seed / 4 % cluster_->size();
    if (!cluster_->alive(victim)) return;
    // What it has applied it has on its disk; what came after may still be on the way there.
    uint64_t last = cluster_->node(victim).applier().applied_index();
    cluster_->Kill(victim);
    if (!cluster_->RotLog(victim)) return;
    Note(absl::StrCat("a bit of the log of member ", victim, " rots"));
    absl::Status started = cluster_->TryRestart(victim);
    if (started.ok() && cluster_->node(victim).driver().state().last_index < last) {
      verdict_.Fail("rot", absl::StrCat("member ", victim, " came back with a shorter log"));
    } else if (!started.ok() && !absl::IsDataLoss(started)) {
      verdict_.Fail("rot", std::string(started.ToString()));
    }
  }

  std::optional<std::vector<uint64_t>> MembersOfLeader() {
    for (size_t i = 0; i < cluster_->size(); ++i) {
      if (!cluster_->alive(i) || !cluster_->node(i).is_leader()) continue;
      std::vector<uint64_t> ids;
      size_t followers = 0;
      for (const server::Member& member : cluster_->node(i).cluster().View()->Members())
        ids.push_back(member.id);
      for (size_t k = 0; k < cluster_->size(); ++k) {
        bool member = std::find(ids.begin(), ids.end(), cluster_->id(k)) != ids.end();
        if (!member || !cluster_->alive(k)) continue;
        if (cluster_->node(k).driver().leader() == cluster_->id(i) &&
            cluster_->node(k).applier().applied_index() == cluster_->node(i).applier().applied_index())
          ++followers;
      }
      if (followers > 0 && followers == ids.size()) return ids;
    }
    return std::nullopt;
  }

  void CheckRequests(Nanos budget) {
    std::map<size_t, std::shared_ptr<Workload::Check>> checks;
    // A request may meet an election that is just ending; a client then asks again.
    bool done = Advance(budget, [&] {
      bool all = true;
      for (size_t i = 0; i < cluster_->size(); ++i) {
        if (!cluster_->alive(i) || cluster_->node(i).is_learner()) continue;
        std::shared_ptr<Workload::Check>& check = checks[i];
        if (check == nullptr || (check->done && !check->ok)) check = workload_->CheckMember(i);
        all = all && check->done && check->ok;
      }
      return all;
    });
    if (!done) verdict_.Fail("liveness", "a request is not answered although all is well");
  }

  std::string WhatIsUnsettled() {
    std::string out;
    for (const auto& watcher : workload_->watchers()) {
      if (!watcher->CaughtUp(truth_->revision())) absl::StrAppend(&out, watcher->Describe(), "; ");
    }
    for (size_t i = 0; i < cluster_->size(); ++i) {
      if (!cluster_->alive(i)) continue;
      server::RaftDriver::State state = cluster_->node(i).driver().state();
      std::string peers;
      for (const auto& [id, member] : cluster_->node(i).cluster().View()->members) {
        for (size_t k = 0; k < cluster_->size(); ++k) {
          if (cluster_->id(k) == id) absl::StrAppend(&peers, " ", k, member.is_learner ? " (learner)" : "");
        }
      }
      absl::StrAppend(&out, "member ", i, " of", peers, " (", std::string(raft::RoleName(state.role)),
                      " in term ", state.term, ", last ", state.last_index, ") applied ",
                      cluster_->node(i).applier().applied_index(), " commit ",
                      cluster_->node(i).driver().commit(), " revision ",
                      cluster_->node(i).store().current_revision(), "; ");
    }
    return out;
  }

  bool Quiet() {
    std::optional<uint64_t> applied;
    for (size_t i = 0; i < cluster_->size(); ++i) {
      if (!cluster_->alive(i)) continue;
      uint64_t index = cluster_->node(i).applier().applied_index();
      if (applied.value_or(index) != index ||
          cluster_->node(i).store().current_revision() != truth_->revision())
        return false;
      applied = index;
    }
    return std::all_of(workload_->watchers().begin(), workload_->watchers().end(),
                       [&](const auto& w) { return w->CaughtUp(truth_->revision()); });
  }

  // What HashKV does not cover is equal everywhere too.
  void CompareTables() {
    std::optional<std::string> first;
    for (size_t i = 0; i < cluster_->size(); ++i) {
      if (!cluster_->alive(i)) continue;
      server::Node& node = cluster_->node(i);
      std::string tables = server::MembersToJson(node.cluster().View()->Members());
      std::vector<int64_t> leases = node.lessor().Leases();
      std::sort(leases.begin(), leases.end());
      for (int64_t lease : leases) {
        absl::StrAppend(&tables, " lease ", lease, ":");
        for (const std::string& key : node.lessor().KeysOf(lease)) absl::StrAppend(&tables, " ", key);
      }
      node.store().ForEachInTable(storage::Table::kLease, [&](std::string_view key, std::string_view) {
        absl::StrAppend(&tables, " stored ", absl::CHexEscape(std::string(key)));
      });
      if (!first) first = tables;
      if (tables != *first)
        verdict_.Fail("tables", absl::StrCat("member ", i, " has ", tables, ", another ", *first));
    }
  }

  // Everything that was ever acknowledged is what every member shows.
  void CheckDurability() {
    LiveKeys expected = truth_->StateAt(truth_->revision());
    for (size_t i = 0; i < cluster_->size(); ++i) {
      if (!cluster_->alive(i)) continue;
      storage::OpResult result;
      storage::RangeArgs all;
      std::string from(1, '\0');
      all.key = from;
      all.range_end = from;
      cluster_->node(i).store().Range(all, &result);
      etcdserverpb::RangeResponse answer;
      answer.ParseFromString(result.body);
      bool same = static_cast<size_t>(answer.kvs_size()) == expected.size();
      for (const mvccpb::KeyValue& kv : answer.kvs()) {
        auto it = expected.find(kv.key());
        same = same && it != expected.end() && it->second.SerializeAsString() == kv.SerializeAsString();
      }
      if (!same)
        verdict_.Fail("durability", absl::StrCat("member ", i, " does not hold the state of revision ",
                                                 truth_->revision()));
    }
  }

  void CheckGenerally() {
    std::optional<std::vector<RegisterOp>> ops = AsRegisterOps(workload_->ops());
    if (!ops) return;
    if (CheckLinearizable(*ops, 200'000) == WglResult::kNotLinearizable)
      verdict_.Fail("linearizable (general)", "no order of the operations explains their answers");
  }

  RunResult Result() {
    RunResult result;
    result.failed = verdict_.failed();
    result.checker = verdict_.checker();
    result.what = verdict_.what();
    result.trace = cluster_->scheduler().TraceHash() ^ truth_->Digest() ^ cluster_->random().Next();
    result.simulated = Now();
    result.requests = workload_->ops().size();
    result.answered = static_cast<uint64_t>(std::count_if(workload_->ops().begin(), workload_->ops().end(),
                                                          [](const Op& op) { return op.ok(); }));
    result.faults = nemesis_->faults();
    for (const auto& watcher : workload_->watchers()) result.events += watcher->events();
    result.revisions = truth_->revision();
    result.terms = leaders_.size();
    return result;
  }

  const Swarm swarm_;
  const RunOptions options_;
  Verdict verdict_;
  SimSites sites_;
  RaftChecker raft_;
  LateClock clock_;
  std::unique_ptr<Truth> truth_;
  std::unique_ptr<SimCluster> cluster_;
  std::unique_ptr<Workload> workload_;
  std::unique_ptr<Nemesis> nemesis_;
  std::map<uint64_t, size_t> leaders_;
  Nanos next_hash_{0};
};

}  // namespace

RunResult Run(const Swarm& swarm, const RunOptions& options) {
  return std::make_unique<OneRun>(swarm, options)->Run();
}

}  // namespace kvd::sim
