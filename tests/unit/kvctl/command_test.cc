#include "command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <sstream>

namespace kvd::ctl {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

struct Outcome {
  int code;
  std::string out, err;
};

Outcome RunKvctl(const std::vector<std::string>& args, const std::string& input = "",
                 const std::map<std::string, std::string>& variables = {}) {
  std::istringstream in(input);
  std::ostringstream out, err;
  const auto env = [&](const std::string& name) -> std::optional<std::string> {
    const auto it = variables.find(name);
    return it == variables.end() ? std::nullopt : std::optional(it->second);
  };
  const int code = RunCommandLine(args, env, {in, out, err});
  return {code, out.str(), err.str()};
}

TEST(CommandLine, Version) {
  const Outcome outcome = RunKvctl({"version"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.out, StartsWith("etcdctl version: 3.7.1\nAPI version: 3.7\nkvctl version: "));
}

TEST(CommandLine, UniquePrefix_NamesACommand) {
  EXPECT_EQ(RunKvctl({"vers"}).code, 0);
  EXPECT_THAT(RunKvctl({"en", "stat", "--help"}).out, HasSubstr("kvctl endpoint status"));
  EXPECT_THAT(RunKvctl({"--endpoints", "get", "lease", "gr", "-h"}).out, HasSubstr("kvctl lease grant"));
}

TEST(CommandLine, NoCommandOrAGroup_ShowsHelp) {
  EXPECT_THAT(RunKvctl({}).out, HasSubstr("compaction"));
  EXPECT_EQ(RunKvctl({}).code, 0);
  const Outcome group = RunKvctl({"lease"});
  EXPECT_EQ(group.code, 0);
  EXPECT_THAT(group.out, HasSubstr("lease keep-alive"));
  EXPECT_THAT(group.out, ::testing::Not(HasSubstr("compaction")));
  EXPECT_THAT(RunKvctl({"help", "put"}).out, HasSubstr("--ignore-lease"));
}

TEST(CommandLine, WrongUse_HasEtcdctlsCodesAndTexts) {
  EXPECT_THAT(RunKvctl({"bogus"}).err, StartsWith("Error: unknown command \"bogus\" for \"kvctl\"\n"));
  EXPECT_EQ(RunKvctl({"bogus"}).code, kExitError);
  EXPECT_THAT(RunKvctl({"get", "a", "--bogus"}).err, StartsWith("Error: unknown flag: --bogus\n"));
  EXPECT_EQ(RunKvctl({"get", "a", "--bogus"}).code, kExitError);
  EXPECT_EQ(RunKvctl({"get"}).code, kExitBadArgs);
  EXPECT_EQ(RunKvctl({"get", "a", "-w", "xml"}).code, kExitBadFeature);
  EXPECT_EQ(RunKvctl({"get", "a", "-w", "xml"}).err, "Error: unsupported output format\n");
  EXPECT_EQ(RunKvctl({"lease", "grant", "x"}).err,
            "Error: bad TTL (strconv.ParseInt: parsing \"x\": invalid syntax)\n");
  EXPECT_EQ(RunKvctl({"txn"}, "bogus\n").code, kExitInvalidInput);
  EXPECT_EQ(RunKvctl({"txn"}, "\nbogus x\n").err, "Error: invalid txn request: bogus x\n");
  EXPECT_EQ(RunKvctl({"txn"}, "\n").code, kExitInvalidInput);
  EXPECT_EQ(RunKvctl({"watch", "a", "--"}).code, kExitBadArgs);
  EXPECT_EQ(RunKvctl({"watch", "a"}, "", {{"ETCDCTL_WATCH_KEY", "b"}}).code, kExitBadArgs);
  EXPECT_EQ(RunKvctl({"get", "a", "--cert=/nonexistent"}).code, kExitBadArgs);
}

TEST(CommandLine, ApiVersion2_IsRefused) {
  EXPECT_EQ(RunKvctl({"version"}, "", {{"ETCDCTL_API", "2"}}).err, "unsupported API version: 2\n");
  EXPECT_EQ(RunKvctl({"version"}, "", {{"ETCDCTL_API", "3"}}).code, 0);
}

// Nothing listens on port 1: every endpoint is tried until the time is over.
TEST(CommandLine, NoEndpointCanBeReached) {
  const Outcome outcome =
      RunKvctl({"get", "a", "--endpoints=127.0.0.1:1,127.0.0.1:1", "--command-timeout=300ms"});
  EXPECT_EQ(outcome.code, kExitError);
  EXPECT_EQ(outcome.err, "Error: context deadline exceeded\n");
  const Outcome health =
      RunKvctl({"endpoint", "health", "--endpoints=127.0.0.1:1", "--command-timeout=300ms"});
  EXPECT_EQ(health.code, kExitError);
  EXPECT_EQ(health.err,
            "127.0.0.1:1 is unhealthy: failed to commit proposal: context deadline exceeded\n"
            "Error: unhealthy cluster\n");
}

}  // namespace
}  // namespace kvd::ctl
