#include "history.h"

#include "absl/strings/str_cat.h"

namespace kvd::sim {

using server::Error;

bool Op::refused() const {
  if (!returned) return false;
  switch (error) {
    case Error::kTooManyRequests:
    case Error::kRequestTooLarge:
    case Error::kNoSpace:
    case Error::kLeaseNotFound:
    case Error::kLeaseExists:
    case Error::kKeyNotFound:
    case Error::kCompacted:
    case Error::kFutureRevision:
      return true;
    default:
      return false;
  }
}

std::string Op::Describe() const {
  std::string what;
  switch (kind) {
    case Kind::kPut:
      what = absl::StrCat("put {", put.ShortDebugString(), "} -> {", put_answer.ShortDebugString(), "}");
      break;
    case Kind::kDelete:
      what = absl::StrCat("delete {", del.ShortDebugString(), "} -> {", del_answer.ShortDebugString(), "}");
      break;
    case Kind::kTxn:
      what = absl::StrCat("txn {", txn.ShortDebugString(), "} -> {", txn_answer.ShortDebugString(), "}");
      break;
    case Kind::kRange:
    case Kind::kSerializable:
      what = absl::StrCat(kind == Kind::kRange ? "range {" : "serializable range {", range.ShortDebugString(),
                          "} -> {", range_answer.ShortDebugString(), "}");
      break;
    case Kind::kCompact:
      what = absl::StrCat("compact ", compact);
      break;
    case Kind::kGrant:
      what = absl::StrCat("grant ", lease, " for ", ttl_s, " s");
      break;
    case Kind::kRevoke:
      what = absl::StrCat("revoke ", lease);
      break;
    case Kind::kKeepAlive:
      what = absl::StrCat("keep alive ", lease);
      break;
  }
  auto ms = [](base::Nanos t) { return static_cast<double>(t.count()) / 1e6; };
  return absl::StrCat("op ", id, " of client ", client, " on member ", member, " at ", ms(invoked),
                      " ms: ", what,
                      returned ? absl::StrCat(", at ", ms(*returned), " ms ",
                                              std::string(server::ErrorText(error)), " revision ", revision)
                               : std::string(", unanswered"));
}

}  // namespace kvd::sim
