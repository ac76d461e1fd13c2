#include "wgl_checker.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <tuple>
#include <utility>

namespace kvd::sim {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

struct State {
  int64_t revision = 1;
  std::map<std::string, std::pair<std::string, int64_t>> live;  // key -> value, mod revision
  friend bool operator<(const State& a, const State& b) {
    return std::tie(a.revision, a.live) < std::tie(b.revision, b.live);
  }
};

// The state after `op`, or nothing if it could not have been answered so here. Without an answer, all fits.
std::optional<State> Step(const State& before, const RegisterOp& op) {
  State after = before;
  auto it = after.live.find(op.key);
  bool lives = it != after.live.end();
  bool succeeds = false;
  switch (op.kind) {
    case RegisterOp::Kind::kGet:
      succeeds = lives;
      if (op.returned && lives && (it->second.first != op.got || it->second.second != op.got_mod))
        return std::nullopt;
      break;
    case RegisterOp::Kind::kPut:
      after.live[op.key] = {op.value, ++after.revision};
      succeeds = op.found;
      break;
    case RegisterOp::Kind::kDelete:
      succeeds = lives;
      if (lives) {
        after.live.erase(it);
        ++after.revision;
      }
      break;
    case RegisterOp::Kind::kCompareAndPut:
      succeeds = (lives ? it->second.second : 0) == op.expected_mod;
      if (succeeds) after.live[op.key] = {op.value, ++after.revision};
      break;
  }
  if (op.returned && (succeeds != op.found || after.revision != op.revision)) return std::nullopt;
  return after;
}

// Calls and returns in the order of time, as a list from which operations are lifted and put back.
class Search {
 public:
  Search(const std::vector<RegisterOp>& ops, uint64_t max_steps) : ops_(ops), steps_left_(max_steps) {
    struct Moment {
      int64_t at;
      bool is_return;
      size_t op;
    };
    std::vector<Moment> moments;
    for (size_t i = 0; i < ops.size(); ++i) {
      moments.push_back({ops[i].invoked.count(), false, i});
      moments.push_back({ops[i].returned ? ops[i].returned->count() : kNever, true, i});
    }
    std::sort(moments.begin(), moments.end(), [](const Moment& a, const Moment& b) {
      return std::tie(a.at, a.is_return, a.op) < std::tie(b.at, b.is_return, b.op);
    });
    nodes_.resize(moments.size() + 1);
    returns_.resize(ops.size());
    for (size_t i = 0; i < moments.size(); ++i) {
      nodes_[i + 1] = {moments[i].op, moments[i].is_return, i, i + 2 > moments.size() ? 0 : i + 2};
      if (moments[i].is_return) returns_[moments[i].op] = i + 1;
    }
    nodes_[0] = {0, false, moments.size(), moments.empty() ? 0 : size_t{1}};
    answered_ = static_cast<size_t>(
        std::count_if(ops.begin(), ops.end(), [](const RegisterOp& op) { return op.returned.has_value(); }));
  }

  WglResult Run() {
    std::vector<std::pair<size_t, State>> chosen;  // the call's node and the state before it
    std::vector<bool> done(ops_.size(), false);
    std::set<std::pair<std::vector<bool>, State>> seen;
    State state;
    size_t at = nodes_[0].next;
    while (answered_ > 0) {
      if (steps_left_-- == 0) return WglResult::kGaveUp;
      bool back = at == 0 || nodes_[at].is_return;
      if (!back) {
        size_t op = nodes_[at].op;
        std::optional<State> after = Step(state, ops_[op]);
        if (after) {
          done[op] = true;
          if (seen.emplace(done, *after).second) {
            chosen.emplace_back(at, std::move(state));
            state = *std::move(after);
            Lift(at);
            at = nodes_[0].next;
            continue;
          }
          done[op] = false;
        }
        at = nodes_[at].next;
        continue;
      }
      // The next answer belongs to an operation that nothing before it lets happen: something was chosen
      // wrong.
      if (chosen.empty()) return WglResult::kNotLinearizable;
      at = chosen.back().first;
      state = std::move(chosen.back().second);
      chosen.pop_back();
      done[nodes_[at].op] = false;
      Unlift(at);
      at = nodes_[at].next;
    }
    return WglResult::kLinearizable;
  }

 private:
  struct Node {
    size_t op = 0;
    bool is_return = false;
    size_t previous = 0;
    size_t next = 0;
  };
  void Unlink(size_t n) {
    nodes_[nodes_[n].previous].next = nodes_[n].next;
    if (nodes_[n].next != 0) nodes_[nodes_[n].next].previous = nodes_[n].previous;
  }
  void Relink(size_t n) {
    nodes_[nodes_[n].previous].next = n;
    if (nodes_[n].next != 0) nodes_[nodes_[n].next].previous = n;
  }
  void Lift(size_t call) {
    Unlink(call);
    Unlink(returns_[nodes_[call].op]);
    if (ops_[nodes_[call].op].returned) --answered_;
  }
  void Unlift(size_t call) {
    if (ops_[nodes_[call].op].returned) ++answered_;
    Relink(returns_[nodes_[call].op]);
    Relink(call);
  }

  const std::vector<RegisterOp>& ops_;
  uint64_t steps_left_;
  size_t answered_ = 0;          // operations with an answer that are not placed yet
  std::vector<Node> nodes_;      // [0] is the head; next == 0 is the end
  std::vector<size_t> returns_;  // the node of each operation's return
};

}  // namespace

WglResult CheckLinearizable(const std::vector<RegisterOp>& ops, uint64_t max_steps) {
  return Search(ops, max_steps).Run();
}

namespace {

// A txn that puts one key if its modification revision is the expected one.
bool AsCompareAndPut(const Op& op, RegisterOp* out) {
  if (op.txn.compare_size() != 1 || op.txn.success_size() != 1 || op.txn.failure_size() != 0) return false;
  const etcdserverpb::Compare& compare = op.txn.compare(0);
  if (compare.target() != etcdserverpb::Compare::MOD || compare.result() != etcdserverpb::Compare::EQUAL ||
      !op.txn.success(0).has_request_put() || op.txn.success(0).request_put().key() != compare.key())
    return false;
  out->kind = RegisterOp::Kind::kCompareAndPut;
  out->key = compare.key();
  out->expected_mod = compare.mod_revision();
  out->value = op.txn.success(0).request_put().value();
  out->found = op.txn_answer.succeeded();
  return true;
}

}  // namespace

std::optional<std::vector<RegisterOp>> AsRegisterOps(const Ops& ops) {
  std::vector<RegisterOp> out;
  for (const Op& op : ops) {
    if (op.refused() || op.kind == Op::Kind::kSerializable) continue;
    RegisterOp r;
    r.invoked = op.invoked;
    if (op.ok()) r.returned = op.returned;
    r.revision = op.revision;
    switch (op.kind) {
      case Op::Kind::kPut:
        if (op.put.lease() != 0 || op.put.ignore_value()) return std::nullopt;
        r.kind = RegisterOp::Kind::kPut;
        r.key = op.put.key();
        r.value = op.put.value();
        break;
      case Op::Kind::kDelete:
        if (!op.del.range_end().empty()) return std::nullopt;
        r.kind = RegisterOp::Kind::kDelete;
        r.key = op.del.key();
        r.found = op.del_answer.deleted() > 0;
        break;
      case Op::Kind::kTxn:
        if (!AsCompareAndPut(op, &r)) return std::nullopt;
        break;
      case Op::Kind::kRange:
        if (!op.ok()) continue;  // changes nothing, says nothing
        if (!op.range.range_end().empty() || op.range.revision() != 0 || op.range.count_only())
          return std::nullopt;
        r.key = op.range.key();
        r.found = op.range_answer.kvs_size() > 0;
        if (r.found) {
          r.got = op.range_answer.kvs(0).value();
          r.got_mod = op.range_answer.kvs(0).mod_revision();
        }
        break;
      default:
        return std::nullopt;
    }
    out.push_back(std::move(r));
  }
  return out;
}

}  // namespace kvd::sim
