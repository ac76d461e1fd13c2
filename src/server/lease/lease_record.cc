#include "server/lease/lease_record.h"

#include "absl/status/status.h"
#include "base/bytes.h"

namespace kvd::server {
namespace {

// Field tags of leasepb.Lease; all three are varints.
constexpr uint64_t kIdField = 1;
constexpr uint64_t kTtlField = 2;
constexpr uint64_t kRemainingField = 3;

void AppendVarint(std::string& out, uint64_t v) {
  while (v >= 0x80) {
    out.push_back(static_cast<char>(v | 0x80));
    v >>= 7;
  }
  out.push_back(static_cast<char>(v));
}

void AppendField(std::string& out, uint64_t field, int64_t v) {
  if (v == 0) return;
  AppendVarint(out, field << 3);
  AppendVarint(out, static_cast<uint64_t>(v));
}

bool ReadVarint(std::string_view& in, uint64_t& v) {
  v = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (in.empty()) return false;
    const auto byte = static_cast<unsigned char>(in.front());
    in.remove_prefix(1);
    v |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

bool Drop(std::string_view& in, uint64_t n) {
  if (in.size() < n) return false;
  in.remove_prefix(n);
  return true;
}

bool SkipField(std::string_view& in, uint64_t wire_type) {
  uint64_t n = 0;
  switch (wire_type) {
    case 0:
      return ReadVarint(in, n);
    case 1:
      return Drop(in, 8);
    case 2:
      return ReadVarint(in, n) && Drop(in, n);
    case 5:
      return Drop(in, 4);
    default:
      return false;
  }
}

}  // namespace

std::string EncodeLeaseKey(int64_t id) {
  std::string key;
  base::AppendBigEndian64(key, static_cast<uint64_t>(id));
  return key;
}

std::string EncodeLeaseRecord(const LeaseRecord& record) {
  std::string out;
  AppendField(out, kIdField, record.id);
  AppendField(out, kTtlField, record.ttl_s);
  AppendField(out, kRemainingField, record.remaining_ttl_s);
  return out;
}

absl::StatusOr<LeaseRecord> DecodeLeaseRecord(std::string_view bytes) {
  LeaseRecord record;
  while (!bytes.empty()) {
    uint64_t tag = 0;
    if (!ReadVarint(bytes, tag)) return absl::DataLossError("lease record: torn tag");
    const uint64_t field = tag >> 3;
    const uint64_t wire_type = tag & 7;
    if (wire_type != 0 || field < kIdField || field > kRemainingField) {
      if (!SkipField(bytes, wire_type)) return absl::DataLossError("lease record: torn field");
      continue;
    }
    uint64_t v = 0;
    if (!ReadVarint(bytes, v)) return absl::DataLossError("lease record: torn number");
    int64_t& to = field == kIdField ? record.id : field == kTtlField ? record.ttl_s : record.remaining_ttl_s;
    to = static_cast<int64_t>(v);
  }
  return record;
}

}  // namespace kvd::server
