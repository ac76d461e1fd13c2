// What the store is asked, and what it answers: etcd's KV requests as plain structures over views, so that
// this room's users need no generated code to call it. The views must outlive the call.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "storage/errors.h"

namespace kvd::storage {

enum class SortOrder { kNone = 0, kAscend = 1, kDescend = 2 };  // RangeRequest.SortOrder
enum class SortTarget {
  kKey = 0,
  kVersion = 1,
  kCreate = 2,
  kMod = 3,
  kValue = 4
};  // RangeRequest.SortTarget

// key and range_end are spelled as in etcd's requests (base/key_interval.h, FromRequest). Zero means unset.
struct RangeArgs {
  std::string_view key = {};
  std::string_view range_end = {};
  int64_t limit = 0;
  int64_t revision = 0;  // <= 0: the latest
  SortOrder sort_order = SortOrder::kNone;
  SortTarget sort_target = SortTarget::kKey;
  bool keys_only = false;
  bool count_only = false;
  int64_t min_mod_revision = 0;
  int64_t max_mod_revision = 0;
  int64_t min_create_revision = 0;
  int64_t max_create_revision = 0;
};

struct PutArgs {
  std::string_view key = {};
  std::string_view value = {};
  int64_t lease = 0;
  bool prev_kv = false;
  bool ignore_value = false;
  bool ignore_lease = false;
};

struct DeleteRangeArgs {
  std::string_view key = {};
  std::string_view range_end = {};
  bool prev_kv = false;
};

// The answer of any KV operation. On the wire a response is its header (field 1, which the caller writes with
// `revision`) and then `body`: every other field of the RangeResponse, PutResponse, DeleteRangeResponse or
// TxnResponse, already in wire form. An operation appends to `body`.
struct OpResult {
  StoreError error = StoreError::kNone;
  int64_t revision = 0;    // for the header
  int64_t count = 0;       // Range: the response's count; DeleteRange: deleted
  bool more = false;       // Range
  bool succeeded = false;  // Txn
  std::string body;

  bool ok() const { return error == StoreError::kNone; }
};

struct HashResult {
  StoreError error = StoreError::kNone;
  uint32_t hash = 0;
  int64_t compact_revision = 0;  // -1: never compacted
  int64_t hash_revision = 0;     // the revision hashed up to
  int64_t current_revision = 0;  // for the header
};

}  // namespace kvd::storage
