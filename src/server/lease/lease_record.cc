#include "server/lease/lease_record.h"

#include "absl/status/status.h"
#include "base/bytes.h"
#include "base/protobuf_wire.h"

namespace kvd::server {
namespace {

// Fields of leasepb.Lease; all three are varints.
constexpr uint32_t kIdField = 1;
constexpr uint32_t kTtlField = 2;
constexpr uint32_t kRemainingField = 3;

}  // namespace

std::string EncodeLeaseKey(int64_t id) {
  std::string key;
  base::AppendBigEndian64(key, static_cast<uint64_t>(id));
  return key;
}

std::string EncodeLeaseRecord(const LeaseRecord& record) {
  std::string out;
  base::AppendInt64Field(out, kIdField, record.id);
  base::AppendInt64Field(out, kTtlField, record.ttl_s);
  base::AppendInt64Field(out, kRemainingField, record.remaining_ttl_s);
  return out;
}

absl::StatusOr<LeaseRecord> DecodeLeaseRecord(std::string_view bytes) {
  LeaseRecord record;
  base::FieldReader fields(bytes);
  while (fields.Next()) {
    if (fields.type() != base::WireType::kVarint) continue;
    const auto number = static_cast<int64_t>(fields.varint());
    if (fields.field() == kIdField) record.id = number;
    if (fields.field() == kTtlField) record.ttl_s = number;
    if (fields.field() == kRemainingField) record.remaining_ttl_s = number;
  }
  if (!fields.ok()) return absl::DataLossError("lease record: torn");
  return record;
}

}  // namespace kvd::server
