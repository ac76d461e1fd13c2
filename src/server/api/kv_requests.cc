#include "server/api/kv_requests.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "base/key_interval.h"
#include "etcdserverpb/rpc.pb.h"
#include "server/node/wire_codec.h"

namespace kvd::server {
namespace {

using etcdserverpb::RequestOp;
using etcdserverpb::TxnRequest;
using Ops = google::protobuf::RepeatedPtrField<RequestOp>;

constexpr uint64_t kKeyOverhead = 256;

// A field of a known number must have the wire type that its declaration says.
bool IsBytes(const FieldReader& f) {
  return f.type() == WireType::kLength;
}
bool IsVarint(const FieldReader& f) {
  return f.type() == WireType::kVarint;
}

bool IsKnownSort(storage::SortOrder order, storage::SortTarget target) {
  int o = static_cast<int>(order);
  int t = static_cast<int>(target);
  return o >= 0 && o <= static_cast<int>(storage::SortOrder::kDescend) && t >= 0 &&
         t <= static_cast<int>(storage::SortTarget::kValue);
}

bool ReadRangeNumber(const FieldReader& f, RangeCall* out) {
  storage::RangeArgs& a = out->args;
  int64_t value = static_cast<int64_t>(f.varint());
  switch (f.field()) {
    case 3:
      a.limit = value;
      break;
    case 4:
      a.revision = value;
      break;
    case 5:
      a.sort_order = static_cast<storage::SortOrder>(value);
      break;
    case 6:
      a.sort_target = static_cast<storage::SortTarget>(value);
      break;
    case 7:
      out->serializable = value != 0;
      break;
    case 8:
      a.keys_only = value != 0;
      break;
    case 9:
      a.count_only = value != 0;
      break;
    case 10:
      a.min_mod_revision = value;
      break;
    case 11:
      a.max_mod_revision = value;
      break;
    case 12:
      a.min_create_revision = value;
      break;
    case 13:
      a.max_create_revision = value;
      break;
    default:
      break;
  }
  return f.field() > 13 || IsVarint(f);
}

storage::RangeArgs ArgsOf(const etcdserverpb::RangeRequest& r) {
  storage::RangeArgs args;
  args.key = r.key();
  args.range_end = r.range_end();
  args.sort_order = static_cast<storage::SortOrder>(r.sort_order());
  args.sort_target = static_cast<storage::SortTarget>(r.sort_target());
  return args;
}

storage::PutArgs ArgsOf(const etcdserverpb::PutRequest& r) {
  return {r.key(), r.value(), r.lease(), r.prev_kv(), r.ignore_value(), r.ignore_lease()};
}

Error CheckLimits(const TxnRequest& txn, int64_t max_ops);

Error CheckOps(const Ops& ops, int64_t max_ops) {
  for (const RequestOp& op : ops) {
    Error error = Error::kKeyNotFound;  // no operation set: etcd's answer
    switch (op.request_case()) {
      case RequestOp::kRequestRange:
        error = CheckRange(ArgsOf(op.request_range()));
        break;
      case RequestOp::kRequestPut:
        error = CheckPut(ArgsOf(op.request_put()));
        break;
      case RequestOp::kRequestDeleteRange:
        error = op.request_delete_range().key().empty() ? Error::kEmptyKey : Error::kOk;
        break;
      case RequestOp::kRequestTxn:
        error = CheckLimits(op.request_txn(), max_ops);
        break;
      case RequestOp::REQUEST_NOT_SET:
        break;
    }
    if (error != Error::kOk) return error;
  }
  return Error::kOk;
}

Error CheckLimits(const TxnRequest& txn, int64_t max_ops) {
  int64_t ops = std::max({txn.compare_size(), txn.success_size(), txn.failure_size()});
  if (ops > max_ops) return Error::kTooManyOps;
  for (const etcdserverpb::Compare& compare : txn.compare()) {
    if (compare.key().empty()) return Error::kEmptyKey;
  }
  Error error = CheckOps(txn.success(), max_ops - ops);
  return error != Error::kOk ? error : CheckOps(txn.failure(), max_ops - ops);
}

// What a branch writes, nested branches included.
struct Writes {
  std::set<std::string_view> puts;
  std::vector<base::KeyInterval> deletes;

  bool Deletes(std::string_view key) const {
    return std::any_of(deletes.begin(), deletes.end(),
                       [&](const base::KeyInterval& i) { return i.Contains(key); });
  }
};

// False if a key is put twice, or put and deleted, on one way through the branch.
bool CollectWrites(const Ops& ops, Writes* out) {
  for (const RequestOp& op : ops) {
    if (!op.has_request_delete_range()) continue;
    const auto& del = op.request_delete_range();
    // An interval up to the last key conflicts with nothing: etcd takes its end here as the key "\0".
    if (del.range_end() == std::string_view("\0", 1)) continue;
    out->deletes.push_back(base::KeyInterval::FromRequest(del.key(), del.range_end()));
  }
  for (const RequestOp& op : ops) {
    if (!op.has_request_txn()) continue;
    Writes success;
    Writes failure;
    if (!CollectWrites(op.request_txn().success(), &success)) return false;
    if (!CollectWrites(op.request_txn().failure(), &failure)) return false;
    for (std::string_view key : success.puts) {
      if (out->Deletes(key) || !out->puts.insert(key).second) return false;
    }
    for (std::string_view key : failure.puts) {
      // The branches exclude one another, so both may put the same key.
      if (out->Deletes(key) || (!out->puts.insert(key).second && !success.puts.contains(key))) return false;
    }
    for (Writes* branch : {&success, &failure}) {
      out->deletes.insert(out->deletes.end(), branch->deletes.begin(), branch->deletes.end());
    }
  }
  for (const RequestOp& op : ops) {
    if (!op.has_request_put()) continue;
    std::string_view key = op.request_put().key();
    if (out->Deletes(key) || !out->puts.insert(key).second) return false;
  }
  return true;
}

bool OnlyRanges(const Ops& ops) {
  return std::all_of(ops.begin(), ops.end(), [](const RequestOp& op) { return op.has_request_range(); });
}

bool OnlySerializable(const Ops& ops) {
  return std::all_of(ops.begin(), ops.end(), [](const RequestOp& op) {
    return op.has_request_range() && op.request_range().serializable();
  });
}

uint64_t CostOfOps(const Ops& ops) {
  uint64_t cost = 0;
  for (const RequestOp& op : ops) {
    if (op.has_request_put()) cost += server::CostOf(ArgsOf(op.request_put()));
    if (op.has_request_txn()) cost += server::CostOf(op.request_txn());
  }
  return cost;
}

}  // namespace

bool ReadRange(std::string_view bytes, RangeCall* out) {
  FieldReader f(bytes);
  while (f.Next()) {
    if (f.field() <= 2) {
      if (!IsBytes(f)) return false;
      (f.field() == 1 ? out->args.key : out->args.range_end) = f.bytes();
    } else if (!ReadRangeNumber(f, out)) {
      return false;
    }
  }
  return f.ok();
}

bool ReadPut(std::string_view bytes, storage::PutArgs* out) {
  FieldReader f(bytes);
  while (f.Next()) {
    if (f.field() <= 2 ? !IsBytes(f) : f.field() <= 6 && !IsVarint(f)) return false;
    switch (f.field()) {
      case 1:
        out->key = f.bytes();
        break;
      case 2:
        out->value = f.bytes();
        break;
      case 3:
        out->lease = static_cast<int64_t>(f.varint());
        break;
      case 4:
        out->prev_kv = f.varint() != 0;
        break;
      case 5:
        out->ignore_value = f.varint() != 0;
        break;
      case 6:
        out->ignore_lease = f.varint() != 0;
        break;
      default:
        break;
    }
  }
  return f.ok();
}

bool ReadDeleteRange(std::string_view bytes, storage::DeleteRangeArgs* out) {
  FieldReader f(bytes);
  while (f.Next()) {
    if (f.field() <= 2 ? !IsBytes(f) : f.field() == 3 && !IsVarint(f)) return false;
    if (f.field() == 1) out->key = f.bytes();
    if (f.field() == 2) out->range_end = f.bytes();
    if (f.field() == 3) out->prev_kv = f.varint() != 0;
  }
  return f.ok();
}

Error CheckRange(const storage::RangeArgs& args) {
  if (args.key.empty()) return Error::kEmptyKey;
  return IsKnownSort(args.sort_order, args.sort_target) ? Error::kOk : Error::kInvalidSortOption;
}

Error CheckPut(const storage::PutArgs& args) {
  if (args.key.empty()) return Error::kEmptyKey;
  if (args.ignore_value && !args.value.empty()) return Error::kValueProvided;
  if (args.ignore_lease && args.lease != 0) return Error::kLeaseProvided;
  return Error::kOk;
}

Error CheckDeleteRange(const storage::DeleteRangeArgs& args) {
  return args.key.empty() ? Error::kEmptyKey : Error::kOk;
}

Error CheckTxn(const TxnRequest& txn, int64_t max_ops) {
  if (Error error = CheckLimits(txn, max_ops); error != Error::kOk) return error;
  for (const Ops* branch : {&txn.success(), &txn.failure()}) {
    Writes writes;
    if (!CollectWrites(*branch, &writes)) return Error::kDuplicateKey;
  }
  return Error::kOk;
}

bool IsReadOnly(const TxnRequest& txn) {
  return OnlyRanges(txn.success()) && OnlyRanges(txn.failure());
}
bool IsSerializable(const TxnRequest& txn) {
  return OnlySerializable(txn.success()) && OnlySerializable(txn.failure());
}

uint64_t CostOf(const storage::PutArgs& put) {
  return kKeyOverhead + put.key.size() + put.value.size();
}
uint64_t CostOf(const TxnRequest& txn) {
  return std::max(CostOfOps(txn.success()), CostOfOps(txn.failure()));
}

}  // namespace kvd::server
