#include "model_store.h"

#include <algorithm>

#include "base/crc32c.h"
#include "base/key_interval.h"

namespace kvd::storage {

namespace pb = etcdserverpb;

namespace {

bool In(const std::string& key, const std::string& from, const std::string& end) {
  if (end.empty()) return key == from;
  if (end == std::string(1, '\0')) return from == end || key >= from;
  return key >= from && key < end;
}

bool OrderHolds(pb::Compare::CompareResult result, int order) {
  if (result == pb::Compare::EQUAL) return order == 0;
  if (result == pb::Compare::NOT_EQUAL) return order != 0;
  return result == pb::Compare::GREATER ? order > 0 : order < 0;
}

int Order(int64_t a, int64_t b) {
  return a < b ? -1 : a > b;
}

bool HoldsFor(const pb::Compare& c, const mvccpb::KeyValue& kv) {
  switch (c.target()) {
    case pb::Compare::VERSION:
      return OrderHolds(c.result(), Order(kv.version(), c.version()));
    case pb::Compare::CREATE:
      return OrderHolds(c.result(), Order(kv.create_revision(), c.create_revision()));
    case pb::Compare::MOD:
      return OrderHolds(c.result(), Order(kv.mod_revision(), c.mod_revision()));
    case pb::Compare::LEASE:
      return OrderHolds(c.result(), Order(kv.lease(), c.lease()));
    default:
      return OrderHolds(c.result(), kv.value().compare(c.value()));
  }
}

}  // namespace

void ModelStore::End(Working& w) {
  if (w.sub == 0) return;
  states_.push_back(std::move(w.state));
  std::move(w.records.begin(), w.records.end(), std::back_inserter(records_));
}

StoreError ModelStore::CheckPut(const pb::PutRequest& r) const {
  if ((r.ignore_value() || r.ignore_lease()) && !states_.back().contains(r.key()))
    return StoreError::kKeyNotFound;
  return r.lease() > kLeases ? StoreError::kLeaseNotFound : StoreError::kNone;
}

void ModelStore::PutInto(Working& w, const pb::PutRequest& r, pb::PutResponse* out) {
  auto it = w.state.find(r.key());
  mvccpb::KeyValue kv;
  kv.set_key(r.key());
  kv.set_mod_revision(w.main);
  kv.set_create_revision(it == w.state.end() ? w.main : it->second.create_revision());
  kv.set_version(it == w.state.end() ? 1 : it->second.version() + 1);
  kv.set_value(r.ignore_value() ? it->second.value() : r.value());
  kv.set_lease(r.ignore_lease() ? it->second.lease() : r.lease());
  if (r.prev_kv() && it != w.state.end()) *out->mutable_prev_kv() = it->second;
  w.state[r.key()] = kv;
  w.records.push_back({{w.main, w.sub++}, false, r.key(), kv.SerializeAsString()});
}

void ModelStore::DeleteFrom(Working& w, const std::string& key) {
  w.state.erase(key);
  mvccpb::KeyValue tombstone;
  tombstone.set_key(key);
  w.records.push_back({{w.main, w.sub++}, true, key, tombstone.SerializeAsString()});
}

void ModelStore::DeleteRangeFrom(Working& w, const pb::DeleteRangeRequest& r, pb::DeleteRangeResponse* out) {
  std::vector<mvccpb::KeyValue> doomed;
  for (const auto& [key, kv] : w.state) {
    if (In(key, r.key(), r.range_end())) doomed.push_back(kv);
  }
  for (const auto& kv : doomed) {
    DeleteFrom(w, kv.key());
    if (r.prev_kv()) *out->add_prev_kvs() = kv;
  }
  out->set_deleted(static_cast<int64_t>(doomed.size()));
}

StoreError ModelStore::Put(const pb::PutRequest& r, pb::PutResponse* out) {
  if (r.lease() > kLeases) return StoreError::kLeaseNotFound;
  if (StoreError error = CheckPut(r); error != StoreError::kNone) return error;
  Working w = Begin();
  PutInto(w, r, out);
  End(w);
  return StoreError::kNone;
}

void ModelStore::DeleteRange(const pb::DeleteRangeRequest& r, pb::DeleteRangeResponse* out) {
  Working w = Begin();
  DeleteRangeFrom(w, r, out);
  End(w);
}

int64_t ModelStore::DeleteKeys(const std::vector<std::string>& keys) {
  Working w = Begin();
  for (const std::string& key : keys) {
    if (w.state.contains(key)) DeleteFrom(w, key);
  }
  int64_t deleted = w.sub;
  End(w);
  return deleted;
}

bool ModelStore::Holds(const pb::Compare& c) const {
  bool any = false;
  for (const auto& [key, kv] : states_.back()) {
    if (!In(key, c.key(), c.range_end())) continue;
    any = true;
    if (!HoldsFor(c, kv)) return false;
  }
  if (any) return true;
  return c.target() != pb::Compare::VALUE && HoldsFor(c, mvccpb::KeyValue());
}

StoreError ModelStore::Plan(const pb::TxnRequest& r, std::map<const void*, bool>* taken) const {
  bool success =
      std::all_of(r.compare().begin(), r.compare().end(), [this](const auto& c) { return Holds(c); });
  (*taken)[&r] = success;
  for (const auto& op : success ? r.success() : r.failure()) {
    if (op.has_request_txn()) Plan(op.request_txn(), taken);
  }
  return StoreError::kNone;
}

StoreError ModelStore::Check(const pb::TxnRequest& r, const std::map<const void*, bool>& taken) const {
  for (const auto& op : taken.at(&r) ? r.success() : r.failure()) {
    StoreError error = StoreError::kNone;
    if (op.has_request_range()) {
      int64_t at = op.request_range().revision();
      if (at > revision()) error = StoreError::kFutureRevision;
      if (at != 0 && at < compact_) error = StoreError::kCompacted;
    }
    if (op.has_request_put()) error = CheckPut(op.request_put());
    if (op.has_request_txn()) error = Check(op.request_txn(), taken);
    if (error != StoreError::kNone) return error;
  }
  return StoreError::kNone;
}

void ModelStore::Run(Working& w, const pb::TxnRequest& r, const std::map<const void*, bool>& taken,
                     pb::TxnResponse* out) {
  out->set_succeeded(taken.at(&r));
  for (const auto& op : taken.at(&r) ? r.success() : r.failure()) {
    auto* response = out->add_responses();
    if (op.has_request_range()) {
      auto* range = response->mutable_response_range();
      int64_t at = op.request_range().revision();
      RangeIn(at > 0 ? this->at(at) : w.state, op.request_range(), range);
      range->mutable_header()->set_revision(w.header());
    } else if (op.has_request_put()) {
      PutInto(w, op.request_put(), response->mutable_response_put());
      response->mutable_response_put()->mutable_header()->set_revision(w.header());
    } else if (op.has_request_delete_range()) {
      DeleteRangeFrom(w, op.request_delete_range(), response->mutable_response_delete_range());
      response->mutable_response_delete_range()->mutable_header()->set_revision(w.header());
    } else if (op.has_request_txn()) {
      response->mutable_response_txn()->mutable_header();
      Run(w, op.request_txn(), taken, response->mutable_response_txn());
    }
  }
}

StoreError ModelStore::Txn(const pb::TxnRequest& r, pb::TxnResponse* out) {
  std::map<const void*, bool> taken;
  Plan(r, &taken);
  if (StoreError error = Check(r, taken); error != StoreError::kNone) return error;
  Working w = Begin();
  Run(w, r, taken, out);
  End(w);
  return StoreError::kNone;
}

StoreError ModelStore::Compact(int64_t revision) {
  if (revision <= compact_) return StoreError::kCompacted;
  if (revision > this->revision()) return StoreError::kFutureRevision;
  compact_ = revision;
  return StoreError::kNone;
}

void ModelStore::RangeIn(const State& state, const pb::RangeRequest& r, pb::RangeResponse* out) {
  std::vector<mvccpb::KeyValue> kvs;
  for (const auto& [key, kv] : state) {
    if (In(key, r.key(), r.range_end())) kvs.push_back(kv);
  }
  out->set_count(static_cast<int64_t>(kvs.size()));
  if (r.count_only()) return;
  bool filtered =
      r.min_mod_revision() || r.max_mod_revision() || r.min_create_revision() || r.max_create_revision();
  auto limit = static_cast<size_t>(r.limit());
  if (!filtered && r.sort_order() == pb::RangeRequest::NONE && limit > 0 && kvs.size() > limit + 1) {
    kvs.resize(limit + 1);
  }
  std::erase_if(kvs, [&r](const auto& kv) {
    return (r.max_mod_revision() && kv.mod_revision() > r.max_mod_revision()) ||
           (r.min_mod_revision() && kv.mod_revision() < r.min_mod_revision()) ||
           (r.max_create_revision() && kv.create_revision() > r.max_create_revision()) ||
           (r.min_create_revision() && kv.create_revision() < r.min_create_revision());
  });
  auto order = [&r](const mvccpb::KeyValue& a, const mvccpb::KeyValue& b) {
    switch (r.sort_target()) {
      case pb::RangeRequest::VERSION:
        return Order(a.version(), b.version());
      case pb::RangeRequest::CREATE:
        return Order(a.create_revision(), b.create_revision());
      case pb::RangeRequest::MOD:
        return Order(a.mod_revision(), b.mod_revision());
      case pb::RangeRequest::VALUE:
        return a.value().compare(b.value());
      default:
        return a.key().compare(b.key());
    }
  };
  bool descend = r.sort_order() == pb::RangeRequest::DESCEND;
  std::stable_sort(kvs.begin(), kvs.end(),
                   [&](const auto& a, const auto& b) { return descend ? order(b, a) < 0 : order(a, b) < 0; });
  if (limit > 0 && kvs.size() > limit) {
    kvs.resize(limit);
    out->set_more(true);
  }
  for (auto& kv : kvs) {
    if (r.keys_only()) {
      kv.clear_value();
      if (r.sort_target() != pb::RangeRequest::VALUE) kv.clear_lease();
    }
    *out->add_kvs() = kv;
  }
}

StoreError ModelStore::Range(const pb::RangeRequest& r, pb::RangeResponse* out) const {
  if (r.revision() > revision()) return StoreError::kFutureRevision;
  if (r.revision() > 0 && r.revision() < compact_) return StoreError::kCompacted;
  RangeIn(r.revision() > 0 ? at(r.revision()) : states_.back(), r, out);
  return StoreError::kNone;
}

// etcd's words: what is in its database once a compaction is done, and which of that it hashes.
StoreError ModelStore::HashKv(int64_t revision, uint32_t* hash) const {
  if (revision > 0 && revision < compact_) return StoreError::kCompacted;
  if (revision > this->revision()) return StoreError::kFutureRevision;
  if (revision == 0) revision = this->revision();
  std::map<std::string, const Record*> newest_when_compacted, newest;
  for (const Record& r : records_) {
    if (r.revision.main <= compact_) newest_when_compacted[r.key] = &r;
    if (r.revision.main <= revision) newest[r.key] = &r;
  }
  bool keeps_any =
      std::any_of(newest.begin(), newest.end(), [](const auto& n) { return !n.second->tombstone; });
  *hash = base::Crc32c(0, "key");
  for (const Record& r : records_) {
    if (r.revision.main > revision) continue;
    if (r.revision.main <= compact_) {
      // From 3.5.16 on a compaction leaves a tombstone that stands exactly at its revision.
      bool left = !r.tombstone || r.revision.main == compact_;
      bool in_database = newest_when_compacted[r.key] == &r && left;
      bool kept = newest[r.key] == &r && !r.tombstone;
      if (!in_database || (keeps_any && !kept)) continue;
    }
    std::string key;
    AppendRevisionKey(key, r.revision, r.tombstone);
    *hash = base::Crc32c(base::Crc32c(*hash, key), r.bytes);
  }
  return StoreError::kNone;
}

}  // namespace kvd::storage
