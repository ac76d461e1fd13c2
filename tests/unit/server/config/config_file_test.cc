#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/config/config.h"

namespace kvd::server {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using Action = ParseResult::Action;

ParseResult Load(const std::string& text, std::vector<std::string> args = {},
                 const std::vector<std::string>& env = {}) {
  Surroundings surroundings;
  surroundings.read_file = [&text](const std::string& path) -> absl::StatusOr<std::string> {
    if (path != "kvd.yml") return absl::NotFoundError("open " + path);
    return text;
  };
  surroundings.default_host = [] { return std::string(); };
  args.insert(args.begin(), "--config-file=kvd.yml");
  return ParseCommandLine(args, env, surroundings);
}

TEST(ConfigFile, KeysAreFlagNames) {
  ParseResult result = Load(R"(
# a comment
name: 'n1'
data-dir: /data
snapshot-count: 17
heartbeat-interval: 50
election-timeout: 500
listen-peer-urls: http://127.0.0.1:1380
listen-client-urls: http://127.0.0.1:1379,http://127.0.0.1:1378
advertise-client-urls: http://127.0.0.1:1379
initial-advertise-peer-urls: http://127.0.0.1:1380
initial-cluster: n1=http://127.0.0.1:1380
initial-cluster-state: 'existing'
grpc-keepalive-timeout: 3000000000
watch-progress-notify-interval: 5s
strict-reconfig-check: false
log-outputs: [stderr]
log-level: debug
feature-gates: InitialCorruptCheck=true,CompactHashCheck=true
experimental-max-learners: 3
wal-dir:
socket-options:
  reuse-port: true
)");
  ASSERT_EQ(result.action, Action::kRun) << result.err;
  const Config& c = result.config;
  EXPECT_EQ(c.name, "n1");
  EXPECT_EQ(c.data_dir, "/data");
  EXPECT_EQ(c.snapshot_count, 17u);
  EXPECT_EQ(c.ElectionTicks(), 10);
  EXPECT_THAT(ToStrings(c.listen_client_urls), ElementsAre("http://127.0.0.1:1378", "http://127.0.0.1:1379"));
  EXPECT_EQ(c.initial_cluster_state, ClusterState::kExisting);
  EXPECT_EQ(c.grpc_keepalive_timeout, seconds(3));
  EXPECT_EQ(c.watch_progress_notify_interval, seconds(5));
  EXPECT_FALSE(c.strict_reconfig_check);
  EXPECT_THAT(c.log_outputs, ElementsAre("stderr"));
  EXPECT_EQ(c.log_level, "debug");
  EXPECT_TRUE(c.features.compact_hash_check);
  EXPECT_EQ(c.max_learners, 3);
  EXPECT_TRUE(c.socket_reuse_port);
  EXPECT_EQ(c.wal_dir, "");
}

TEST(ConfigFile, JsonIsTakenToo) {
  ParseResult result = Load(R"({"name": "j", "max-txn-ops": 7, "pre-vote": false})");
  ASSERT_EQ(result.action, Action::kRun) << result.err;
  EXPECT_EQ(result.config.name, "j");
  EXPECT_EQ(result.config.max_txn_ops, 7u);
  EXPECT_FALSE(result.config.pre_vote);
}

TEST(ConfigFile, OtherFlagsAndVariablesAreIgnored) {
  ParseResult result =
      Load("name: file", {"--name=flag", "--snapshot-count=3"}, {"ETCD_NAME=env", "ETCD_MAX_TXN_OPS=bad"});
  ASSERT_EQ(result.action, Action::kRun) << result.err;
  EXPECT_EQ(result.config.name, "file");
  EXPECT_EQ(result.config.snapshot_count, 10000u);
}

TEST(ConfigFile, TheVariableNamesTheFile) {
  Surroundings surroundings{
      [](const std::string&) -> absl::StatusOr<std::string> { return std::string("name: v"); },
      [] { return std::string(); }};
  EXPECT_EQ(ParseCommandLine({}, {"ETCD_CONFIG_FILE=x.yml"}, surroundings).config.name, "v");
}

TEST(ConfigFile, EmptyFileIsTheDefaults) {
  ParseResult result = Load("# nothing\n");
  ASSERT_EQ(result.action, Action::kRun) << result.err;
  EXPECT_EQ(result.config.name, "default");
  EXPECT_EQ(result.config.initial_cluster, "default=http://localhost:2380");
}

TEST(ConfigFile, NameAloneNamesTheCluster) {
  EXPECT_EQ(Load("name: solo").config.initial_cluster, "solo=http://localhost:2380");
}

TEST(ConfigFile, ErrorsNameTheKey) {
  struct Case {
    const char* text;
    const char* message;
  };
  for (const Case& c : {
           Case{"snapshot-count: many", "invalid value for snapshot-count: parse error"},
           Case{"listen-peer-urls: 127.0.0.1:1", "invalid value for listen-peer-urls: URL scheme must be"},
           Case{"name: [a, b]", "invalid value for name: a list is not expected"},
           Case{"name: {a: b}", "invalid value for name: a map is not expected"},
           Case{"peer-transport-security: 3", "invalid peer-transport-security"},
           Case{"- a\n- b", "the file must be a map of settings"},
           Case{"name: 'open", "not YAML"},
           Case{"election-timeout: 100", "--election-timeout[100ms] should be at least as 5 times"},
           Case{"listen-client-urls: https://127.0.0.1:1\nadvertise-client-urls: https://127.0.0.1:1\n"
                "client-transport-security: {cert-file: c.pem}",
                "KeyFile and CertFile must both be present[key: , cert: c.pem]"},
           Case{"peer-transport-security: {key-file: k.pem}",
                "--peer-cert-file, --peer-key-file: KeyFile and"},
       }) {
    ParseResult result = Load(c.text);
    EXPECT_EQ(result.exit_code, 1) << c.text;
    EXPECT_THAT(result.err, HasSubstr(c.message));
  }
}

TEST(ConfigFile, UnknownKeysWarn) {
  ParseResult result =
      Load("name: a\nno-such-key: 1\nclient-transport-security: {odd: 1, auto-tls: false}\n");
  ASSERT_EQ(result.action, Action::kRun) << result.err;
  int unknown = 0;
  for (const Notice& notice : result.warnings) {
    if (notice.message == "unknown key in the configuration file is ignored") ++unknown;
  }
  EXPECT_EQ(unknown, 2);
}

// The shape of the sample that etcd ships: every key present, most without a value.
TEST(ConfigFile, ASampleWithEmptyValuesLoads) {
  ParseResult result = Load(R"(
name: 'default'
data-dir:
wal-dir:
snapshot-count: 10000
quota-backend-bytes: 0
listen-peer-urls: http://localhost:2380
listen-client-urls: http://localhost:2379
max-snapshots: 5
max-wals: 5
cors:
initial-advertise-peer-urls: http://localhost:2380
advertise-client-urls: http://localhost:2379
discovery:
discovery-fallback: 'exit'
discovery-proxy:
discovery-srv:
initial-cluster:
initial-cluster-token: 'etcd-cluster'
initial-cluster-state: 'new'
enable-pprof: true
proxy: 'off'
client-transport-security:
  cert-file:
  key-file:
  client-cert-auth: false
  trusted-ca-file:
  auto-tls: false
peer-transport-security:
  cert-file:
  key-file:
  client-cert-auth: false
  trusted-ca-file:
  auto-tls: false
  allowed-cn:
  allowed-hostname:
self-signed-cert-validity: 1
log-level: debug
logger: zap
log-outputs: [stderr]
force-new-cluster: false
auto-compaction-mode: periodic
auto-compaction-retention: "1"
tls-min-version: 'TLS1.2'
tls-max-version: 'TLS1.3'
)");
  ASSERT_EQ(result.action, Action::kRun) << result.err;
  EXPECT_EQ(result.config.initial_cluster, "default=http://localhost:2380");
  EXPECT_EQ(result.config.data_dir, "default.etcd");
  EXPECT_EQ(result.config.auto_compaction_period, std::chrono::hours(1));
}

}  // namespace
}  // namespace kvd::server
