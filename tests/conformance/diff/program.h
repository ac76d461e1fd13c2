// Random programs of KV, lease and watch operations, for running on two servers side by side.
//
// Revisions in a program count from where it begins, so it means the same wherever it runs: Materialise adds
// the revision at which it began. Thread-safety: thread-compatible.
#pragma once

#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <variant>
#include <vector>

#include "etcdserverpb/rpc.pb.h"

namespace kvd::diff {

// A grant whose outcome depends on the server or on time (an ID that the server chooses, a TTL that it
// raises): the lease is revoked again at once.
struct PassingGrant {
  etcdserverpb::LeaseGrantRequest request;
};

using Step =
    std::variant<etcdserverpb::RangeRequest, etcdserverpb::PutRequest, etcdserverpb::DeleteRangeRequest,
                 etcdserverpb::TxnRequest, etcdserverpb::CompactionRequest, etcdserverpb::LeaseGrantRequest,
                 PassingGrant, etcdserverpb::LeaseRevokeRequest, etcdserverpb::LeaseTimeToLiveRequest,
                 etcdserverpb::LeaseLeasesRequest, etcdserverpb::LeaseKeepAliveRequest,
                 etcdserverpb::HashKVRequest, etcdserverpb::WatchCreateRequest,
                 etcdserverpb::WatchCancelRequest, etcdserverpb::WatchProgressRequest>;
using Program = std::vector<Step>;

// Revisions that stay as they are: 0, and these.
constexpr int64_t kMinusOne = std::numeric_limits<int64_t>::min();
constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();

// The step with its revisions counted from `base`.
Step Materialise(const Step& step, int64_t base);
std::string ToString(const Step& step);

class Generator {
 public:
  explicit Generator(uint64_t seed) : random_(seed) {}
  Program Make(int steps);

 private:
  uint64_t Pick(uint64_t bound) { return std::uniform_int_distribution<uint64_t>(0, bound - 1)(random_); }
  bool Chance(int percent) { return Pick(100) < static_cast<uint64_t>(percent); }

  Step MakeStep();
  Step MakeLeaseStep();
  Step MakeWatchStep();
  std::string Key();
  std::string Value();
  int64_t LeaseId();
  int64_t Revision();
  int64_t RevisionOrLatest();
  template <typename Request>
  void SetInterval(Request* request);
  etcdserverpb::PutRequest Put(bool in_txn);
  etcdserverpb::RangeRequest Range(bool in_txn);
  etcdserverpb::DeleteRangeRequest Delete();
  etcdserverpb::Compare Compare();
  etcdserverpb::TxnRequest Txn(int depth);
  etcdserverpb::TxnRequest LargeTxn();
  etcdserverpb::WatchCreateRequest Watch();

  std::mt19937_64 random_;
  int64_t writes_ = 0;  // about how far the revision has come
};

}  // namespace kvd::diff
