#include "history_checker.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"

namespace kvd::sim {
namespace {

using base::Nanos;
using Kind = Op::Kind;

bool IsKv(const Op& op) {
  return op.kind == Kind::kPut || op.kind == Kind::kDelete || op.kind == Kind::kTxn ||
         op.kind == Kind::kRange || op.kind == Kind::kSerializable;
}

// Runs the operation on the model; true if its answer is the one that the client got.
bool Answers(const Op& op, KvModel& model) {
  switch (op.kind) {
    case Kind::kPut:
      return SameAnswer(model.Put(op.put), op.put_answer);
    case Kind::kDelete:
      return SameAnswer(model.Delete(op.del), op.del_answer);
    case Kind::kTxn:
      return SameAnswer(model.Txn(op.txn), op.txn_answer);
    default:
      return SameAnswer(model.Range(op.range), op.range_answer);
  }
}

bool SameState(const LiveKeys& a, const LiveKeys& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.first == y.first && x.second.SerializeAsString() == y.second.SerializeAsString();
  });
}

template <typename F>
void ForEachPut(const etcdserverpb::TxnRequest& txn, const F& f) {
  for (const auto* ops : {&txn.success(), &txn.failure()}) {
    for (const etcdserverpb::RequestOp& op : *ops) {
      if (op.has_request_put()) f(op.request_put());
      if (op.has_request_txn()) ForEachPut(op.request_txn(), f);
    }
  }
}

bool MayDelete(const etcdserverpb::TxnRequest& txn, const std::string& key) {
  for (const auto* ops : {&txn.success(), &txn.failure()}) {
    for (const etcdserverpb::RequestOp& op : *ops) {
      if (op.has_request_delete_range() &&
          InRange(key, op.request_delete_range().key(), op.request_delete_range().range_end()))
        return true;
      if (op.has_request_txn() && MayDelete(op.request_txn(), key)) return true;
    }
  }
  return false;
}

class Checker {
 public:
  Checker(const Ops& ops, const Truth& truth, Verdict& verdict)
      : ops_(ops), truth_(truth), verdict_(verdict), history_([&](int64_t r) { return truth.StateAt(r); }) {}

  void Run() {
    IndexValues();
    CheckContents();
    CheckCauses();
    CheckRealTime();
  }

 private:
  void IndexValues() {
    for (const Op& op : ops_) {
      if (op.kind == Kind::kPut && !op.put.ignore_value()) writers_[op.put.value()] = &op;
      if (op.kind == Kind::kTxn)
        ForEachPut(op.txn, [&](const etcdserverpb::PutRequest& put) { writers_[put.value()] = &op; });
      if (op.ok() && IsKv(op)) by_revision_[op.revision].push_back(&op);
    }
  }

  // Replays the truth, and asks at every revision what the answers of that revision should have been.
  void CheckContents() {
    KvState before;
    KvState now;
    for (int64_t revision = 1; revision <= truth_.revision() && !verdict_.failed(); ++revision) {
      if (const auto* changes = truth_.At(revision)) {
        before = now;
        for (const Truth::Change& change : *changes) {
          if (change.is_delete) {
            now.live.erase(change.kv.key());
          } else {
            now.live[change.kv.key()] = change.kv;
          }
        }
      } else if (revision > 1) {
        return verdict_.Fail("durability", absl::StrCat("nobody wrote revision ", revision));
      }
      now.revision = revision;
      auto answered = by_revision_.find(revision);
      if (answered == by_revision_.end()) continue;
      for (const Op* op : answered->second) CheckAnswer(*op, before, now);
    }
    auto beyond = by_revision_.upper_bound(truth_.revision());
    if (beyond != by_revision_.end()) {
      verdict_.Fail("durability", absl::StrCat("an answer of a revision that nobody wrote: ",
                                               beyond->second.front()->Describe()));
    }
  }

  void CheckAnswer(const Op& op, const KvState& before, const KvState& now) {
    KvModel reading(now, history_);
    if (Answers(op, reading) && !reading.changed()) return;
    KvModel writing(before, history_);
    bool same = Answers(op, writing);
    if (!writing.changed() || before.revision + 1 != now.revision ||
        !SameState(writing.After().live, now.live)) {
      // Either a read of the wrong content, or a write that is not what is there.
      return verdict_.Fail(writing.changed() ? "durability" : "answers",
                           absl::StrCat("does not fit revision ", now.revision, ": ", op.Describe()));
    }
    if (!same) return verdict_.Fail("answers", absl::StrCat("wrong answer: ", op.Describe()));
    if (!owners_.emplace(now.revision, &op).second) {
      verdict_.Fail("durability", absl::StrCat("two writes were told revision ", now.revision, ": ",
                                               op.Describe(), " and ", owners_[now.revision]->Describe()));
    }
  }

  // Every change has a cause, and every request at most one effect.
  void CheckCauses() {
    std::map<const Op*, int64_t> effects;
    for (const auto& [revision, op] : owners_) effects[op] = revision;
    for (int64_t revision = 2; revision <= truth_.revision() && !verdict_.failed(); ++revision) {
      const Op* cause = nullptr;
      const std::vector<Truth::Change>& changes = *truth_.At(revision);
      for (const Truth::Change& change : changes) {
        if (change.is_delete) continue;
        auto writer = writers_.find(change.kv.value());
        if (writer == writers_.end()) {
          return verdict_.Fail("causes", absl::StrCat("nobody put {", change.kv.ShortDebugString(), "}"));
        }
        cause = writer->second;
      }
      if (cause == nullptr) {
        CheckDeletes(revision, changes);
        continue;
      }
      auto [effect, first] = effects.try_emplace(cause, revision);
      if (effect->second != revision) {
        return verdict_.Fail("causes", absl::StrCat("applied at revisions ", effect->second, " and ",
                                                    revision, ": ", cause->Describe()));
      }
      if (cause->refused()) {
        return verdict_.Fail("causes",
                             absl::StrCat("refused, and yet revision ", revision, ": ", cause->Describe()));
      }
      if (cause->invoked > truth_.WrittenAt(revision)) {
        return verdict_.Fail("causes", absl::StrCat("applied before it was asked for: ", cause->Describe()));
      }
    }
  }

  void CheckDeletes(int64_t revision, const std::vector<Truth::Change>& changes) {
    if (owners_.contains(revision)) return;
    const std::string& key = changes.front().kv.key();
    Nanos at = truth_.WrittenAt(revision);
    for (const Op& op : ops_) {
      // An answered one has its own revision; what remains is unanswered, or failed without a definite
      // answer.
      if (op.ok() || op.refused() || op.invoked > at) continue;
      if (op.kind == Kind::kDelete && InRange(key, op.del.key(), op.del.range_end())) return;
      if (op.kind == Kind::kTxn && MayDelete(op.txn, key)) return;
    }
    LiveKeys before = truth_.StateAt(revision - 1);
    if (int64_t lease = before[key].lease(); lease != 0 && truth_.ended_leases().contains(lease)) {
      for (const auto& [other, kv] : truth_.StateAt(revision)) {
        if (kv.lease() == lease) {
          verdict_.Fail("lease keys",
                        absl::StrCat("lease ", lease, " ended at revision ", revision, " and left ", other));
        }
      }
      return;
    }
    verdict_.Fail("causes",
                  absl::StrCat("nobody asked for the deletion of ", key, " at revision ", revision));
  }

  // One sweep over calls and returns; at equal times calls come first.
  void CheckRealTime() {
    struct Moment {
      Nanos at;
      bool is_return;
      const Op* op;
    };
    std::vector<Moment> moments;
    for (const Op& op : ops_) {
      if (!op.ok() || !IsKv(op) || op.kind == Kind::kSerializable) continue;
      moments.push_back({op.invoked, false, &op});
      moments.push_back({*op.returned, true, &op});
    }
    std::sort(moments.begin(), moments.end(), [](const Moment& a, const Moment& b) {
      return std::tie(a.at, a.is_return, a.op->id) < std::tie(b.at, b.is_return, b.op->id);
    });
    std::map<const Op*, std::pair<int64_t, const Op*>> floor;
    int64_t highest = 0;
    const Op* by = nullptr;
    for (const Moment& moment : moments) {
      const Op& op = *moment.op;
      if (!moment.is_return) {
        floor[&op] = {highest, by};
        continue;
      }
      auto owner = owners_.find(op.revision);
      bool wrote = owner != owners_.end() && owner->second == &op;
      auto [least, before] = floor[&op];
      if (before != nullptr && (op.revision < least || (wrote && op.revision == least))) {
        return verdict_.Fail("linearizable", absl::StrCat("stale: ", op.Describe(),
                                                          ", although before it: ", before->Describe()));
      }
      if (truth_.WrittenAt(op.revision) > *op.returned) {
        return verdict_.Fail("linearizable", absl::StrCat("from the future: ", op.Describe()));
      }
      if (op.revision > highest) {
        highest = op.revision;
        by = &op;
      }
    }
  }

  const Ops& ops_;
  const Truth& truth_;
  Verdict& verdict_;
  const History history_;
  std::map<std::string, const Op*> writers_;
  std::map<int64_t, std::vector<const Op*>> by_revision_;
  std::map<int64_t, const Op*> owners_;  // answered writes, by what they wrote
};

}  // namespace

void CheckHistory(const Ops& ops, const Truth& truth, Verdict& verdict) {
  Checker(ops, truth, verdict).Run();
}

void CheckLeases(const Ops& ops, const Truth& truth, double max_drift, Verdict& verdict) {
  std::set<int64_t> revoked;
  std::map<int64_t, int64_t> ttl;
  for (const Op& op : ops) {
    if (op.kind == Kind::kRevoke) revoked.insert(op.lease);
    if (op.kind == Kind::kGrant && op.ok()) ttl[op.lease] = op.ttl_s;
  }
  for (const Op& op : ops) {
    if ((op.kind != Kind::kGrant && op.kind != Kind::kKeepAlive) || !op.ok()) continue;
    auto end = truth.ended_leases().find(op.lease);
    if (end == truth.ended_leases().end() || revoked.contains(op.lease) || !ttl.contains(op.lease)) continue;
    Nanos promised(static_cast<int64_t>(static_cast<double>(ttl[op.lease]) * 1e9 / (1 + max_drift)));
    if (end->second < op.invoked + promised) {
      return verdict.Fail("lease early",
                          absl::StrCat("ended at ", static_cast<double>(end->second.count()) / 1e6,
                                       " ms in spite of ", op.Describe()));
    }
  }
  // Keys of a lease that ended are gone, all of them at once.
  std::map<int64_t, std::set<std::string>> keys;
  std::map<std::string, int64_t> lease_of;
  for (int64_t revision = 2; revision <= truth.revision(); ++revision) {
    const auto* changes = truth.At(revision);
    if (changes == nullptr) return;
    for (const Truth::Change& change : *changes) {
      const std::string& key = change.kv.key();
      if (auto it = lease_of.find(key); it != lease_of.end()) {
        keys[it->second].erase(key);
        lease_of.erase(it);
      }
      if (!change.is_delete && change.kv.lease() != 0) {
        lease_of[key] = change.kv.lease();
        keys[change.kv.lease()].insert(key);
      }
    }
  }
  for (const auto& [lease, left] : keys) {
    if (!left.empty() && truth.ended_leases().contains(lease)) {
      return verdict.Fail("lease keys",
                          absl::StrCat("lease ", lease, " has ended and ", *left.begin(), " lives"));
    }
  }
}

}  // namespace kvd::sim
