// What clients asked and what they were told. Thread-compatible.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "base/clock.h"
#include "etcdserverpb/rpc.pb.h"
#include "server/node/error_table.h"

namespace kvd::sim {

struct Op {
  enum class Kind { kPut, kDelete, kTxn, kRange, kSerializable, kCompact, kGrant, kRevoke, kKeepAlive };
  uint64_t id = 0;
  size_t client = 0;
  size_t member = 0;
  Kind kind = Kind::kPut;
  base::Nanos invoked{0};
  // When the answer came; nothing: never, and it may or may not have taken effect.
  std::optional<base::Nanos> returned;
  server::Error error = server::Error::kOk;
  int64_t revision = 0;  // of the answer's header

  etcdserverpb::PutRequest put;
  etcdserverpb::PutResponse put_answer;
  etcdserverpb::DeleteRangeRequest del;
  etcdserverpb::DeleteRangeResponse del_answer;
  etcdserverpb::TxnRequest txn;
  etcdserverpb::TxnResponse txn_answer;
  etcdserverpb::RangeRequest range;
  etcdserverpb::RangeResponse range_answer;
  int64_t lease = 0;  // of the lease operations
  int64_t ttl_s = 0;  // granted
  int64_t compact = 0;

  bool ok() const { return returned && error == server::Error::kOk; }
  // It certainly had no effect.
  bool refused() const;
  std::string Describe() const;
};

using Ops = std::deque<Op>;

}  // namespace kvd::sim
