#include "kv_requests.h"

#include <iterator>

#include "absl/strings/ascii.h"
#include "base/key_interval.h"
#include "base/strings.h"
#include "go_format.h"

namespace kvd::ctl {
namespace {

using etcdserverpb::RangeRequest;

const char kEveryKey[] = "\0";

std::string OpenEnd() {
  return std::string(kEveryKey, 1);
}

// key and range_end of a request from its words and --prefix / --from-key.
template <typename Request>
Exit SetInterval(const std::vector<std::string>& args, bool prefix, bool from_key, Request* request) {
  if (prefix && from_key) {
    return Fail(kExitBadArgs, "`--prefix` and `--from-key` cannot be set at the same time, choose one");
  }
  request->set_key(args[0]);
  if (args.size() > 1) {
    if (prefix || from_key) {
      return Fail(kExitBadArgs,
                  "too many arguments, only accept one argument when `--prefix` or `--from-key` is set");
    }
    request->set_range_end(args[1]);
  }
  if (!prefix && !from_key) return Success();
  request->set_range_end(from_key ? OpenEnd() : base::PrefixRangeEnd(args[0]));
  if (args[0].empty()) {
    request->set_key(OpenEnd());
    request->set_range_end(OpenEnd());
  }
  return Success();
}

Exit SetOrder(const std::string& text, RangeRequest* request) {
  const std::string order = absl::AsciiStrToUpper(text);
  if (order == "ASCEND") {
    request->set_sort_order(RangeRequest::ASCEND);
  } else if (order == "DESCEND") {
    request->set_sort_order(RangeRequest::DESCEND);
  } else if (!order.empty()) {
    return Fail(kExitBadFeature, base::StrCat("bad sort order ", text));
  }
  return Success();
}

Exit SetTarget(const std::string& text, RangeRequest* request) {
  const std::string target = absl::AsciiStrToUpper(text);
  if (target == "CREATE") {
    request->set_sort_target(RangeRequest::CREATE);
  } else if (target == "MODIFY") {
    request->set_sort_target(RangeRequest::MOD);
  } else if (target == "VALUE") {
    request->set_sort_target(RangeRequest::VALUE);
  } else if (target == "VERSION") {
    request->set_sort_target(RangeRequest::VERSION);
  } else if (!target.empty() && target != "KEY") {
    return Fail(kExitBadFeature, base::StrCat("bad sort target ", text));
  }
  return Success();
}

}  // namespace

Exit ParseLease(const std::string& text, const std::string& what, int64_t* id) {
  const absl::StatusOr<int64_t> parsed = ParseGoInt(text, 16);
  if (!parsed.ok()) {
    return Fail(kExitBadArgs,
                base::StrCat("bad ", what, " (", parsed.status().message(), "), expecting ID in Hex"));
  }
  *id = *parsed;
  return Success();
}

void PutWords::DefineFlags(FlagSet& flags) {
  flags.String("lease", &lease_, "ID (in hexadecimal) of the lease to attach the key to");
  flags.Bool("prev-kv", &prev_kv_, "show the record that is replaced");
  flags.Bool("ignore-value", &ignore_value_, "keep the value of the key");
  flags.Bool("ignore-lease", &ignore_lease_, "keep the lease of the key");
}

Exit PutWords::Build(const std::vector<std::string>& args, std::istream& in,
                     etcdserverpb::PutRequest* request) const {
  if (args.empty())
    return Fail(kExitBadArgs, "put command needs 1 argument and input from stdin or 2 arguments");
  if (ignore_value_ && args.size() > 1) {
    return Fail(kExitBadArgs, "put command needs only 1 argument when 'ignore-value' is set");
  }
  request->set_key(args[0]);
  if (args.size() > 1) {
    request->set_value(args[1]);
  } else if (!ignore_value_) {
    request->set_value(std::string(std::istreambuf_iterator<char>(in), {}));
    if (request->value().empty()) {
      return Fail(kExitBadArgs, "put command needs 1 argument and input from stdin or 2 arguments");
    }
  }
  int64_t lease = 0;
  if (Exit exit = ParseLease(lease_, "lease ID", &lease); !exit.ok()) return exit;
  request->set_lease(lease);
  request->set_prev_kv(prev_kv_);
  request->set_ignore_value(ignore_value_);
  request->set_ignore_lease(ignore_lease_);
  return Success();
}

void GetWords::DefineFlags(FlagSet& flags) {
  flags.String("consistency", &consistency_, "linearizable (l) or serializable (s)");
  flags.String("order", &order_, "ASCEND or DESCEND");
  flags.String("sort-by", &sort_by_, "CREATE, KEY, MODIFY, VALUE or VERSION");
  flags.Int64("limit", &limit_, "most results to show");
  flags.Bool("prefix", &prefix_, "every key with this prefix");
  flags.Bool("from-key", &from_key_, "every key from this one on");
  flags.Int64("rev", &revision_, "revision to read at");
  flags.Bool("keys-only", &keys_only_, "only the keys");
  flags.Bool("count-only", &count_only_, "only the count");
  flags.Bool("print-value-only", &print_value_only_, "only the values, in the simple format");
  flags.Int64("min-create-rev", &min_create_rev_, "smallest create revision");
  flags.Int64("max-create-rev", &max_create_rev_, "largest create revision");
  flags.Int64("min-mod-rev", &min_mod_rev_, "smallest modification revision");
  flags.Int64("max-mod-rev", &max_mod_rev_, "largest modification revision");
  flags.Bool("stream", &stream_, "take the answer in chunks");
}

Exit GetWords::Build(const std::vector<std::string>& args, RangeRequest* request) const {
  if (args.empty()) {
    return Fail(kExitBadArgs, "get command needs one argument as key and an optional argument as range_end");
  }
  if (keys_only_ && count_only_) {
    return Fail(kExitBadArgs, "`--keys-only` and `--count-only` cannot be set at the same time, choose one");
  }
  if (consistency_ != "l" && consistency_ != "s") {
    return Fail(kExitBadFeature, base::StrCat("unknown consistency flag ", Quote(consistency_)));
  }
  request->set_serializable(consistency_ == "s");
  if (Exit exit = SetInterval(args, prefix_, from_key_, request); !exit.ok()) return exit;
  if (Exit exit = SetOrder(order_, request); !exit.ok()) return exit;
  if (Exit exit = SetTarget(sort_by_, request); !exit.ok()) return exit;
  request->set_limit(limit_);
  if (revision_ > 0) request->set_revision(revision_);
  request->set_keys_only(keys_only_);
  request->set_count_only(count_only_);
  request->set_min_create_revision(min_create_rev_);
  request->set_max_create_revision(max_create_rev_);
  request->set_min_mod_revision(min_mod_rev_);
  request->set_max_mod_revision(max_mod_rev_);
  // Keys come in order by themselves, and a server may do better for a request that does not ask for it.
  if (request->sort_order() == RangeRequest::ASCEND && request->sort_target() == RangeRequest::KEY) {
    request->set_sort_order(RangeRequest::NONE);
  }
  return Success();
}

void DelWords::DefineFlags(FlagSet& flags) {
  flags.Bool("prefix", &prefix_, "every key with this prefix");
  flags.Bool("from-key", &from_key_, "every key from this one on");
  flags.Bool("prev-kv", &prev_kv_, "show the records that are deleted");
  flags.Bool("range", &range_, "delete an interval without a pause");
}

Exit DelWords::Build(const std::vector<std::string>& args, etcdserverpb::DeleteRangeRequest* request) const {
  if (args.empty()) {
    return Fail(kExitBadArgs, "del command needs one argument as key and an optional argument as range_end");
  }
  request->set_prev_kv(prev_kv_);
  return SetInterval(args, prefix_, from_key_, request);
}

}  // namespace kvd::ctl
