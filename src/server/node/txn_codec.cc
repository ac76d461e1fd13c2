#include "server/node/txn_codec.h"

#include <google/protobuf/io/coded_stream.h>

#include <algorithm>

#include "etcdserverpb/rpc.pb.h"
#include "server/node/wire_codec.h"

namespace kvd::server {
namespace {

// TxnRequest.success, .failure; RequestOp.request_txn.
constexpr uint32_t kSuccess = 2;
constexpr uint32_t kFailure = 3;
constexpr uint32_t kNested = 4;
// A nested transaction is a message in a message; the innermost operations are two more.
constexpr int kMaxMessages = static_cast<int>(2 * kMaxTxnDepth + 4);

}  // namespace

bool ParseTxn(std::string_view bytes, etcdserverpb::TxnRequest* out) {
  google::protobuf::io::CodedInputStream in(reinterpret_cast<const uint8_t*>(bytes.data()),
                                            static_cast<int>(bytes.size()));
  in.SetRecursionLimit(kMaxMessages);
  return out->ParseFromCodedStream(&in) && in.ConsumedEntireMessage();
}

bool IsNestedDeeper(std::string_view txn, int64_t limit) {
  limit = std::min(limit, kMaxTxnDepth);
  if (limit <= 0) return true;
  FieldReader fields(txn);
  while (fields.Next()) {
    if ((fields.field() != kSuccess && fields.field() != kFailure) || fields.type() != WireType::kLength)
      continue;
    FieldReader op(fields.bytes());
    while (op.Next()) {
      if (op.field() != kNested || op.type() != WireType::kLength) continue;
      if (IsNestedDeeper(op.bytes(), limit - 1)) return true;
    }
  }
  return false;
}

}  // namespace kvd::server
