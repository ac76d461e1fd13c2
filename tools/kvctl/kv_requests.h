// put, get and del from words and flags, on the command line and in a transaction.
#pragma once

#include <cstdint>
#include <istream>
#include <string>
#include <vector>

#include "etcdserverpb/rpc.pb.h"
#include "exit.h"
#include "flag_set.h"

namespace kvd::ctl {

// Each: define the flags, parse, then build; a failed build says why.
class PutWords {
 public:
  void DefineFlags(FlagSet& flags);
  // A value that is not among the words is all of `in`.
  Exit Build(const std::vector<std::string>& args, std::istream& in, etcdserverpb::PutRequest* request) const;

 private:
  std::string lease_ = "0";
  bool prev_kv_ = false;
  bool ignore_value_ = false;
  bool ignore_lease_ = false;
};

class GetWords {
 public:
  void DefineFlags(FlagSet& flags);
  Exit Build(const std::vector<std::string>& args, etcdserverpb::RangeRequest* request) const;

  bool count_only() const { return count_only_; }
  bool print_value_only() const { return print_value_only_; }
  bool stream() const { return stream_; }

 private:
  std::string consistency_ = "l";
  std::string order_;
  std::string sort_by_;
  int64_t limit_ = 0;
  int64_t revision_ = 0;
  int64_t min_create_rev_ = 0, max_create_rev_ = 0, min_mod_rev_ = 0, max_mod_rev_ = 0;
  bool prefix_ = false;
  bool from_key_ = false;
  bool keys_only_ = false;
  bool count_only_ = false;
  bool print_value_only_ = false;
  bool stream_ = false;
};

class DelWords {
 public:
  void DefineFlags(FlagSet& flags);
  Exit Build(const std::vector<std::string>& args, etcdserverpb::DeleteRangeRequest* request) const;

  // Whether --range says that an interval may be deleted without a pause.
  bool range() const { return range_; }

 private:
  bool prefix_ = false;
  bool from_key_ = false;
  bool prev_kv_ = false;
  bool range_ = false;
};

// A lease ID as it is written in hexadecimal; on failure "bad lease ID (...), expecting ID in Hex".
Exit ParseLease(const std::string& text, const std::string& what, int64_t* id);

}  // namespace kvd::ctl
