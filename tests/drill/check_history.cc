#include "check_history.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "history.h"
#include "history.pb.h"
#include "history_checker.h"
#include "truth.h"
#include "watch_checker.h"
#include "wgl_checker.h"

namespace kvd::drill {
namespace {

using base::Nanos;
using sim::Op;
using sim::Truth;

// Clocks of members and of the machine that tests them are one.
constexpr double kMaxDrift = 0.01;

// A clock for the truth, which asks for the time only when it watches an engine.
class NoClock final : public base::Clock {
 public:
  Nanos Monotonic() const override { return Nanos(0); }
  Nanos Wall() const override { return Nanos(0); }
};

Op ToOp(const Operation& in) {
  Op op;
  op.id = in.id();
  op.client = in.client();
  op.member = in.member();
  op.invoked = Nanos(in.invoked_ns());
  if (in.returned_ns() != 0) op.returned = Nanos(in.returned_ns());
  op.error = in.error().empty() ? server::Error::kOk : server::ErrorFromText(in.error());
  switch (in.request_case()) {
    case Operation::kPut:
      op.kind = Op::Kind::kPut;
      op.put = in.put();
      op.put_answer = in.put_answer();
      op.revision = in.put_answer().header().revision();
      break;
    case Operation::kDeleteRange:
      op.kind = Op::Kind::kDelete;
      op.del = in.delete_range();
      op.del_answer = in.delete_range_answer();
      op.revision = in.delete_range_answer().header().revision();
      break;
    case Operation::kTxn:
      op.kind = Op::Kind::kTxn;
      op.txn = in.txn();
      op.txn_answer = in.txn_answer();
      op.revision = in.txn_answer().header().revision();
      break;
    case Operation::kRange:
      op.kind = in.range().serializable() ? Op::Kind::kSerializable : Op::Kind::kRange;
      op.range = in.range();
      op.range_answer = in.range_answer();
      op.revision = in.range_answer().header().revision();
      break;
    case Operation::kGrant:
      op.kind = Op::Kind::kGrant;
      op.lease = in.grant().id();
      op.ttl_s = in.grant_answer().ttl();
      break;
    case Operation::kRevoke:
      op.kind = Op::Kind::kRevoke;
      op.lease = in.revoke().id();
      break;
    case Operation::kKeepAlive:
      op.kind = Op::Kind::kKeepAlive;
      op.lease = in.keep_alive().id();
      break;
    case Operation::kCompact:
      op.kind = Op::Kind::kCompact;
      op.compact = in.compact().revision();
      break;
    case Operation::REQUEST_NOT_SET:
      break;
  }
  return op;
}

class Recorded {
 public:
  explicit Recorded(sim::Verdict& verdict) : verdict_(verdict), truth_(clock_, verdict) {}

  Checked Check(std::istream& lines) {
    Read(lines);
    if (!verdict_.failed()) BuildTruth();
    if (!verdict_.failed()) CheckWatches();
    if (!verdict_.failed()) CheckEnds();
    if (!verdict_.failed()) sim::CheckHistory(ops_, truth_, verdict_);
    if (!verdict_.failed()) sim::CheckLeases(ops_, truth_, kMaxDrift, verdict_);
    if (!verdict_.failed()) CheckGenerally();
    checked_.operations = ops_.size();
    for (const Op& op : ops_) {
      ++(op.ok() ? checked_.answered : op.refused() ? checked_.refused : checked_.unanswered);
    }
    checked_.revision = truth_.revision();
    return checked_;
  }

 private:
  void Read(std::istream& lines) {
    size_t number = 0;
    for (std::string text; std::getline(lines, text);) {
      ++number;
      Line line;
      if (!google::protobuf::util::JsonStringToMessage(text, &line).ok()) {
        return verdict_.Fail("format", absl::StrCat("line ", number, " is none of a history"));
      }
      if (line.what_case() == Line::kOperation) ops_.push_back(ToOp(line.operation()));
      if (line.what_case() == Line::kMemberEnd) ends_.push_back(line.member_end());
      if (line.what_case() == Line::kWatchStart || line.what_case() == Line::kWatched) {
        watch_lines_.push_back(std::move(line));
      }
    }
    for (const Op& op : ops_) {
      if (op.kind == Op::Kind::kCompact) compacted_ = std::max(compacted_, op.compact);
    }
    std::sort(ops_.begin(), ops_.end(), [](const Op& a, const Op& b) { return a.invoked < b.invoked; });
    if (ops_.empty() || ends_.empty()) verdict_.Fail("format", "the history has no operations, or no end");
  }

  // The latest moment at which a revision can have been written: the first answer that knew of it.
  void FindTimes() {
    for (const Op& op : ops_) {
      if (!op.ok() || op.revision == 0) continue;
      auto [at, added] = known_by_.try_emplace(op.revision, *op.returned);
      if (!added) at->second = std::min(at->second, *op.returned);
    }
    Nanos earliest = Nanos::max();
    for (auto it = known_by_.rbegin(); it != known_by_.rend(); ++it) {
      it->second = earliest = std::min(earliest, it->second);
    }
  }

  Nanos WrittenBy(int64_t revision) const {
    auto it = known_by_.lower_bound(revision);
    return it == known_by_.end() ? Nanos::max() : it->second;
  }

  // Every revision is what a watch of all keys was told first; the others must have been told the same.
  void BuildTruth() {
    FindTimes();
    std::set<uint32_t> whole;
    for (const Line& line : watch_lines_) {
      if (line.what_case() == Line::kWatchStart) {
        const auto& create = line.watch_start().create();
        if (create.key() == std::string(1, '\0') && create.range_end() == create.key()) {
          whole.insert(line.watch_start().watcher());
        }
        continue;
      }
      if (whole.contains(line.watched().watcher())) TakeEvents(line.watched().response());
      if (verdict_.failed()) return;
    }
    EndLeases();
  }

  void TakeEvents(const etcdserverpb::WatchResponse& response) {
    std::map<int64_t, std::vector<Truth::Change>> revisions;
    for (const mvccpb::Event& event : response.events()) {
      revisions[event.kv().mod_revision()].push_back({event.type() == mvccpb::Event::DELETE, event.kv()});
    }
    for (const auto& [revision, changes] : revisions) {
      if (!truth_.Record(revision, changes, WrittenBy(revision))) {
        verdict_.Fail("agreement",
                      absl::StrCat("two watches were told different things of revision ", revision));
      }
    }
  }

  // A lease that no member holds at the end has ended, at the latest when its keys went; clients delete keys
  // with a lease only by revoking it.
  void EndLeases() {
    std::set<int64_t> living;
    for (const auto& status : ends_.front().leases().leases()) living.insert(status.id());
    for (int64_t revision = 2; revision <= truth_.revision(); ++revision) {
      const std::vector<Truth::Change>* changes = truth_.At(revision);
      if (changes == nullptr) continue;  // found later
      for (const Truth::Change& change : *changes) {
        if (!change.is_delete) continue;
        const mvccpb::KeyValue* before = truth_.KeyAt(change.kv.key(), revision - 1);
        if (before != nullptr && before->lease() != 0 && !living.contains(before->lease())) {
          truth_.RecordLeaseEnd(before->lease(), WrittenBy(revision));
        }
      }
    }
    for (const Op& op : ops_) {
      if (op.kind == Op::Kind::kGrant && op.ok() && !living.contains(op.lease)) {
        truth_.RecordLeaseEnd(op.lease, Nanos::max());
      }
    }
  }

  void CheckWatches() {
    std::map<uint32_t, std::unique_ptr<sim::WatchChecker>> checkers;
    for (const Line& line : watch_lines_) {
      const bool start = line.what_case() == Line::kWatchStart;
      const uint32_t watcher = start ? line.watch_start().watcher() : line.watched().watcher();
      std::unique_ptr<sim::WatchChecker>& checker = checkers[watcher];
      if (start) {
        const auto& create = line.watch_start().create();
        if (checker == nullptr) {
          checker = std::make_unique<sim::WatchChecker>(
              truth_,
              sim::WatchChecker::Options{create.key(), create.range_end(), create.prev_kv(),
                                         create.fragment()},
              [this, watcher](const std::string& what) {
                verdict_.Fail("watch", absl::StrCat("watcher ", watcher, ": ", what));
              },
              [this] { return compacted_; });
          if (create.start_revision() > 0) checker->StartAt(create.start_revision());
        }
        checker->BeginStream();
      } else if (checker != nullptr) {
        checker->OnResponse(line.watched().response());
      }
      if (verdict_.failed()) return;
    }
    for (const auto& [watcher, checker] : checkers) {
      checked_.watch_events += checker->events();
      if (!checker->CaughtUp(truth_.revision())) {
        verdict_.Fail("watch", absl::StrCat("watcher ", watcher, " stands at ", checker->next(), " of ",
                                            truth_.revision()));
      }
    }
  }

  // All members hold the same, and it is what was written.
  void CheckEnds() {
    const sim::LiveKeys live = truth_.StateAt(truth_.revision());
    for (const MemberEnd& end : ends_) {
      if (end.hash().hash() != ends_.front().hash().hash()) {
        return verdict_.Fail("hash", absl::StrCat("members ", ends_.front().member(), " and ", end.member(),
                                                  " differ at revision ", truth_.revision()));
      }
      const bool same = end.keys().header().revision() == truth_.revision() &&
                        std::equal(live.begin(), live.end(), end.keys().kvs().begin(), end.keys().kvs().end(),
                                   [](const auto& a, const mvccpb::KeyValue& b) {
                                     return a.second.SerializeAsString() == b.SerializeAsString();
                                   });
      if (!same) {
        return verdict_.Fail(
            "durability",
            absl::StrCat("member ", end.member(), " at revision ", end.keys().header().revision(),
                         " does not hold what was written up to ", truth_.revision()));
      }
    }
  }

  // The clients begin with operations that the general checker knows.
  void CheckGenerally() {
    sim::Ops first;
    for (const Op& op : ops_) {
      sim::Ops one{op};
      if (op.kind == Op::Kind::kGrant || !sim::AsRegisterOps(one)) break;
      first.push_back(op);
    }
    if (first.empty() || first.size() == ops_.size()) return;
    const Nanos cut = ops_[first.size()].invoked;
    for (Op& op : first) {
      if (op.returned && *op.returned >= cut) op.returned.reset();
    }
    if (sim::CheckLinearizable(*sim::AsRegisterOps(first)) == sim::WglResult::kNotLinearizable) {
      verdict_.Fail("linearizable", "no order explains the first operations");
    }
    checked_.general = first.size();
  }

  sim::Verdict& verdict_;
  NoClock clock_;
  Truth truth_;
  sim::Ops ops_;
  std::vector<Line> watch_lines_;
  std::vector<MemberEnd> ends_;
  std::map<int64_t, Nanos> known_by_;
  int64_t compacted_ = -1;  // the most that was asked for
  Checked checked_;
};

}  // namespace

Checked CheckRecorded(std::istream& lines, sim::Verdict& verdict) {
  return Recorded(verdict).Check(lines);
}

}  // namespace kvd::drill
