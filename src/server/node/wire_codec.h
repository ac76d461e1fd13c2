// Protobuf's wire form, as far as the hot path writes it by hand: a client's request goes into the log, and a
// stored record into a response, as the bytes that they came in, without decoding and encoding them again.
//
// Thread-safety: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace kvd::server {

// Wire types (protobuf encoding specification).
enum class WireType : uint32_t { kVarint = 0, kFixed64 = 1, kLength = 2, kFixed32 = 5 };

void AppendVarint(std::string& out, uint64_t value);
size_t VarintSize(uint64_t value);
void AppendTag(std::string& out, uint32_t field, WireType type);
// A field of a message, written only if it differs from its default, as proto3 does.
void AppendUint64Field(std::string& out, uint32_t field, uint64_t value);
void AppendInt64Field(std::string& out, uint32_t field, int64_t value);
void AppendBoolField(std::string& out, uint32_t field, bool value);
// Also used for an embedded message, which is written even if it is empty.
void AppendBytesField(std::string& out, uint32_t field, std::string_view value);

// Walks the fields of one encoded message.
//
//   for (FieldReader f(bytes); f.Next();) if (f.field() == 1) ... f.bytes() ...
class FieldReader {
 public:
  explicit FieldReader(std::string_view message) : rest_(message) {}
  // False at the end or at the first byte that is not protobuf; ok() tells which.
  bool Next();
  bool ok() const { return ok_; }
  uint32_t field() const { return field_; }
  WireType type() const { return type_; }
  uint64_t varint() const { return number_; }        // kVarint, kFixed64, kFixed32
  std::string_view bytes() const { return bytes_; }  // kLength

 private:
  bool ReadVarint(uint64_t* value);

  std::string_view rest_;
  std::string_view bytes_;
  uint64_t number_ = 0;
  uint32_t field_ = 0;
  WireType type_ = WireType::kVarint;
  bool ok_ = true;
};

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
