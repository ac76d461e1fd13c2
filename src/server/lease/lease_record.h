// The record of a lease in the table of leases (etcd's bucket "lease"): the key is the lease's ID as 8 bytes
// big-endian, the value a leasepb.Lease{ID = 1, TTL = 2, RemainingTTL = 3} (ETCD:
// server/lease/leasepb/lease.proto).
//
// Thread-safety: pure functions. Units: seconds.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace kvd::server {

struct LeaseRecord {
  int64_t id = 0;
  int64_t ttl_s = 0;
  // What was left at the last checkpoint; 0 if there is none.
  int64_t remaining_ttl_s = 0;

  friend bool operator==(const LeaseRecord& a, const LeaseRecord& b) {
    return a.id == b.id && a.ttl_s == b.ttl_s && a.remaining_ttl_s == b.remaining_ttl_s;
  }
};

std::string EncodeLeaseKey(int64_t id);
std::string EncodeLeaseRecord(const LeaseRecord& record);
// DataLoss if the bytes are no leasepb.Lease. Unknown fields are skipped.
absl::StatusOr<LeaseRecord> DecodeLeaseRecord(std::string_view bytes);

}  // namespace kvd::server
