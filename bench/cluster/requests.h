// etcdserverpb requests as framed bytes, and the keys and values of the workloads.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/random.h"

namespace kvd::bench {

namespace method {
inline const std::string kRange = "/etcdserverpb.KV/Range";
inline const std::string kRangeStream = "/etcdserverpb.KV/RangeStream";
inline const std::string kPut = "/etcdserverpb.KV/Put";
inline const std::string kTxn = "/etcdserverpb.KV/Txn";
inline const std::string kCompact = "/etcdserverpb.KV/Compact";
inline const std::string kWatch = "/etcdserverpb.Watch/Watch";
inline const std::string kLeaseGrant = "/etcdserverpb.Lease/LeaseGrant";
inline const std::string kLeaseKeepAlive = "/etcdserverpb.Lease/LeaseKeepAlive";
inline const std::string kSnapshot = "/etcdserverpb.Maintenance/Snapshot";
}  // namespace method

// Keys are kKeyPrefix and ten digits.
inline constexpr std::string_view kKeyPrefix = "/registry/bench/";
inline constexpr size_t kKeyDigits = 10;
std::string KeyOf(uint64_t number);
// The end of the interval of all keys that begin with `prefix`. REQUIRES: its last byte is not 0xFF.
std::string EndOf(std::string_view prefix);

struct RangeSpec {
  std::string_view key = {};
  std::string_view range_end = {};
  int64_t limit = 0;
  int64_t revision = 0;
  bool serializable = false;
  bool keys_only = false;
  bool count_only = false;
};
std::string RangeMessage(const RangeSpec& spec);
std::string PutMessage(std::string_view key, std::string_view value);

// Bytes that do not compress, from a pool that is made once.
class ValueSource {
 public:
  ValueSource(base::Random random, size_t value_bytes);
  // A value, until the source ends.
  std::string_view Next();

 private:
  base::Random random_;
  const size_t value_bytes_;
  std::string pool_;
};

// A framed message whose key digits, and whose value, are overwritten in place.
class PatchedRequest {
 public:
  PatchedRequest() = default;
  // Finds both places in `message`. An empty value: there is none to patch.
  PatchedRequest(std::string_view message, std::string_view key, std::string_view value);
  const std::string& frame() const { return frame_; }
  void SetKey(std::string* frame, uint64_t number) const;
  void SetValue(std::string* frame, std::string_view value) const;

 private:
  std::string frame_;
  size_t digits_at_ = 0;
  size_t value_at_ = 0;
};

}  // namespace kvd::bench
