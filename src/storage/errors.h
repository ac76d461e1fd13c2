// What a storage operation can refuse. The member's table of errors maps each to etcd's code and text.
#pragma once

namespace kvd::storage {

enum class StoreError {
  kNone,
  kCompacted,       // mvcc: required revision has been compacted
  kFutureRevision,  // mvcc: required revision is a future revision
  kLeaseNotFound,   // requested lease not found
  kKeyNotFound,     // key not found (ignore_value or ignore_lease on a missing key)
};

// For logs and tests; not the wire's text.
inline const char* ToString(StoreError e) {
  switch (e) {
    case StoreError::kNone:
      return "none";
    case StoreError::kCompacted:
      return "compacted";
    case StoreError::kFutureRevision:
      return "future revision";
    case StoreError::kLeaseNotFound:
      return "lease not found";
    case StoreError::kKeyNotFound:
      return "key not found";
  }
  return "?";
}

}  // namespace kvd::storage
