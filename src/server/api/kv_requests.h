// The KV requests as they come from the wire: read without copying, and checked by etcd's rules (ETCD:
// server/etcdserver/api/v3rpc/key.go, v3.7) before anything else sees them.
//
// Thread-safety: pure functions. The views in the arguments point into the request's bytes.
#pragma once

#include <cstdint>
#include <string_view>

#include "server/node/error_table.h"
#include "storage/requests.h"

namespace etcdserverpb {
class RangeRequest;
class TxnRequest;
}  // namespace etcdserverpb

namespace kvd::server {

struct RangeCall {
  storage::RangeArgs args;
  bool serializable = false;
};

// False for bytes that are no such message.
bool ReadRange(std::string_view bytes, RangeCall* out);
bool ReadPut(std::string_view bytes, storage::PutArgs* out);
bool ReadDeleteRange(std::string_view bytes, storage::DeleteRangeArgs* out);

Error CheckRange(const storage::RangeArgs& args);
Error CheckPut(const storage::PutArgs& args);
Error CheckDeleteRange(const storage::DeleteRangeArgs& args);
// Operation limits, empty keys, unset operations, and keys that a branch would write twice.
Error CheckTxn(const etcdserverpb::TxnRequest& txn, int64_t max_ops);

// Only ranges at the top level: answered without the log.
bool IsReadOnly(const etcdserverpb::TxnRequest& txn);
// All its ranges are serializable.
bool IsSerializable(const etcdserverpb::TxnRequest& txn);

// What the request adds to the database, for the quota (ETCD: server/etcdserver/quota.go).
uint64_t CostOf(const storage::PutArgs& put);
uint64_t CostOf(const etcdserverpb::TxnRequest& txn);

}  // namespace kvd::server
