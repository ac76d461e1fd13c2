// A dumb etcd in memory: the whole state at every revision, kept as copies, and every rule spelled out. What
// the store answers is held against it.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "etcdserverpb/rpc.pb.h"
#include "storage/errors.h"
#include "storage/event.h"
#include "storage/records.h"

namespace kvd::storage {

class ModelStore {
 public:
  using State = std::map<std::string, mvccpb::KeyValue>;
  struct Record {
    Revision revision;
    bool tombstone;
    std::string key;
    std::string bytes;
  };

  // Leases 1..kLeases exist.
  static constexpr int64_t kLeases = 5;

  ModelStore() : states_(2) {}

  // The responses have no headers, but those inside a TxnResponse.
  StoreError Put(const etcdserverpb::PutRequest& r, etcdserverpb::PutResponse* out);
  void DeleteRange(const etcdserverpb::DeleteRangeRequest& r, etcdserverpb::DeleteRangeResponse* out);
  int64_t DeleteKeys(const std::vector<std::string>& keys);
  StoreError Txn(const etcdserverpb::TxnRequest& r, etcdserverpb::TxnResponse* out);
  StoreError Compact(int64_t revision);
  StoreError Range(const etcdserverpb::RangeRequest& r, etcdserverpb::RangeResponse* out) const;
  StoreError HashKv(int64_t revision, uint32_t* hash) const;

  int64_t revision() const { return static_cast<int64_t>(states_.size()) - 1; }
  int64_t compact_revision() const { return compact_; }
  const State& at(int64_t revision) const { return states_[static_cast<size_t>(revision)]; }
  const std::vector<Record>& records() const { return records_; }

 private:
  // What a write transaction works on.
  struct Working {
    State state;
    int64_t main;
    int64_t sub = 0;
    std::vector<Record> records;
    int64_t header() const { return sub > 0 ? main : main - 1; }
  };
  Working Begin() const { return {states_.back(), revision() + 1, 0, {}}; }
  void End(Working& w);
  void PutInto(Working& w, const etcdserverpb::PutRequest& r, etcdserverpb::PutResponse* out);
  void DeleteFrom(Working& w, const std::string& key);
  void DeleteRangeFrom(Working& w, const etcdserverpb::DeleteRangeRequest& r,
                       etcdserverpb::DeleteRangeResponse* out);
  StoreError CheckPut(const etcdserverpb::PutRequest& r) const;
  bool Holds(const etcdserverpb::Compare& c) const;
  // The branch each transaction takes on the state before, nested ones too; and the checks of that path.
  StoreError Plan(const etcdserverpb::TxnRequest& r, std::map<const void*, bool>* taken) const;
  StoreError Check(const etcdserverpb::TxnRequest& r, const std::map<const void*, bool>& taken) const;
  void Run(Working& w, const etcdserverpb::TxnRequest& r, const std::map<const void*, bool>& taken,
           etcdserverpb::TxnResponse* out);
  static void RangeIn(const State& state, const etcdserverpb::RangeRequest& r,
                      etcdserverpb::RangeResponse* out);

  std::vector<State> states_;  // by revision
  std::vector<Record> records_;
  int64_t compact_ = -1;
};

}  // namespace kvd::storage
