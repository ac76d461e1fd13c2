// Reading transactions, which may be nested as deep as their limit of operations lets them: deeper than
// protobuf reads by itself, and not so deep that the stack ends.
//
// Thread-safety: pure functions.
#pragma once

#include <cstdint>
#include <string_view>

namespace etcdserverpb {
class TxnRequest;
}

namespace kvd::server {

// Transactions within transactions, the outermost one counted. No member takes a deeper one.
inline constexpr int64_t kMaxTxnDepth = 400;

// False for bytes that are no transaction, or one that is nested deeper than kMaxTxnDepth.
bool ParseTxn(std::string_view bytes, etcdserverpb::TxnRequest* out);
// Whether it is nested deeper than `limit` (or than kMaxTxnDepth). Reads no more than it must to tell.
bool IsNestedDeeper(std::string_view txn, int64_t limit);

}  // namespace kvd::server
