#include "kv_model.h"

#include <vector>

namespace kvd::sim {

bool InRange(const std::string& key, const std::string& first, const std::string& range_end) {
  if (range_end.empty()) return key == first;
  if (range_end == std::string(1, '\0')) return key >= first;
  return key >= first && key < range_end;
}

KvState KvModel::After() const {
  KvState after = state_;
  if (changed_) ++after.revision;
  return after;
}

etcdserverpb::PutResponse KvModel::Put(const etcdserverpb::PutRequest& request) {
  etcdserverpb::PutResponse answer;
  auto old = state_.live.find(request.key());
  mvccpb::KeyValue kv;
  kv.set_key(request.key());
  kv.set_value(request.ignore_value() && old != state_.live.end() ? old->second.value() : request.value());
  kv.set_lease(request.ignore_lease() && old != state_.live.end() ? old->second.lease() : request.lease());
  kv.set_mod_revision(state_.revision + 1);
  kv.set_create_revision(old == state_.live.end() ? state_.revision + 1 : old->second.create_revision());
  kv.set_version(old == state_.live.end() ? 1 : old->second.version() + 1);
  if (request.prev_kv() && old != state_.live.end()) *answer.mutable_prev_kv() = old->second;
  state_.live[request.key()] = kv;
  changed_ = true;
  return answer;
}

etcdserverpb::DeleteRangeResponse KvModel::Delete(const etcdserverpb::DeleteRangeRequest& request) {
  etcdserverpb::DeleteRangeResponse answer;
  for (auto it = state_.live.begin(); it != state_.live.end();) {
    if (!InRange(it->first, request.key(), request.range_end())) {
      ++it;
      continue;
    }
    if (request.prev_kv()) *answer.add_prev_kvs() = it->second;
    answer.set_deleted(answer.deleted() + 1);
    it = state_.live.erase(it);
    changed_ = true;
  }
  return answer;
}

etcdserverpb::RangeResponse KvModel::Range(const etcdserverpb::RangeRequest& request) const {
  etcdserverpb::RangeResponse answer;
  LiveKeys past;
  const LiveKeys* live = &state_.live;
  if (request.revision() > 0 && request.revision() <= state_.revision) {
    past = history_(request.revision());
    live = &past;
  }
  int64_t count = 0;
  for (const auto& [key, kv] : *live) {
    if (!InRange(key, request.key(), request.range_end())) continue;
    ++count;
    if (request.count_only() || (request.limit() > 0 && count > request.limit())) continue;
    *answer.add_kvs() = kv;
    if (request.keys_only()) {  // answered from the index, which knows no leases
      answer.mutable_kvs()->rbegin()->clear_value();
      answer.mutable_kvs()->rbegin()->clear_lease();
    }
  }
  answer.set_count(count);
  answer.set_more(!request.count_only() && request.limit() > 0 && count > request.limit());
  return answer;
}

namespace {
template <typename T>
bool Compares(etcdserverpb::Compare::CompareResult result, const T& a, const T& b) {
  switch (result) {
    case etcdserverpb::Compare::EQUAL:
      return a == b;
    case etcdserverpb::Compare::NOT_EQUAL:
      return a != b;
    case etcdserverpb::Compare::GREATER:
      return a > b;
    default:
      return a < b;
  }
}
}  // namespace

bool KvModel::Holds(const etcdserverpb::Compare& compare) const {
  auto it = state_.live.find(compare.key());
  bool found = it != state_.live.end();
  switch (compare.target()) {
    case etcdserverpb::Compare::VERSION:
      return Compares<int64_t>(compare.result(), found ? it->second.version() : 0, compare.version());
    case etcdserverpb::Compare::CREATE:
      return Compares<int64_t>(compare.result(), found ? it->second.create_revision() : 0,
                               compare.create_revision());
    case etcdserverpb::Compare::MOD:
      return Compares<int64_t>(compare.result(), found ? it->second.mod_revision() : 0,
                               compare.mod_revision());
    case etcdserverpb::Compare::LEASE:
      return Compares<int64_t>(compare.result(), found ? it->second.lease() : 0, compare.lease());
    default:
      return found && Compares<std::string>(compare.result(), it->second.value(), compare.value());
  }
}

etcdserverpb::TxnResponse KvModel::Txn(const etcdserverpb::TxnRequest& request) {
  etcdserverpb::TxnResponse answer;
  bool holds = true;
  for (const etcdserverpb::Compare& compare : request.compare()) holds = holds && Holds(compare);
  answer.set_succeeded(holds);
  for (const etcdserverpb::RequestOp& op : holds ? request.success() : request.failure()) {
    etcdserverpb::ResponseOp& out = *answer.add_responses();
    switch (op.request_case()) {
      case etcdserverpb::RequestOp::kRequestPut:
        *out.mutable_response_put() = Put(op.request_put());
        break;
      case etcdserverpb::RequestOp::kRequestDeleteRange:
        *out.mutable_response_delete_range() = Delete(op.request_delete_range());
        break;
      case etcdserverpb::RequestOp::kRequestRange:
        *out.mutable_response_range() = Range(op.request_range());
        break;
      case etcdserverpb::RequestOp::kRequestTxn:
        *out.mutable_response_txn() = Txn(op.request_txn());
        break;
      default:
        break;
    }
  }
  return answer;
}

namespace {
void StripHeaders(etcdserverpb::TxnResponse& txn) {
  txn.clear_header();
  for (etcdserverpb::ResponseOp& op : *txn.mutable_responses()) {
    if (op.has_response_put()) op.mutable_response_put()->clear_header();
    if (op.has_response_delete_range()) op.mutable_response_delete_range()->clear_header();
    if (op.has_response_range()) op.mutable_response_range()->clear_header();
    if (op.has_response_txn()) StripHeaders(*op.mutable_response_txn());
  }
}
template <typename Response>
bool Same(Response& a, Response& b) {
  a.clear_header();
  b.clear_header();
  return a.SerializeAsString() == b.SerializeAsString();
}
}  // namespace

bool SameAnswer(etcdserverpb::PutResponse a, etcdserverpb::PutResponse b) {
  return Same(a, b);
}
bool SameAnswer(etcdserverpb::DeleteRangeResponse a, etcdserverpb::DeleteRangeResponse b) {
  return Same(a, b);
}
bool SameAnswer(etcdserverpb::RangeResponse a, etcdserverpb::RangeResponse b) {
  return Same(a, b);
}
bool SameAnswer(etcdserverpb::TxnResponse a, etcdserverpb::TxnResponse b) {
  StripHeaders(a);
  StripHeaders(b);
  return Same(a, b);
}

}  // namespace kvd::sim
