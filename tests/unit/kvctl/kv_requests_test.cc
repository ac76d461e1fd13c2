#include "kv_requests.h"

#include <gtest/gtest.h>

#include <sstream>

namespace kvd::ctl {
namespace {

using etcdserverpb::DeleteRangeRequest;
using etcdserverpb::PutRequest;
using etcdserverpb::RangeRequest;

Exit BuildGet(const std::vector<std::string>& words, RangeRequest* request) {
  GetWords get;
  FlagSet flags;
  get.DefineFlags(flags);
  return get.Build(flags.Parse(words).value(), request);
}

Exit BuildPut(const std::vector<std::string>& words, const std::string& input, PutRequest* request) {
  PutWords put;
  FlagSet flags;
  put.DefineFlags(flags);
  std::istringstream in(input);
  return put.Build(flags.Parse(words).value(), in, request);
}

TEST(GetWords, Intervals) {
  RangeRequest request;
  ASSERT_TRUE(BuildGet({"a"}, &request).ok());
  EXPECT_EQ(request.range_end(), "");
  ASSERT_TRUE(BuildGet({"a", "c"}, &request).ok());
  EXPECT_EQ(request.range_end(), "c");
  ASSERT_TRUE(BuildGet({"a", "--prefix"}, &request).ok());
  EXPECT_EQ(request.range_end(), "b");
  ASSERT_TRUE(BuildGet({"a\xff", "--prefix"}, &request).ok());
  EXPECT_EQ(request.range_end(), "b");
  ASSERT_TRUE(BuildGet({"a", "--from-key"}, &request).ok());
  EXPECT_EQ(request.range_end(), std::string(1, '\0'));
  ASSERT_TRUE(BuildGet({"", "--prefix"}, &request).ok());
  EXPECT_EQ(request.key(), std::string(1, '\0'));
  EXPECT_EQ(request.range_end(), std::string(1, '\0'));
}

TEST(GetWords, OrderAndTarget) {
  RangeRequest request;
  ASSERT_TRUE(
      BuildGet({"a", "--order=descend", "--sort-by=modify", "--limit=3", "--consistency=s"}, &request).ok());
  EXPECT_EQ(request.sort_order(), RangeRequest::DESCEND);
  EXPECT_EQ(request.sort_target(), RangeRequest::MOD);
  EXPECT_EQ(request.limit(), 3);
  EXPECT_TRUE(request.serializable());
}

TEST(GetWords, WrongWords) {
  RangeRequest request;
  EXPECT_EQ(BuildGet({}, &request).code, kExitBadArgs);
  EXPECT_EQ(BuildGet({"a", "b", "--prefix"}, &request).code, kExitBadArgs);
  EXPECT_EQ(BuildGet({"a", "--prefix", "--from-key"}, &request).code, kExitBadArgs);
  EXPECT_EQ(BuildGet({"a", "--keys-only", "--count-only"}, &request).code, kExitBadArgs);
  EXPECT_EQ(BuildGet({"a", "--order=up"}, &request).message, "bad sort order up");
  EXPECT_EQ(BuildGet({"a", "--sort-by=size"}, &request).message, "bad sort target size");
  EXPECT_EQ(BuildGet({"a", "--consistency=x"}, &request).message, "unknown consistency flag \"x\"");
}

TEST(PutWords, ValueFromWordsOrStdin) {
  PutRequest request;
  ASSERT_TRUE(BuildPut({"a", "b", "--lease=1f"}, "", &request).ok());
  EXPECT_EQ(request.value(), "b");
  EXPECT_EQ(request.lease(), 0x1f);
  ASSERT_TRUE(BuildPut({"a"}, "from\nstdin\n", &request).ok());
  EXPECT_EQ(request.value(), "from\nstdin\n");
  EXPECT_EQ(BuildPut({"a"}, "", &request).code, kExitBadArgs);
  EXPECT_EQ(BuildPut({}, "", &request).code, kExitBadArgs);
  EXPECT_EQ(BuildPut({"a", "b", "--ignore-value"}, "", &request).code, kExitBadArgs);
  EXPECT_EQ(BuildPut({"a", "b", "--lease=zz"}, "", &request).message,
            "bad lease ID (strconv.ParseInt: parsing \"zz\": invalid syntax), expecting ID in Hex");
  ASSERT_TRUE(BuildPut({"a", "--ignore-value", "--prev-kv"}, "", &request).ok());
  EXPECT_TRUE(request.ignore_value());
  EXPECT_TRUE(request.prev_kv());
}

TEST(DelWords, Interval) {
  DelWords del;
  FlagSet flags;
  del.DefineFlags(flags);
  DeleteRangeRequest request;
  ASSERT_TRUE(
      del.Build(flags.Parse(std::vector<std::string>{"k", "--prefix", "--prev-kv"}).value(), &request).ok());
  EXPECT_EQ(request.range_end(), "l");
  EXPECT_TRUE(request.prev_kv());
  EXPECT_EQ(del.Build({}, &request).code, kExitBadArgs);
}

}  // namespace
}  // namespace kvd::ctl
