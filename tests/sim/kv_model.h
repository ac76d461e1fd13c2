// etcd's key-value semantics in the plainest form: what an operation answers and changes, given the state
// before it. Made for comparing, not for speed. Thread-compatible.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "etcdserverpb/rpc.pb.h"
#include "mvccpb/kv.pb.h"

namespace kvd::sim {

using LiveKeys = std::map<std::string, mvccpb::KeyValue>;

struct KvState {
  int64_t revision = 1;
  LiveKeys live;
};

// The live keys at a revision of the past.
using History = std::function<LiveKeys(int64_t revision)>;

// Runs operations one after the other as one write transaction on a copy of a state.
class KvModel {
 public:
  KvModel(const KvState& before, const History& history) : state_(before), history_(history) {}

  // Answers have no headers.
  etcdserverpb::PutResponse Put(const etcdserverpb::PutRequest& request);
  etcdserverpb::DeleteRangeResponse Delete(const etcdserverpb::DeleteRangeRequest& request);
  etcdserverpb::RangeResponse Range(const etcdserverpb::RangeRequest& request) const;
  etcdserverpb::TxnResponse Txn(const etcdserverpb::TxnRequest& request);

  bool changed() const { return changed_; }
  // The state after the transaction.
  KvState After() const;

 private:
  bool Holds(const etcdserverpb::Compare& compare) const;

  KvState state_;
  const History& history_;
  bool changed_ = false;
};

// True if `key` lies in the interval that a request spells as key and range_end.
bool InRange(const std::string& key, const std::string& first, const std::string& range_end);

// Equal but for the headers, nested ones included.
bool SameAnswer(etcdserverpb::PutResponse a, etcdserverpb::PutResponse b);
bool SameAnswer(etcdserverpb::DeleteRangeResponse a, etcdserverpb::DeleteRangeResponse b);
bool SameAnswer(etcdserverpb::RangeResponse a, etcdserverpb::RangeResponse b);
bool SameAnswer(etcdserverpb::TxnResponse a, etcdserverpb::TxnResponse b);

}  // namespace kvd::sim
