// What may differ between the two servers: a table with a reason for each row, and nothing else.
//
// Thread-safety: thread-compatible.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "side.h"

namespace kvd::diff {

enum class Known {
  kKeysOnlyLease,
  kSortOption,
  kTombstoneKept,
  kCheckOrder,
  kHashAtCompacted,
  kHashMidway,
  kHashRevision,
  kProgressOfFuture,
  kNegativeStart,
  kTies,
  kRemainingTtl,
  kChosenLease,
  kLeaseOrder,
  kCount,
};

class Rules {
 public:
  // True if the rule applies here; counts it.
  bool Apply(Known rule, bool applies);
  // Brings a response to the form in which both sides must be equal.
  void Canonicalise(const Step& step, Outcome* outcome);
  void PrintUses() const;

 private:
  void Range(const etcdserverpb::RangeRequest& request, etcdserverpb::RangeResponse* response);
  void Txn(const etcdserverpb::TxnRequest& request, etcdserverpb::TxnResponse* response);

  std::array<uint64_t, static_cast<size_t>(Known::kCount)> uses_ = {};
};

}  // namespace kvd::diff
