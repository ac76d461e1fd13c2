#include "runner.h"

#include <algorithm>
#include <chrono>
#include <thread>

namespace kvd::diff {
namespace {

namespace pb = etcdserverpb;

constexpr std::chrono::milliseconds kPatience(5000);
constexpr std::chrono::milliseconds kCompactionPatience(1000);
constexpr std::chrono::milliseconds kProgressPatience(2000);
constexpr std::chrono::milliseconds kCatchUp(400);
constexpr int kMaxWatches = 12;
const std::string kZero(1, '\0');

bool Deletes(const pb::TxnResponse& txn) {
  return std::any_of(txn.responses().begin(), txn.responses().end(), [](const pb::ResponseOp& op) {
    return (op.has_response_delete_range() && op.response_delete_range().deleted() > 0) ||
           (op.has_response_txn() && Deletes(op.response_txn()));
  });
}

bool Covers(const pb::WatchCreateRequest& watch, const std::string& key) {
  const std::string& from = watch.key().empty() ? kZero : watch.key();
  if (watch.range_end().empty()) return key == from;
  return key >= from && (watch.range_end() == kZero || key < watch.range_end());
}

std::string Text(const std::vector<mvccpb::Event>& events) {
  std::string out;
  for (const mvccpb::Event& event : events) out += "    { " + event.ShortDebugString() + " }\n";
  return out.empty() ? "    none\n" : out;
}

bool Same(const std::vector<mvccpb::Event>& a, const std::vector<mvccpb::Event>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const mvccpb::Event& x, const mvccpb::Event& y) {
                      return x.SerializeAsString() == y.SerializeAsString();
                    });
}

// What the checks that come before the first write of a transaction may find.
bool FoundByCheck(const grpc::Status& status) {
  static const std::set<std::string> kTexts = {"etcdserver: requested lease not found",
                                               "etcdserver: key not found",
                                               "etcdserver: mvcc: required revision is a future revision",
                                               "etcdserver: mvcc: required revision has been compacted"};
  return kTexts.contains(status.error_message());
}

uint32_t HashOf(const Outcome& outcome) {
  return std::get<pb::HashKVResponse>(outcome.response).hash();
}

void SortLeases(Response* response) {
  auto* leases = std::get_if<pb::LeaseLeasesResponse>(response);
  if (leases == nullptr) return;
  std::sort(leases->mutable_leases()->begin(), leases->mutable_leases()->end(),
            [](const pb::LeaseStatus& a, const pb::LeaseStatus& b) { return a.id() < b.id(); });
}

std::string Sides(const std::string& left, const std::string& right) {
  return "  left:  " + left.substr(0, 3000) + "\n  right: " + right.substr(0, 3000);
}

}  // namespace

Runner::Runner(const std::string& left, const std::string& right) : sides_{Side(left), Side(right)} {}

std::optional<Difference> Runner::Run(const Program& program) {
  Maybe different = Reset();
  size_t at = 0;
  for (; !different && at < program.size(); ++at) {
    different = RunStep(Materialise(program[at], base_));
    if (different) break;
  }
  if (!different) different = OnEach(pb::HashKVRequest());
  if (!different) {
    pb::RangeRequest everything;
    everything.set_key(kZero);
    everything.set_range_end(kZero);
    different = OnEach(everything);
  }
  if (!different) different = Settle();
  for (auto it = watches_.begin(); !different && it != watches_.end(); ++it) {
    different = CompareWatch(it->first, it->second);
  }
  for (Side& side : sides_) side.CloseWatches();
  if (!different) return std::nullopt;
  return Difference{at, *different};
}

// Equal revisions, no leases, one key, and nothing older kept.
Runner::Maybe Runner::Reset() {
  int64_t revisions[2];
  pb::PutRequest pad;
  pad.set_key("pad");
  pb::DeleteRangeRequest everything;
  everything.set_key(kZero);
  everything.set_range_end(kZero);
  auto call = [&](int i, const Step& step) {
    Outcome outcome = sides_[i].Call(step);
    if (outcome.status.ok()) revisions[i] = HeaderIn(&outcome.response)->revision();
    return outcome;
  };
  for (int i = 0; i < 2; ++i) {
    sides_[i].CloseWatches();
    Outcome leases = call(i, pb::LeaseLeasesRequest());
    if (!leases.status.ok()) return "cannot begin: " + ToString(leases);
    for (const pb::LeaseStatus& lease : std::get<pb::LeaseLeasesResponse>(leases.response).leases()) {
      pb::LeaseRevokeRequest revoke;
      revoke.set_id(lease.id());
      call(i, revoke);
    }
    call(i, pad);
    call(i, everything);
  }
  while (revisions[0] != revisions[1]) {
    const int behind = revisions[0] < revisions[1] ? 0 : 1;
    call(behind, pad);
  }
  for (int i = 0; i < 2; ++i) {
    call(i, everything);
    call(i, pad);
  }
  // Levelling puts one more pad on a side, whose deletion then takes a revision that the other has no use
  // for.
  while (revisions[0] != revisions[1]) {
    const int behind = revisions[0] < revisions[1] ? 0 : 1;
    call(behind, everything);
    call(behind, pad);
    if (revisions[behind] > revisions[1 - behind]) call(1 - behind, pad);
  }
  for (int i = 0; i < 2; ++i) {
    call(i, everything);
    call(i, pad);
    pb::CompactionRequest compaction;
    compaction.set_revision(revisions[i]);
    compaction.set_physical(true);
    Outcome compacted = call(i, compaction);
    if (!compacted.status.ok()) return "cannot begin: " + ToString(compacted);
  }
  if (revisions[0] != revisions[1]) return "cannot begin: the revisions cannot be made equal";
  base_ = revision_ = compacted_ = revisions[0];
  deleted_at_.clear();
  watches_.clear();
  for (Side& side : sides_) side.OpenWatches();
  pb::WatchCreateRequest observer;
  observer.set_key(kZero);
  observer.set_range_end(kZero);
  observer.set_start_revision(base_ + 1);
  observer.set_prev_kv(true);
  return Create(observer);
}

Runner::Maybe Runner::RunStep(const Step& step) {
  if (const auto* create = std::get_if<pb::WatchCreateRequest>(&step)) {
    return watches_.size() < kMaxWatches ? Create(*create) : std::nullopt;
  }
  if (const auto* cancel = std::get_if<pb::WatchCancelRequest>(&step)) return Cancel(*cancel);
  if (std::holds_alternative<pb::WatchProgressRequest>(step)) return Progress();
  if (const auto* compaction = std::get_if<pb::CompactionRequest>(&step)) {
    // What is compacted while a watch catches up is a race on either side.
    if (Maybe different = Settle()) return different;
    AwaitCatchUp(compaction->revision());
  }
  return OnEach(step);
}

Runner::Maybe Runner::OnEach(const Step& step) {
  Outcome outcomes[2];
  for (int i = 0; i < 2; ++i) outcomes[i] = sides_[i].Call(step);
  ++calls_;
  if (!outcomes[1].status.ok()) ++errors_;
  for (Outcome& outcome : outcomes) Learn(step, outcome);
  return Compare(step, outcomes);
}

// Keeps in mind what the known differences depend on.
void Runner::Learn(const Step& step, Outcome& outcome) {
  if (!outcome.status.ok()) return;
  const int64_t before = revision_;
  revision_ = std::max(revision_, HeaderIn(&outcome.response)->revision());
  if (const auto* deleted = std::get_if<pb::DeleteRangeResponse>(&outcome.response)) {
    if (deleted->deleted() > 0) deleted_at_.insert(revision_);
  }
  if (const auto* txn = std::get_if<pb::TxnResponse>(&outcome.response)) {
    if (Deletes(*txn)) deleted_at_.insert(revision_);
  }
  if (std::holds_alternative<pb::LeaseRevokeRequest>(step) && revision_ > before)
    deleted_at_.insert(revision_);
  if (const auto* compaction = std::get_if<pb::CompactionRequest>(&step)) compacted_ = compaction->revision();
}

Runner::Maybe Runner::Compare(const Step& step, Outcome outcomes[2]) {
  const bool refused = outcomes[1].status.error_message() == "etcdserver: invalid sort option";
  if (rules_.Apply(Known::kSortOption,
                   one_old() && refused && std::holds_alternative<pb::RangeRequest>(step))) {
    return std::nullopt;
  }
  if (std::holds_alternative<pb::LeaseLeasesRequest>(step) &&
      rules_.Apply(Known::kLeaseOrder, !sides_[0].is_leader() || !sides_[1].is_leader())) {
    for (int i = 0; i < 2; ++i) SortLeases(&outcomes[i].response);
  }
  for (int i = 0; i < 2; ++i) rules_.Canonicalise(step, &outcomes[i]);
  if (const auto* hash = std::get_if<pb::HashKVRequest>(&step); hash != nullptr && outcomes[1].status.ok()) {
    const bool old_refuses = one_old() && !outcomes[0].status.ok() && hash->revision() == compacted_;
    if (rules_.Apply(Known::kHashAtCompacted, old_refuses)) return std::nullopt;
    // Only where nothing lives is what compaction left hashed as it is.
    const bool left = one_old() && hash->revision() >= 0 && deleted_at_.contains(compacted_);
    if (left && rules_.Apply(Known::kTombstoneKept, NothingLivesAt(hash->revision()))) {
      for (int i = 0; i < 2; ++i) std::get<pb::HashKVResponse>(outcomes[i].response).clear_hash();
    }
    // Compactions that are not physical are answered before they are done.
    const auto until = std::chrono::steady_clock::now() + kCompactionPatience;
    while (outcomes[0].status.ok() && outcomes[1].status.ok() && HashOf(outcomes[0]) != HashOf(outcomes[1]) &&
           std::chrono::steady_clock::now() < until &&
           rules_.Apply(Known::kHashMidway, NothingLivesAt(hash->revision()))) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      for (int i = 0; i < 2; ++i) {
        outcomes[i] = sides_[i].Call(step);
        rules_.Canonicalise(step, &outcomes[i]);
      }
    }
  }
  const grpc::Status& left = outcomes[0].status;
  const grpc::Status& right = outcomes[1].status;
  bool same = left.error_code() == right.error_code() && left.error_message() == right.error_message();
  if (same && left.ok()) {
    same = MessageIn(&outcomes[0].response)->SerializeAsString() ==
           MessageIn(&outcomes[1].response)->SerializeAsString();
  }
  if (same) return std::nullopt;
  if (rules_.Apply(Known::kCheckOrder, one_old() && std::holds_alternative<pb::TxnRequest>(step) &&
                                           FoundByCheck(left) && FoundByCheck(right))) {
    return std::nullopt;
  }
  return ToString(step).substr(0, 3000) + "\n" + Sides(ToString(outcomes[0]), ToString(outcomes[1]));
}

bool Runner::NothingLivesAt(int64_t revision) {
  pb::RangeRequest count;
  count.set_key(kZero);
  count.set_range_end(kZero);
  count.set_revision(revision);
  count.set_count_only(true);
  Outcome counted = sides_[1].Call(count);
  return counted.status.ok() && std::get<pb::RangeResponse>(counted.response).count() == 0;
}

Runner::Maybe Runner::Create(const pb::WatchCreateRequest& request) {
  if (rules_.Apply(Known::kNegativeStart, one_old() && request.start_revision() < 0)) return std::nullopt;
  pb::WatchRequest message;
  *message.mutable_create_request() = request;
  Outcome outcomes[2];
  ++calls_;
  for (int i = 0; i < 2; ++i) {
    sides_[i].watches().Send(message);
    std::optional<pb::WatchResponse> answer = sides_[i].watches().NextAnswer(kPatience);
    if (answer) {
      outcomes[i].response = std::move(*answer);
    } else {
      outcomes[i].status = grpc::Status(grpc::DEADLINE_EXCEEDED, "the watch is not answered");
    }
  }
  if (Maybe different = Compare(request, outcomes)) return different;
  if (!outcomes[0].status.ok()) return "the watch is answered by neither";
  const auto& answer = std::get<pb::WatchResponse>(outcomes[0].response);
  if (answer.canceled()) return std::nullopt;
  WatchState watch;
  watch.request = request;
  watch.start = request.start_revision() == 0 ? revision_ + 1 : request.start_revision();
  watch.is_compacted = watch.start < compacted_;
  watch.compacted_at = compacted_;
  watch.created = std::chrono::steady_clock::now();
  watches_[answer.watch_id()] = watch;
  return std::nullopt;
}

Runner::Maybe Runner::Cancel(const pb::WatchCancelRequest& request) {
  const int64_t id = request.watch_id();
  if (id == kObserver) return std::nullopt;
  if (Maybe different = Settle()) return different;
  auto found = watches_.find(id);
  Maybe different;
  if (found != watches_.end() && found->second.is_compacted) different = CompareWatch(id, found->second);
  if (different) return different;
  pb::WatchRequest message;
  *message.mutable_cancel_request() = request;
  ++calls_;
  for (Side& side : sides_) side.watches().Send(message);
  if (found == watches_.end()) return std::nullopt;  // passed over
  // One that compaction has ended keeps its ID until it is cancelled.
  const int cancels = found->second.is_compacted ? 2 : 1;
  for (Side& side : sides_) {
    side.watches().Await(id, kPatience, [cancels](const Watched& w) { return w.cancels >= cancels; });
  }
  different = CompareWatch(id, found->second);
  watches_.erase(found);
  for (Side& side : sides_) side.watches().Forget(id);
  return different;
}

// From 3.6 on a server passes the question over while a watch of the stream is behind, and one that has
// nothing to see does not tell when it no longer is.
std::optional<pb::WatchResponse> Runner::AskProgress(Side& side, const pb::WatchRequest& message) {
  const int most = side.is_old() ? 1 : 5;
  std::optional<pb::WatchResponse> answer;
  for (int asked = 1; asked <= most && !answer; ++asked) {
    side.watches().Send(message);
    answer = side.watches().NextAnswer(side.is_old() ? kPatience : kProgressPatience);
    // An earlier question may have been answered late.
    while (asked > 1 && answer && side.watches().NextAnswer(kCatchUp)) {
    }
  }
  return answer;
}

Runner::Maybe Runner::Progress() {
  if (Maybe different = Settle()) return different;
  const bool future = std::any_of(watches_.begin(), watches_.end(),
                                  [this](const auto& w) { return w.second.start > revision_; });
  if (rules_.Apply(Known::kProgressOfFuture, either_old() && future)) return std::nullopt;
  Outcome outcomes[2];
  ++calls_;
  for (int i = 0; i < 2; ++i) {
    pb::WatchRequest message;
    message.mutable_progress_request();
    std::optional<pb::WatchResponse> answer = AskProgress(sides_[i], message);
    if (answer) {
      outcomes[i].response = std::move(*answer);
    } else {
      outcomes[i].status = grpc::Status(grpc::DEADLINE_EXCEEDED, "no progress");
    }
  }
  return Compare(pb::WatchProgressRequest(), outcomes);
}

// What a watch has to see of all that happened.
std::vector<mvccpb::Event> Runner::Expected(const WatchState& watch, const Watched& all) const {
  std::vector<mvccpb::Event> out;
  if (watch.is_compacted) return out;
  const auto& filters = watch.request.filters();
  for (const mvccpb::Event& event : all.events) {
    const bool is_delete = event.type() == mvccpb::Event::DELETE;
    const int filter = is_delete ? pb::WatchCreateRequest::NODELETE : pb::WatchCreateRequest::NOPUT;
    const int64_t revision = event.kv().mod_revision();
    if (revision < watch.start || !Covers(watch.request, event.kv().key())) continue;
    if (std::find(filters.begin(), filters.end(), filter) != filters.end()) continue;
    // The known difference about tombstones: compared without them.
    if (is_delete && revision == watch.compacted_at && one_old()) continue;
    out.push_back(event);
  }
  return out;
}

// Waits until every watch has been told what has happened so far.
Runner::Maybe Runner::Settle() {
  for (int i = 0; i < 2; ++i) {
    WatchStream& stream = sides_[i].watches();
    auto all_told = [this](const Watched& w) {
      return revision_ == base_ || (!w.events.empty() && w.events.back().kv().mod_revision() >= revision_);
    };
    const std::string name = i == 0 ? "left" : "right";
    if (!stream.Await(kObserver, kPatience, all_told)) {
      return name + ": the watch over everything is not told of revision " + std::to_string(revision_);
    }
    const Watched all = stream.Take(kObserver);
    for (const auto& [id, watch] : watches_) {
      const size_t expected = Expected(watch, all).size();
      const bool compacted = watch.is_compacted;
      if (!stream.Await(id, kPatience, [expected, compacted](const Watched& w) {
            return compacted ? w.canceled.has_value() : w.events.size() >= expected;
          })) {
        return name + ": watch " + std::to_string(id) + " { " + watch.request.ShortDebugString() +
               " } got\n" + Text(stream.Take(id).events) + "  of\n" + Text(Expected(watch, all)) +
               (compacted ? "  and is not cancelled\n" : "");
      }
    }
  }
  return std::nullopt;
}

// A watch that has seen nothing does not tell when it has caught up: etcd looks at those behind every 100 ms.
void Runner::AwaitCatchUp(int64_t compaction) {
  const Watched all = sides_[0].watches().Take(kObserver);
  for (const auto& [id, watch] : watches_) {
    if (watch.start >= compaction || watch.start > revision_ || !Expected(watch, all).empty()) continue;
    std::this_thread::sleep_until(watch.created + kCatchUp);
  }
}

Runner::Maybe Runner::CompareWatch(int64_t id, const WatchState& watch) {
  Watched told[2];
  for (int i = 0; i < 2; ++i) {
    told[i] = sides_[i].watches().Take(id);
    if (told[i].was_split) return "watch " + std::to_string(id) + ": a revision came in two responses";
    events_ += told[i].events.size();
    if (!one_old() || !deleted_at_.contains(watch.compacted_at)) continue;
    auto tombstone = [&](const mvccpb::Event& event) {
      return event.type() == mvccpb::Event::DELETE && event.kv().mod_revision() == watch.compacted_at;
    };
    auto gone = std::remove_if(told[i].events.begin(), told[i].events.end(), tombstone);
    rules_.Apply(Known::kTombstoneKept, gone != told[i].events.end());
    told[i].events.erase(gone, told[i].events.end());
  }
  const std::string name = "watch " + std::to_string(id) + " { " + watch.request.ShortDebugString() + " }\n";
  if (!Same(told[0].events, told[1].events)) {
    return name + "  left:\n" + Text(told[0].events) + "  right:\n" + Text(told[1].events);
  }
  if (told[0].canceled.has_value() != told[1].canceled.has_value())
    return name + "  is cancelled on one side only";
  if (told[0].canceled) {
    Outcome outcomes[2];
    for (int i = 0; i < 2; ++i) outcomes[i].response = *told[i].canceled;
    if (Maybe different = Compare(watch.request, outcomes)) return different;
  }
  const std::vector<mvccpb::Event> expected = Expected(watch, sides_[1].watches().Take(kObserver));
  if (expected.size() != told[1].events.size()) {
    return name + "  got\n" + Text(told[1].events) + "  of\n" + Text(expected);
  }
  return std::nullopt;
}

namespace {

// Operations and compares of a transaction, nested ones included.
int Pieces(const pb::TxnRequest& txn) {
  int count = txn.compare_size() + txn.success_size() + txn.failure_size();
  for (const auto* branch : {&txn.success(), &txn.failure()}) {
    for (const pb::RequestOp& op : *branch) {
      if (op.has_request_txn()) count += Pieces(op.request_txn());
    }
  }
  return count;
}

// Removes the nth of them; counts n down.
bool RemovePiece(pb::TxnRequest* txn, int* n) {
  if (*n < txn->compare_size()) {
    txn->mutable_compare()->DeleteSubrange(*n, 1);
    return true;
  }
  *n -= txn->compare_size();
  for (auto* branch : {txn->mutable_success(), txn->mutable_failure()}) {
    if (*n < branch->size()) {
      branch->DeleteSubrange(*n, 1);
      return true;
    }
    *n -= branch->size();
    for (pb::RequestOp& op : *branch) {
      if (op.has_request_txn() && RemovePiece(op.mutable_request_txn(), n)) return true;
    }
  }
  return false;
}

}  // namespace

Program Runner::Shrink(Program program, std::chrono::seconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  auto in_time = [&] { return std::chrono::steady_clock::now() < deadline; };
  auto keep_if_different = [&](const Program& candidate) {
    std::optional<Difference> difference = Run(candidate);
    if (!difference) return false;
    program = candidate;
    program.resize(std::min(program.size(), difference->step + 1));
    return true;
  };
  keep_if_different(Program(program));
  for (size_t size = std::max<size_t>(program.size() / 2, 1); in_time();) {
    bool smaller = false;
    for (size_t at = 0; at < program.size() && in_time();) {
      Program candidate = program;
      const auto first = candidate.begin() + static_cast<std::ptrdiff_t>(at);
      candidate.erase(first, first + static_cast<std::ptrdiff_t>(std::min(size, candidate.size() - at)));
      if (keep_if_different(candidate)) {
        smaller = true;
      } else {
        at += size;
      }
    }
    if (!smaller && size == 1) break;
    if (!smaller) size /= 2;
  }
  for (size_t at = 0; at < program.size(); ++at) {
    for (int n = 0; in_time(); ++n) {
      Program candidate = program;
      auto* txn = at < candidate.size() ? std::get_if<pb::TxnRequest>(&candidate[at]) : nullptr;
      if (txn == nullptr || n >= Pieces(*txn)) break;
      int left = n;
      if (RemovePiece(txn, &left) && keep_if_different(candidate)) --n;
    }
  }
  return program;
}

}  // namespace kvd::diff
