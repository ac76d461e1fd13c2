#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/lease/lease_record.h"
#include "server/lease/lessor.h"
#include "storage/store.h"

namespace kvd::server {

absl::Status Lessor::RecoverFrom(const storage::Store& store) {
  Clear();
  absl::Status status;
  store.ForEachInTable(storage::Table::kLease, [&](std::string_view, std::string_view value) {
    const auto record = DecodeLeaseRecord(value);
    if (record.ok()) {
      Recover(*record);
    } else {
      status.Update(record.status());
    }
  });
  if (status.ok()) {
    store.ForEachLeasedKey([&](std::string_view key, int64_t lease) { Attach(lease, key); });
  }
  return status;
}

}  // namespace kvd::server
