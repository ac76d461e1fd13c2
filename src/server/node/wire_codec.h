// What the hot path writes by hand in protobuf's wire form: a client's request goes into the log, and a
// stored record into a response, as the bytes that they came in, without decoding and encoding them again.
//
// Thread-safety: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/protobuf_wire.h"

namespace kvd::server {

using base::AppendBoolField;
using base::AppendBytesField;
using base::AppendInt64Field;
using base::AppendLength;
using base::AppendUint64Field;
using base::AppendVarintField;
using base::FieldReader;
using base::WireType;

// The fields of etcdserverpb.InternalRaftRequest that kvd proposes (ETCD:
// api/etcdserverpb/raft_internal.proto).
enum class RequestField : uint32_t {
  kPut = 4,
  kDeleteRange = 5,
  kTxn = 6,
  kCompaction = 7,
  kLeaseGrant = 8,
  kLeaseRevoke = 9,
  kAlarm = 10,
  kLeaseCheckpoint = 11,
  kAuthDisable = 1011,
  kAuthStatus = 1013,
  kAuthUserAdd = 1100,
  kAuthUserDelete = 1101,
  kAuthUserGet = 1102,
  kAuthUserChangePassword = 1103,
  kAuthUserGrantRole = 1104,
  kAuthUserRevokeRole = 1105,
  kAuthUserList = 1106,
  kAuthRoleList = 1107,
  kAuthRoleAdd = 1200,
  kAuthRoleDelete = 1201,
  kAuthRoleGet = 1202,
  kAuthRoleGrantPermission = 1203,
  kAuthRoleRevokePermission = 1204,
  kClusterVersionSet = 1300,
  kClusterMemberAttrSet = 1301,
  kDowngradeInfoSet = 1302,
};

// The data of a log entry: InternalRaftRequest{header{ID = id}, field = request}.
std::string EncodeRaftRequest(uint64_t id, RequestField field, std::string_view request);

// etcdserverpb.ResponseHeader as field 1 of a response, which `body` (the other fields) follows.
struct ResponseHeaderFields {
  uint64_t cluster_id = 0;
  uint64_t member_id = 0;
  int64_t revision = 0;
  uint64_t raft_term = 0;
};
void AppendResponseHeader(std::string& out, const ResponseHeaderFields& header);

}  // namespace kvd::server
