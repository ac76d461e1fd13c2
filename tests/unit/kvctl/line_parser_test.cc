#include "line_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "etcdserverpb/rpc.pb.h"

namespace kvd::ctl {
namespace {

using etcdserverpb::Compare;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(SplitWords, QuotesAndSpaces) {
  EXPECT_THAT(SplitWords("put key1 value"), ElementsAre("put", "key1", "value"));
  EXPECT_THAT(SplitWords("  put  \"a b\"\t'c\\n d' "), ElementsAre("put", "a b", "c\\n d"));
  EXPECT_THAT(SplitWords(R"(put "a\tb" "")"), ElementsAre("put", "a\tb", ""));
  EXPECT_THAT(SplitWords("put a\"b c"), ElementsAre("put", "a\"b", "c"));
  EXPECT_THAT(SplitWords("put \"open"), ElementsAre("put", "\"open"));
  EXPECT_THAT(SplitWords("   "), IsEmpty());
}

TEST(ParseCompare, EveryTarget) {
  struct Case {
    std::string line;
    Compare::CompareTarget target;
  };
  for (const auto& [line, target] : std::vector<Case>{{R"(ver("k") = "5")", Compare::VERSION},
                                                      {R"(version("k") = "5")", Compare::VERSION},
                                                      {R"(c("k") = "5")", Compare::CREATE},
                                                      {R"(create("k") = "5")", Compare::CREATE},
                                                      {R"(m("k") = "5")", Compare::MOD},
                                                      {R"(mod("k") = "5")", Compare::MOD},
                                                      {R"(val("k") = "5")", Compare::VALUE},
                                                      {R"(value("k") = "5")", Compare::VALUE},
                                                      {R"(lease("k") = "5")", Compare::LEASE}}) {
    const auto compare = ParseCompare(line);
    ASSERT_TRUE(compare.ok()) << line;
    EXPECT_EQ(compare->target(), target) << line;
    EXPECT_EQ(compare->key(), "k");
    EXPECT_EQ(compare->result(), Compare::EQUAL);
  }
  EXPECT_EQ(ParseCompare(R"(mod("k") > "-5")")->mod_revision(), -5);
  EXPECT_EQ(ParseCompare(R"(val("k") != "x y")")->value(), "x y");
}

TEST(ParseCompare, EveryOperator) {
  EXPECT_EQ(ParseCompare(R"(ver("k") != "5")")->result(), Compare::NOT_EQUAL);
  EXPECT_EQ(ParseCompare(R"(ver("k") > "5")")->result(), Compare::GREATER);
  EXPECT_EQ(ParseCompare(R"(ver("k")   <   "5")")->result(), Compare::LESS);
}

TEST(ParseCompare, Malformed_SaysWhat) {
  for (std::string line :
       {"bogus", R"(ver(k) = "5")", R"(ver("k" = "5")", R"(ver("k") ~ "5")", R"(ver("k") =)"}) {
    const auto compare = ParseCompare(line);
    ASSERT_FALSE(compare.ok()) << line;
    EXPECT_EQ(compare.status().message(), "malformed comparison: " + line);
  }
  EXPECT_EQ(ParseCompare(R"(size("k") = "5")").status().message(),
            R"(malformed comparison: size("k") = "5" (unknown target size))");
  EXPECT_EQ(ParseCompare(R"(ver("k") = "x")").status().message(),
            R"(invalid txn compare request: ver("k") = "x" (strconv.ParseInt: parsing "x": invalid syntax))");
}

}  // namespace
}  // namespace kvd::ctl
