#include "program.h"

#include <type_traits>

namespace kvd::diff {
namespace {

using etcdserverpb::Compare;
using etcdserverpb::RangeRequest;
using etcdserverpb::RequestOp;
using etcdserverpb::TxnRequest;
using google::protobuf::RepeatedPtrField;

constexpr int64_t kLongTtl = 100'000;
constexpr int kMaxOps = 128;

int64_t Absolute(int64_t revision, int64_t base) {
  if (revision == kMinusOne) return -1;
  return revision == 0 || revision == kLargest ? revision : base + revision;
}

void Shift(RangeRequest* range, int64_t base) {
  range->set_revision(Absolute(range->revision(), base));
  range->set_min_mod_revision(Absolute(range->min_mod_revision(), base));
  range->set_max_mod_revision(Absolute(range->max_mod_revision(), base));
  range->set_min_create_revision(Absolute(range->min_create_revision(), base));
  range->set_max_create_revision(Absolute(range->max_create_revision(), base));
}

void Shift(TxnRequest* txn, int64_t base) {
  for (Compare& compare : *txn->mutable_compare()) {
    if (compare.target_union_case() == Compare::kModRevision) {
      compare.set_mod_revision(Absolute(compare.mod_revision(), base));
    } else if (compare.target_union_case() == Compare::kCreateRevision) {
      compare.set_create_revision(Absolute(compare.create_revision(), base));
    }
  }
  for (RepeatedPtrField<RequestOp>* branch : {txn->mutable_success(), txn->mutable_failure()}) {
    for (RequestOp& op : *branch) {
      if (op.has_request_range()) Shift(op.mutable_request_range(), base);
      if (op.has_request_txn()) Shift(op.mutable_request_txn(), base);
    }
  }
}

}  // namespace

Step Materialise(const Step& step, int64_t base) {
  Step out = step;
  if (auto* range = std::get_if<RangeRequest>(&out)) Shift(range, base);
  if (auto* txn = std::get_if<TxnRequest>(&out)) Shift(txn, base);
  if (auto* compaction = std::get_if<etcdserverpb::CompactionRequest>(&out)) {
    compaction->set_revision(Absolute(compaction->revision(), base));
  }
  if (auto* hash = std::get_if<etcdserverpb::HashKVRequest>(&out)) {
    hash->set_revision(Absolute(hash->revision(), base));
  }
  if (auto* watch = std::get_if<etcdserverpb::WatchCreateRequest>(&out)) {
    watch->set_start_revision(Absolute(watch->start_revision(), base));
  }
  return out;
}

std::string ToString(const Step& step) {
  return std::visit(
      [](const auto& request) -> std::string {
        if constexpr (std::is_same_v<std::decay_t<decltype(request)>, PassingGrant>) {
          return "LeaseGrantRequest then revoked { " + request.request.ShortDebugString() + " }";
        } else {
          return request.GetDescriptor()->name() + " { " + request.ShortDebugString() + " }";
        }
      },
      step);
}

Program Generator::Make(int steps) {
  writes_ = 0;
  Program program;
  for (int i = 0; i < steps; ++i) program.push_back(MakeStep());
  return program;
}

// Few keys, so that they are overwritten and deleted often; some in a subtree, some binary.
std::string Generator::Key() {
  const uint64_t n = Pick(34);
  if (n < 18) return "key/" + std::to_string(n);
  if (n < 30) return "tree/" + std::to_string(n % 3) + "/" + std::to_string(n);
  if (n == 30) return Chance(5) ? std::string() : std::string("\0", 1);
  return std::string("\x00\xff", 2) + static_cast<char>(n);
}

std::string Generator::Value() {
  if (Chance(25)) return std::string(1, static_cast<char>('a' + Pick(3)));  // ones that compares meet again
  std::string value(Chance(3) ? Pick(9000) : Pick(30), '\0');
  for (char& c : value) c = static_cast<char>(Pick(256));
  return value;
}

int64_t Generator::LeaseId() {
  return Chance(2) ? -7 : static_cast<int64_t>(1 + Pick(12));
}

// Any revision of the program and a few beyond on both sides.
int64_t Generator::Revision() {
  if (Chance(1)) return Chance(50) ? kMinusOne : kLargest;
  return static_cast<int64_t>(Pick(static_cast<uint64_t>(writes_) * 4 / 5 + 5)) - 2;
}
int64_t Generator::RevisionOrLatest() {
  return Chance(60) ? 0 : Revision();
}

// key and range_end: single, prefix, interval (also upside down), from key, everything.
template <typename Request>
void Generator::SetInterval(Request* request) {
  request->set_key(Key());
  switch (Pick(9)) {
    case 0:
    case 1:
      request->set_range_end(Key());
      break;
    case 2:
      request->set_key("tree/" + std::to_string(Pick(3)) + "/");
      request->set_range_end(request->key().substr(0, request->key().size() - 1) + "0");
      break;
    case 3:
      request->set_range_end(std::string(1, '\0'));
      break;
    case 4:
      if (Chance(40)) {
        request->set_key(std::string(1, '\0'));
        request->set_range_end(std::string(1, '\0'));
      }
      break;
    default:
      break;
  }
}

etcdserverpb::PutRequest Generator::Put(bool in_txn) {
  etcdserverpb::PutRequest put;
  put.set_key(Key());
  put.set_prev_kv(Chance(25));
  put.set_ignore_value(Chance(in_txn ? 3 : 8));
  if (!put.ignore_value() || Chance(5)) put.set_value(Value());
  put.set_ignore_lease(Chance(in_txn ? 3 : 8));
  if (put.ignore_lease() ? Chance(5) : Chance(25)) put.set_lease(LeaseId());
  if (!in_txn && Chance(1)) put.set_value(std::string(1'600'000, 'x'));
  return put;
}

RangeRequest Generator::Range(bool in_txn) {
  RangeRequest range;
  SetInterval(&range);
  if (!in_txn || Chance(8)) range.set_revision(RevisionOrLatest());
  range.set_serializable(Chance(25));
  if (Chance(30)) range.set_limit(static_cast<int64_t>(Pick(8)) - 1);
  range.set_count_only(Chance(8));
  range.set_keys_only(Chance(12));
  if (Chance(35)) {
    range.set_sort_order(static_cast<RangeRequest::SortOrder>(Pick(3)));
    range.set_sort_target(static_cast<RangeRequest::SortTarget>(Pick(5)));
  }
  // Not an unknown target: etcd 3.4 ends at one.
  if (!in_txn && Chance(1)) range.set_sort_order(static_cast<RangeRequest::SortOrder>(3 + Pick(4)));
  if (Chance(8)) range.set_min_mod_revision(Revision());
  if (Chance(8)) range.set_max_mod_revision(Revision());
  if (Chance(8)) range.set_min_create_revision(Revision());
  if (Chance(8)) range.set_max_create_revision(Revision());
  return range;
}

etcdserverpb::DeleteRangeRequest Generator::Delete() {
  etcdserverpb::DeleteRangeRequest request;
  SetInterval(&request);
  // One that takes nearly everything is rare, or there would be nothing to look at.
  if (request.range_end() == std::string(1, '\0') && !Chance(8)) request.clear_range_end();
  request.set_prev_kv(Chance(35));
  return request;
}

Compare Generator::Compare() {
  etcdserverpb::Compare compare;
  compare.set_key(Key());
  if (Chance(15)) compare.set_range_end(Chance(20) ? std::string(1, '\0') : Key());
  compare.set_result(static_cast<Compare::CompareResult>(Pick(4)));
  compare.set_target(static_cast<Compare::CompareTarget>(Pick(5)));
  if (Chance(5)) return compare;  // with no operand
  switch (Chance(97) ? static_cast<uint64_t>(compare.target()) : Pick(5)) {
    case Compare::VERSION:
      compare.set_version(static_cast<int64_t>(Pick(4)));
      break;
    case Compare::CREATE:
      compare.set_create_revision(Chance(40) ? 0 : Revision());
      break;
    case Compare::MOD:
      compare.set_mod_revision(Chance(30) ? 0 : Revision());
      break;
    case Compare::VALUE:
      compare.set_value(Value());
      break;
    default:
      compare.set_lease(Chance(50) ? 0 : LeaseId());
      break;
  }
  return compare;
}

// A put that keeps what a delete to the open end, which its transaction may hold besides, has just taken ends
// a real etcd for good: it refuses while it applies. Such a put names its value and lease.
bool DeletesToTheOpenEnd(const TxnRequest& txn) {
  for (const auto* branch : {&txn.success(), &txn.failure()}) {
    for (const RequestOp& op : *branch) {
      if (op.has_request_delete_range() && op.request_delete_range().range_end() == std::string(1, '\0'))
        return true;
      if (op.has_request_txn() && DeletesToTheOpenEnd(op.request_txn())) return true;
    }
  }
  return false;
}
void KeepNothing(TxnRequest* txn) {
  for (auto* branch : {txn->mutable_success(), txn->mutable_failure()}) {
    for (RequestOp& op : *branch) {
      if (op.has_request_put()) {
        op.mutable_request_put()->set_ignore_value(false);
        op.mutable_request_put()->set_ignore_lease(false);
      }
      if (op.has_request_txn()) KeepNothing(op.mutable_request_txn());
    }
  }
}

TxnRequest Generator::Txn(int depth) {
  TxnRequest txn;
  for (uint64_t i = Pick(3); i > 0; --i) *txn.add_compare() = Compare();
  const bool reads_only = depth == 0 && Chance(10);
  for (RepeatedPtrField<RequestOp>* branch : {txn.mutable_success(), txn.mutable_failure()}) {
    for (uint64_t i = Pick(5); i > 0; --i) {
      RequestOp* op = branch->Add();
      const uint64_t kind = reads_only ? 50 : Pick(100);
      if (kind < 40) {
        *op->mutable_request_put() = Put(true);
      } else if (kind < 65) {
        *op->mutable_request_range() = Range(true);
      } else if (kind < 83 || depth > 2) {
        *op->mutable_request_delete_range() = Delete();
      } else if (kind < 99) {
        *op->mutable_request_txn() = Txn(depth + 1);
      }  // or no operation at all
    }
  }
  if (depth == 0 && DeletesToTheOpenEnd(txn)) KeepNothing(&txn);
  return txn;
}

TxnRequest Generator::LargeTxn() {
  TxnRequest txn;
  const int count = kMaxOps - 2 + static_cast<int>(Pick(5));
  for (int i = 0; i < count; ++i) {
    switch (Pick(3)) {
      case 0:
        txn.add_success()->mutable_request_put()->set_key("many/" + std::to_string(Chance(1) ? 0 : i));
        break;
      case 1:
        txn.add_success()->mutable_request_range()->set_key("many/" + std::to_string(i));
        break;
      default:
        txn.add_success()->mutable_request_delete_range()->set_key("none/" + std::to_string(i));
        break;
    }
  }
  return txn;
}

Step Generator::MakeLeaseStep() {
  const uint64_t kind = Pick(100);
  if (kind < 35) {
    etcdserverpb::LeaseGrantRequest grant;
    grant.set_id(Chance(3) ? -7 : static_cast<int64_t>(1 + Pick(12)));
    grant.set_ttl(kLongTtl);
    return grant;
  }
  if (kind < 45) {
    static constexpr int64_t kTtls[] = {0,        1,        -5, kLongTtl, 9'000'000'000, 9'000'000'001,
                                        kLargest, kMinusOne};
    PassingGrant grant;
    grant.request.set_id(Chance(50) ? 0 : static_cast<int64_t>(100 + Pick(5)));
    grant.request.set_ttl(kTtls[Pick(std::size(kTtls))]);
    return grant;
  }
  if (kind < 65) {
    etcdserverpb::LeaseRevokeRequest revoke;
    revoke.set_id(Chance(3) ? 0 : LeaseId());
    ++writes_;
    return revoke;
  }
  if (kind < 80) {
    etcdserverpb::LeaseTimeToLiveRequest look;
    look.set_id(Chance(3) ? 0 : LeaseId());
    look.set_keys(Chance(70));
    return look;
  }
  if (kind < 92) {
    etcdserverpb::LeaseKeepAliveRequest keep;
    keep.set_id(Chance(3) ? 0 : LeaseId());
    return keep;
  }
  return etcdserverpb::LeaseLeasesRequest();
}

etcdserverpb::WatchCreateRequest Generator::Watch() {
  etcdserverpb::WatchCreateRequest watch;
  SetInterval(&watch);
  if (Chance(4)) watch.clear_key();
  watch.set_start_revision(RevisionOrLatest());
  watch.set_prev_kv(Chance(50));
  watch.set_fragment(Chance(15));
  watch.set_progress_notify(Chance(10));
  if (Chance(15)) watch.add_filters(etcdserverpb::WatchCreateRequest::NOPUT);
  if (Chance(15)) watch.add_filters(etcdserverpb::WatchCreateRequest::NODELETE);
  if (Chance(30)) watch.set_watch_id(static_cast<int64_t>(Pick(9)));
  return watch;
}

Step Generator::MakeWatchStep() {
  const uint64_t kind = Pick(100);
  if (kind < 75) return Watch();
  if (kind < 90) {
    etcdserverpb::WatchCancelRequest cancel;
    cancel.set_watch_id(static_cast<int64_t>(1 + Pick(9)));
    return cancel;
  }
  return etcdserverpb::WatchProgressRequest();
}

Step Generator::MakeStep() {
  const uint64_t kind = Pick(100);
  if (kind < 28) {
    ++writes_;
    return Put(false);
  }
  if (kind < 38) {
    ++writes_;
    return Delete();
  }
  if (kind < 60) {
    ++writes_;
    return Chance(3) ? LargeTxn() : Txn(0);
  }
  if (kind < 78) return Range(false);
  if (kind < 90) return MakeLeaseStep();
  if (kind < 95) return MakeWatchStep();
  if (kind < 97) {
    etcdserverpb::CompactionRequest compaction;
    compaction.set_revision(Chance(5) ? 0 : Revision());
    compaction.set_physical(Chance(50));
    return compaction;
  }
  etcdserverpb::HashKVRequest hash;
  hash.set_revision(RevisionOrLatest());
  return hash;
}

}  // namespace kvd::diff
