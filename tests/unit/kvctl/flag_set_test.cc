#include "flag_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "options.h"

namespace kvd::ctl {
namespace {

using ::testing::ElementsAre;

class FlagSetTest : public ::testing::Test {
 protected:
  FlagSetTest() {
    flags.Bool("prefix", &prefix, "");
    flags.Bool("interactive", &interactive, "", 'i');
    flags.Int64("rev", &rev, "");
    flags.String("write-out", &format, "", 'w');
    flags.Duration("dial-timeout", &timeout, "");
    flags.StringList("endpoints", &endpoints, "");
  }

  std::string Error(const std::vector<std::string>& args) {
    const auto parsed = flags.Parse(args);
    return parsed.ok() ? "" : std::string(parsed.status().message());
  }

  FlagSet flags;
  bool prefix = false, interactive = false;
  int64_t rev = 0;
  std::string format = "simple";
  absl::Duration timeout = absl::Seconds(2);
  std::vector<std::string> endpoints = {"127.0.0.1:2379"};
};

TEST_F(FlagSetTest, FlagsAndArgumentsMix) {
  const std::vector<std::string> args = {"a", "--rev", "7", "b", "-w", "json", "--prefix", "-", "c"};
  EXPECT_THAT(*flags.Parse(args), ElementsAre("a", "b", "-", "c"));
  EXPECT_EQ(rev, 7);
  EXPECT_EQ(format, "json");
  EXPECT_TRUE(prefix);
  EXPECT_FALSE(flags.args_before_dash().has_value());
}

TEST_F(FlagSetTest, EveryWayToWriteAValue) {
  ASSERT_TRUE(
      flags.Parse(std::vector<std::string>{"--rev=-3", "-wjson", "--prefix=false", "--dial-timeout=1m30s"})
          .ok());
  EXPECT_EQ(rev, -3);
  EXPECT_EQ(format, "json");
  EXPECT_FALSE(prefix);
  EXPECT_EQ(timeout, absl::Seconds(90));
  ASSERT_TRUE(flags.Parse(std::vector<std::string>{"-iw=table"}).ok());
  EXPECT_TRUE(interactive);
  EXPECT_EQ(format, "table");
}

TEST_F(FlagSetTest, DoubleDash_EndsTheFlags) {
  EXPECT_THAT(*flags.Parse(std::vector<std::string>{"a", "--", "--prefix", "-w"}),
              ElementsAre("a", "--prefix", "-w"));
  EXPECT_EQ(flags.args_before_dash(), 1u);
  EXPECT_FALSE(prefix);
}

TEST_F(FlagSetTest, Lists_ReplaceTheDefaultThenAppend) {
  ASSERT_TRUE(flags.Parse(std::vector<std::string>{"--endpoints", "a,b", "--endpoints=c"}).ok());
  EXPECT_THAT(endpoints, ElementsAre("a", "b", "c"));
}

TEST_F(FlagSetTest, Errors_HavePflagsTexts) {
  EXPECT_EQ(Error({"--bogus"}), "unknown flag: --bogus");
  EXPECT_EQ(Error({"-x"}), "unknown shorthand flag: 'x' in -x");
  EXPECT_EQ(Error({"--rev"}), "flag needs an argument: --rev");
  EXPECT_EQ(Error({"-w"}), "flag needs an argument: 'w' in -w");
  EXPECT_EQ(Error({"--rev", "x"}),
            R"(invalid argument "x" for "--rev" flag: strconv.ParseInt: parsing "x": invalid syntax)");
  EXPECT_EQ(Error({"--rev", "9223372036854775808"}),
            R"(invalid argument "9223372036854775808" for "--rev" flag: )"
            R"(strconv.ParseInt: parsing "9223372036854775808": value out of range)");
  EXPECT_EQ(Error({"--dial-timeout", "5"}),
            R"(invalid argument "5" for "--dial-timeout" flag: time: missing unit in duration "5")");
  EXPECT_EQ(
      Error({"--prefix=maybe"}),
      R"(invalid argument "maybe" for "--prefix" flag: strconv.ParseBool: parsing "maybe": invalid syntax)");
}

TEST_F(FlagSetTest, TakesNextWord) {
  EXPECT_TRUE(flags.TakesNextWord("--rev"));
  EXPECT_TRUE(flags.TakesNextWord("-w"));
  EXPECT_FALSE(flags.TakesNextWord("--rev=3"));
  EXPECT_FALSE(flags.TakesNextWord("--prefix"));
  EXPECT_FALSE(flags.TakesNextWord("word"));
}

class EnvironmentTest : public ::testing::Test {
 protected:
  absl::Status Apply(const std::map<std::string, std::string>& variables,
                     const std::vector<std::string>& args) {
    options = GlobalOptions();
    FlagSet flags;
    options.Define(flags);
    EXPECT_TRUE(flags.Parse(args).ok());
    const auto env = [&](const std::string& name) -> std::optional<std::string> {
      const auto it = variables.find(name);
      return it == variables.end() ? std::nullopt : std::optional(it->second);
    };
    return ApplyEnvironment(flags.Names(), env, flags);
  }

  GlobalOptions options;
};

TEST_F(EnvironmentTest, OwnVariableWinsOverEtcds) {
  ASSERT_TRUE(Apply({{"ETCDCTL_ENDPOINTS", "a:1,b:1"}}, {}).ok());
  EXPECT_THAT(options.endpoints, ElementsAre("a:1", "b:1"));
  ASSERT_TRUE(Apply({{"ETCDCTL_ENDPOINTS", "a:1"}, {"KVCTL_ENDPOINTS", "c:1"}}, {}).ok());
  EXPECT_THAT(options.endpoints, ElementsAre("c:1"));
  ASSERT_TRUE(Apply({{"ETCDCTL_COMMAND_TIMEOUT", "9s"}, {"ETCDCTL_HEX", ""}}, {"-w", "json"}).ok());
  EXPECT_EQ(options.command_timeout, absl::Seconds(9));
}

TEST_F(EnvironmentTest, FlagAndVariable_AreRefused) {
  const absl::Status status = Apply({{"ETCDCTL_WRITE_OUT", "json"}}, {"-w", "table"});
  EXPECT_EQ(
      status.message(),
      "conflicting environment variable \"ETCDCTL_WRITE_OUT\" is shadowed by corresponding command-line flag "
      "(either unset environment variable or disable flag)");
}

TEST_F(EnvironmentTest, WrongValue_NamesTheVariable) {
  EXPECT_EQ(Apply({{"KVCTL_DIAL_TIMEOUT", "soon"}}, {}).message(),
            "invalid value \"soon\" for KVCTL_DIAL_TIMEOUT: time: invalid duration \"soon\"");
}

}  // namespace
}  // namespace kvd::ctl
