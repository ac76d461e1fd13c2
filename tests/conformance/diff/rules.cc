#include "rules.h"

#include <algorithm>
#include <cstdio>

namespace kvd::diff {
namespace {

using etcdserverpb::RangeRequest;
using etcdserverpb::RangeResponse;
using etcdserverpb::TxnRequest;
using etcdserverpb::TxnResponse;
using mvccpb::KeyValue;

struct Row {
  Known rule;
  const char* what;
  const char* reason;
};

// "old" is etcd before 3.6.
constexpr Row kTable[] = {
    {Known::kKeysOnlyLease, "whether keys_only shows the lease",
     "up to 3.6 it does; 3.7 answers it from the index, which has no leases, unless it sorts by value"},
    {Known::kSortOption, "an unknown sort order or target is an error",
     "3.6 checks them; before, they were passed over"},
    {Known::kTombstoneKept, "a tombstone at the compacted revision is kept",
     "3.5.16 keeps it, so that a watch from there sees the delete; HashKV counts it"},
    {Known::kCheckOrder, "which of several errors a transaction gives",
     "3.6 checks its operations in order; before, all puts came before all ranges"},
    {Known::kHashAtCompacted, "HashKV of the compacted revision itself is answered",
     "3.6 answers it; before, it was refused as compacted"},
    {Known::kHashMidway, "HashKV counts what a compaction has yet to remove",
     "every release does so where nothing lives; kvd's hash never waits for its compaction: asked again"},
    {Known::kHashRevision, "HashKV says which revision it hashed", "the field is new in 3.6"},
    {Known::kProgressOfFuture, "no progress for a stream with a watch that has yet to begin",
     "3.6.2 answers only what is true of every watch of the stream"},
    {Known::kNegativeStart, "a watch from a negative revision is refused",
     "3.6.6 refuses it; before, it was as from 0"},
    {Known::kTies, "equal keys of a sort come in any order", "the sort is not stable in any release"},
    {Known::kRemainingTtl, "the remaining time of a lease", "the calls are not made at the same moment"},
    {Known::kChosenLease, "the ID of a lease that the server chooses", "it is random"},
    {Known::kLeaseOrder, "the order of leases on a follower",
     "they come by expiry, which only a leader knows"},
};
static_assert(std::size(kTable) == static_cast<size_t>(Known::kCount));

// The two calls may be this far apart.
constexpr int64_t kTtlSlackSeconds = 600;

int Order(const RangeRequest& request, const KeyValue& a, const KeyValue& b) {
  auto compare = [](const auto& x, const auto& y) { return x < y ? -1 : y < x ? 1 : 0; };
  switch (request.sort_target()) {
    case RangeRequest::VERSION:
      return compare(a.version(), b.version());
    case RangeRequest::CREATE:
      return compare(a.create_revision(), b.create_revision());
    case RangeRequest::MOD:
      return compare(a.mod_revision(), b.mod_revision());
    case RangeRequest::VALUE:
      return compare(a.value(), b.value());
    default:
      return compare(a.key(), b.key());
  }
}

// Orders ties by key; of a group that the limit may have cut, only the number counts.
bool SettleTies(const RangeRequest& request, RangeResponse* response) {
  auto* kvs = response->mutable_kvs();
  // With keys_only the values that were sorted by are not there to see.
  const bool blind = request.keys_only() && request.sort_target() == RangeRequest::VALUE;
  bool tied = false;
  for (int i = 0; i + 1 < kvs->size(); ++i)
    tied |= blind || Order(request, kvs->Get(i), kvs->Get(i + 1)) == 0;
  if (!tied && !response->more()) return false;
  KeyValue last = kvs->empty() ? KeyValue() : kvs->Get(kvs->size() - 1);
  std::stable_sort(kvs->begin(), kvs->end(), [&](const KeyValue& a, const KeyValue& b) {
    const int order = blind ? 0 : Order(request, a, b);
    if (order == 0) return a.key() < b.key();
    return request.sort_order() == RangeRequest::DESCEND ? order > 0 : order < 0;
  });
  if (!response->more()) return tied;
  for (KeyValue& kv : *kvs) {
    if (!blind && Order(request, kv, last) != 0) continue;
    kv.Clear();
    kv.set_key("one of a cut group");
  }
  return true;
}

}  // namespace

bool Rules::Apply(Known rule, bool applies) {
  if (applies) ++uses_[static_cast<size_t>(rule)];
  return applies;
}

void Rules::PrintUses() const {
  for (const Row& row : kTable) {
    std::printf("  %8llu x %s (%s)\n", static_cast<unsigned long long>(uses_[static_cast<size_t>(row.rule)]),
                row.what, row.reason);
  }
}

void Rules::Range(const RangeRequest& request, RangeResponse* response) {
  const bool by_value = request.sort_target() == RangeRequest::VALUE;
  if (request.keys_only()) {
    bool had_lease = false;
    for (KeyValue& kv : *response->mutable_kvs()) {
      had_lease |= kv.lease() != 0;
      if (!by_value) kv.clear_lease();
    }
    Apply(Known::kKeysOnlyLease, had_lease && !by_value);
  }
  if (request.sort_target() != RangeRequest::KEY) Apply(Known::kTies, SettleTies(request, response));
}

void Rules::Txn(const TxnRequest& request, TxnResponse* response) {
  const auto& branch = response->succeeded() ? request.success() : request.failure();
  for (int i = 0; i < std::min(branch.size(), response->responses_size()); ++i) {
    auto* op = response->mutable_responses(i);
    if (branch[i].has_request_range() && op->has_response_range()) {
      Range(branch[i].request_range(), op->mutable_response_range());
    } else if (branch[i].has_request_txn() && op->has_response_txn()) {
      Txn(branch[i].request_txn(), op->mutable_response_txn());
    }
  }
}

void Rules::Canonicalise(const Step& step, Outcome* outcome) {
  if (auto* header = HeaderIn(&outcome->response)) {
    header->clear_cluster_id();
    header->clear_member_id();
    header->clear_raft_term();
  }
  Response* response = &outcome->response;
  if (auto* range = std::get_if<RangeResponse>(response)) Range(std::get<RangeRequest>(step), range);
  if (auto* txn = std::get_if<TxnResponse>(response)) Txn(std::get<TxnRequest>(step), txn);
  if (auto* hash = std::get_if<etcdserverpb::HashKVResponse>(response)) {
    Apply(Known::kHashRevision, hash->hash_revision() != 0);
    hash->clear_hash_revision();
  }
  if (auto* look = std::get_if<etcdserverpb::LeaseTimeToLiveResponse>(response)) {
    std::sort(look->mutable_keys()->begin(), look->mutable_keys()->end());
    const int64_t gone = look->grantedttl() - look->ttl();
    if (Apply(Known::kRemainingTtl, look->ttl() > 0 && gone >= 0 && gone <= kTtlSlackSeconds)) {
      look->set_ttl(look->grantedttl());
    }
  }
  if (auto* grant = std::get_if<etcdserverpb::LeaseGrantResponse>(response)) {
    const auto* passing = std::get_if<PassingGrant>(&step);
    if (Apply(Known::kChosenLease, passing != nullptr && passing->request.id() == 0 && grant->id() > 0)) {
      grant->set_id(1);
    }
  }
}

}  // namespace kvd::diff
