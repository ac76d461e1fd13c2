// IDs for requests in flight: unique across the members of a cluster and across restarts of one (ETCD:
// pkg/idutil, v3.4: two bytes of the member ID, five of the start time in milliseconds, one byte and carry of
// a counter).
#pragma once

#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace kvd::server {

// Thread-safe.
class RequestIdGenerator {
 public:
  RequestIdGenerator(uint64_t member_id, base::Nanos wall_now)
      : prefix_(member_id << 48),
        suffix_((static_cast<uint64_t>(wall_now.count() / 1000000) & 0xffffffffffull) << 8) {}

  uint64_t Next() {
    uint64_t suffix = suffix_.fetch_add(1, std::memory_order_relaxed) + 1;
    return prefix_ | (suffix & 0xffffffffffffull);
  }

 private:
  const uint64_t prefix_;
  std::atomic<uint64_t> suffix_;
};

}  // namespace kvd::server
