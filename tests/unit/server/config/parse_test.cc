#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/config/config.h"

namespace kvd::server {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;
using Action = ParseResult::Action;

ParseResult Parse(const std::vector<std::string>& args, const std::vector<std::string>& env = {}) {
  Surroundings surroundings;
  surroundings.read_file = [](const std::string& path) -> absl::StatusOr<std::string> {
    return absl::NotFoundError("open " + path + ": no such file or directory");
  };
  surroundings.default_host = [] { return std::string("10.1.2.3"); };
  return ParseCommandLine(args, env, surroundings);
}

bool Warns(const ParseResult& result, const std::string& text) {
  for (const Notice& notice : result.warnings) {
    if (notice.message.find(text) != std::string::npos) return true;
    for (const auto& [key, value] : notice.fields) {
      if (value.find(text) != std::string::npos) return true;
    }
  }
  return false;
}

TEST(Parse, EmptyCommandLineGivesEtcdsDefaults) {
  ParseResult result = Parse({});
  ASSERT_EQ(result.action, Action::kRun) << result.err;
  const Config& c = result.config;
  EXPECT_EQ(c.name, "default");
  EXPECT_EQ(c.data_dir, "default.etcd");
  EXPECT_EQ(c.WalDir(), "default.etcd/member/wal");
  EXPECT_EQ(c.SnapDir(), "default.etcd/member/snap");
  EXPECT_EQ(c.BackendDir(), "default.etcd/member/rocksdb");
  EXPECT_EQ(Join(c.listen_peer_urls), "http://localhost:2380");
  EXPECT_EQ(Join(c.listen_client_urls), "http://localhost:2379");
  EXPECT_EQ(Join(c.advertise_client_urls), "http://localhost:2379");
  EXPECT_EQ(c.initial_cluster, "default=http://localhost:2380");
  EXPECT_EQ(c.snapshot_count, 10000u);
  EXPECT_EQ(c.QuotaBytes(), int64_t{2} << 30);
  EXPECT_EQ(c.ElectionTicks(), 10);
  EXPECT_EQ(c.max_request_bytes, 1572864u);
  EXPECT_EQ(c.max_concurrent_streams, 4294967295u);
  EXPECT_EQ(c.watch_progress_notify_interval, minutes(10));
  EXPECT_TRUE(c.features.fast_lease_keep_alive);
  EXPECT_FALSE(c.features.initial_corrupt_check);
  EXPECT_TRUE(Warns(result, "default name"));
}

TEST(Parse, EverySpellingOfAFlagIsTaken) {
  for (const std::vector<std::string>& args : std::vector<std::vector<std::string>>{
           {"--name", "a"}, {"--name=a"}, {"-name", "a"}, {"-name=a"}, {"--name=z", "--name", "a"}}) {
    ParseResult result = Parse(args);
    ASSERT_EQ(result.action, Action::kRun) << result.err;
    EXPECT_EQ(result.config.name, "a");
    EXPECT_EQ(result.config.initial_cluster, "a=http://localhost:2380");
    EXPECT_EQ(result.config.data_dir, "a.etcd");
  }
}

TEST(Parse, BooleansStandWithAndWithoutAValue) {
  EXPECT_TRUE(Parse({"--unsafe-no-fsync"}).config.unsafe_no_fsync);
  EXPECT_TRUE(Parse({"--unsafe-no-fsync=true"}).config.unsafe_no_fsync);
  EXPECT_FALSE(Parse({"--pre-vote=false"}).config.pre_vote);
  EXPECT_FALSE(Parse({"-strict-reconfig-check=0"}).config.strict_reconfig_check);
  // A value that stands apart is no value.
  ParseResult apart = Parse({"--pre-vote", "false"});
  EXPECT_EQ(apart.exit_code, 1);
  EXPECT_THAT(apart.err, HasSubstr("\"false\" is not a valid flag"));
}

TEST(Parse, WrongCommandLinesNameTheFlag) {
  struct Case {
    std::vector<std::string> args;
    int exit_code;
    std::string message;
  };
  const Case cases[] = {
      {{"--no-such-flag"}, 2, "flag provided but not defined: -no-such-flag"},
      {{"--no-such-flag=3"}, 2, "flag provided but not defined: -no-such-flag"},
      {{"--name"}, 2, "flag needs an argument: -name"},
      {{"---name=x"}, 2, "bad flag syntax: ---name=x"},
      {{"--=x"}, 2, "bad flag syntax: --=x"},
      {{"--snapshot-count=many"}, 2, "invalid value \"many\" for flag -snapshot-count: parse error"},
      {{"--snapshot-count=-1"}, 2, "invalid value \"-1\" for flag -snapshot-count: parse error"},
      {{"--snapshot-count=99999999999999999999"}, 2, "for flag -snapshot-count: value out of range"},
      {{"--max-concurrent-streams=4294967296"}, 2, "for flag -max-concurrent-streams: value out of range"},
      {{"--pre-vote=maybe"}, 2, "invalid boolean value \"maybe\" for -pre-vote: parse error"},
      {{"--grpc-keepalive-timeout=20"},
       2,
       "invalid value \"20\" for flag -grpc-keepalive-timeout: parse error"},
      {{"--listen-client-urls=localhost:2379"},
       2,
       "for flag -listen-client-urls: URL scheme must be http, https"},
      {{"--listen-peer-urls=http://127.0.0.1"}, 2, "URL address does not have the form \"host:port\""},
      {{"--initial-cluster-state=old"},
       2,
       "for flag -initial-cluster-state: possible values are new, existing"},
      {{"--feature-gates=Nonsense=true"}, 2, "for flag -feature-gates: unrecognized feature gate: Nonsense"},
      {{"--feature-gates=CompactHashCheck"}, 2, "missing bool value for CompactHashCheck"},
      {{"--addr=1.2.3.4:1"}, 2, "flag \"-addr\" is no longer supported; use --advertise-client-urls"},
      {{"--proxy=on"}, 2, "for flag -proxy: the v2 proxy is not there any more"},
      {{"--discovery=https://discovery.example/x", "--discovery-proxy=y:1"},
       1,
       "--discovery-proxy: https://discovery.example/x needs TLS, which is not supported through a proxy"},
      {{"--discovery=discovery.example/x"}, 1, "--discovery: discovery: invalid URL"},
      {{"--discovery=http://discovery.example:1"}, 1, "--discovery: discovery: invalid URL"},
      {{"--discovery=http:///x"}, 1, "--discovery: discovery: invalid URL"},
      {{"--discovery=http://discovery.example:1/x y"}, 1, "--discovery: discovery: invalid URL"},
      {{"--discovery=http://discovery.example:1/x", "--discovery-proxy=ftp://y:1"},
       1,
       "--discovery-proxy: invalid proxy address \"ftp://y:1\""},
      {{"--discovery-fallback=proxy"}, 2, "--discovery-fallback can't be configured as \"proxy\""},
      {{"--discovery-fallback=stay"}, 2, "for flag -discovery-fallback: invalid value"},
      {{"--discovery=http://d.example:1/x", "--initial-cluster=a=http://x:1"},
       1,
       "multiple discovery or bootstrap flags are set"},
      {{"--discovery=http://d.example:1/x", "--discovery-srv=example.com"},
       1,
       "Choose one of \"initial-cluster\", \"discovery\", \"discovery-endpoints\" or \"discovery-srv\""},
      {{"--discovery-srv-name=x"}, 1, "--discovery-srv-name needs --discovery-srv"},
      {{"stray"}, 1, "\"stray\" is not a valid flag"},
      {{"--election-timeout=400"},
       1,
       "--election-timeout[400ms] should be at least as 5 times as --heartbeat-interval[100ms]"},
      {{"--election-timeout=50001"},
       1,
       "--election-timeout[50001ms] is too long, and should be set less than 50000ms"},
      {{"--heartbeat-interval=0"}, 1, "--heartbeat-interval must be >0 (set to 0ms)"},
      {{"--heartbeat-interval=18446744073709551615"}, 1, "should be at least as 5 times"},
      {{"--listen-client-urls=http://127.0.0.1:1"},
       1,
       "--advertise-client-urls is required when --listen-client-urls is set explicitly"},
      {{"--listen-peer-urls=http://example.com:2380"},
       1,
       "expected IP in URL for binding (http://example.com:2380)"},
      {{"--initial-advertise-peer-urls=http://:2380"}, 1, "unexpected empty host (http://:2380)"},
      {{"--auto-compaction-mode=sometimes"}, 1, "unknown auto-compaction-mode \"sometimes\""},
      {{"--initial-cluster=a=http://x:1", "--discovery-srv=example.com"},
       1,
       "multiple discovery or bootstrap flags are set"},
      {{"--discovery-token=x"}, 1, "both --discovery-token and --discovery-endpoints must be set"},
      {{"--discovery-endpoints=x:1"}, 1, "both --discovery-token and --discovery-endpoints must be set"},
      {{"--discovery-endpoints=x:1,", "--discovery-token=x"}, 1, "must not contain empty endpoints"},
      {{"--discovery-endpoints=x", "--discovery-token=x"}, 1, "\"x\" must be \"host:port\""},
      {{"--initial-cluster=a"}, 1, "--initial-cluster: empty URL given for \"a\""},
      {{"--initial-cluster=a="}, 1, "--initial-cluster: empty URL given for \"a\""},
      {{"--discovery-endpoints=unixs://x", "--discovery-token=x"}, 1, "\"unixs://x\" must be \"host:port\""},
      {{"--listen-metrics-urls=https://127.0.0.1:1"},
       1,
       "--listen-metrics-urls: TLS key/cert (--cert-file, --key-file) must be provided for client url "
       "https://127.0.0.1:1 with HTTPS scheme"},
      {{"--listen-peer-urls=https://127.0.0.1:2380"},
       1,
       "--listen-peer-urls: cannot listen on TLS for 127.0.0.1:2380: KeyFile and CertFile are not presented"},
      {{"--listen-client-http-urls=https://127.0.0.1:1", "--key-file=k"},
       1,
       "KeyFile and CertFile must both be present[key: k, cert: ]"},
      {{"--peer-cert-file=c"},
       1,
       "--peer-key-file: KeyFile and CertFile must both be present[key: , cert: c]"},
      {{"--peer-client-key-file=k"}, 1, "must both be present or both absent: key: k, cert: "},
      {{"--peer-cert-allowed-cn=a", "--peer-cert-allowed-hostname=b"}, 1, "are mutually exclusive"},
      {{"--cipher-suites=TLS_X"}, 1, "--cipher-suites: unexpected TLS cipher suite \"TLS_X\""},
      {{"--peer-auto-tls", "--self-signed-cert-validity=0"}, 1, "it should be greater than 0"},
      {{"--initial-cluster=a=ftp://x:1"}, 1, "--initial-cluster: URL scheme must be http"},
      {{"--log-level=loud"}, 1, "--log-level: unrecognized level: \"loud\""},
      {{"--logger=capnslog"}, 1, "--logger: unknown logger option \"capnslog\""},
      {{"--tls-min-version=TLS1.0"}, 1, "--tls-min-version: unexpected TLS version \"TLS1.0\""},
      {{"--feature-gates=LeaseCheckpointPersist=true"}, 1, "requires enabling feature gate LeaseCheckpoint"},
      {{"--compact-hash-check-time=0"}, 1, "--compact-hash-check-time must be >0 (set to 0s)"},
      {{"--bcrypt-cost=3"}, 1, "--bcrypt-cost must be between 4 and 31"},
      {{"--config-file=/nowhere.yml"}, 1, "--config-file: open /nowhere.yml: no such file"},
  };
  for (const Case& c : cases) {
    ParseResult result = Parse(c.args);
    EXPECT_EQ(result.action, Action::kExit) << c.args[0];
    EXPECT_EQ(result.exit_code, c.exit_code) << c.args[0];
    EXPECT_THAT(result.err, HasSubstr(c.message));
    EXPECT_EQ(result.out, "");
  }
}

TEST(Parse, CertificatesAndTheSchemesOfUrls) {
  // Plaintext URLs are served as such, and what they ignore is said, as etcd does.
  ParseResult plain =
      Parse({"--cert-file=c.pem", "--key-file=k.pem", "--client-cert-auth", "--peer-auto-tls"});
  ASSERT_EQ(plain.action, Action::kRun) << plain.err;
  EXPECT_TRUE(
      Warns(plain, "scheme is http or unix while key and cert files are present; ignoring key and cert"));
  EXPECT_TRUE(
      Warns(plain, "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth"));
  EXPECT_TRUE(
      Warns(plain, "scheme is HTTP while key and cert files are present; ignoring key and cert files"));

  ParseResult secure =
      Parse({"--cert-file=c.pem", "--key-file=k.pem", "--trusted-ca-file=ca.pem", "--client-cert-auth",
             "--auto-tls", "--listen-client-urls=https://127.0.0.1:2379",
             "--advertise-client-urls=https://127.0.0.1:2379", "--listen-metrics-urls=https://127.0.0.1:2381",
             "--peer-auto-tls", "--listen-peer-urls=https://127.0.0.1:2380",
             "--initial-advertise-peer-urls=https://127.0.0.1:2380",
             "--initial-cluster=default=https://127.0.0.1:2380,other=http://127.0.0.1:3",
             "--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
             "--client-cert-allowed-hostname=a,b", "--peer-cert-allowed-cn=c"});
  ASSERT_EQ(secure.action, Action::kRun) << secure.err;
  EXPECT_TRUE(Warns(secure, "ignoring client auto TLS since certs given"));
  EXPECT_FALSE(Warns(secure, "scheme is"));
  EXPECT_FALSE(Warns(secure, "not supported yet"));
  EXPECT_EQ(secure.config.client_tls.allowed_hostnames, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(secure.config.peer_tls.allowed_cns, (std::vector<std::string>{"c"}));

  // An advertised URL of TLS needs no certificate here: something else may be in front of the member.
  EXPECT_EQ(Parse({"--advertise-client-urls=https://127.0.0.1:2379"}).action, Action::kRun);
  ParseResult discovery = Parse({"--discovery-endpoints=https://x:1,y:2", "--discovery-token=x",
                                 "--discovery-cacert=f", "--discovery-insecure-transport=false"});
  EXPECT_EQ(discovery.action, Action::kRun) << discovery.err;
}

TEST(Parse, WhatThisVersionDoesNotActOnIsSaidOnce) {
  ParseResult result = Parse({"--name=a", "--enable-pprof", "--metrics=extensive", "--corrupt-check-time=0"});
  ASSERT_EQ(result.action, Action::kRun) << result.err;
  EXPECT_TRUE(result.config.enable_pprof);
  EXPECT_EQ(result.config.metrics, "extensive");
  int lines = 0;
  for (const Notice& notice : result.warnings) {
    if (notice.message.find("not supported yet") == std::string::npos) continue;
    ++lines;
    ASSERT_EQ(notice.fields.size(), 1u);
    EXPECT_EQ(notice.fields[0].second, "--enable-pprof --metrics");
  }
  EXPECT_EQ(lines, 1);
}

TEST(Parse, UnsupportedBootstrapStops) {
  for (const char* flag : {"--auth-token=jwt,pub-key=x"}) {
    ParseResult result = Parse({flag});
    EXPECT_EQ(result.exit_code, 1) << flag;
    EXPECT_THAT(result.err, HasSubstr("not supported by this version of kvd")) << flag;
  }
}

TEST(Parse, ADiscoveredClusterHasNoStaticOne) {
  ParseResult result = Parse({"-name=m1", "-discovery", "http://d.example:8087/token",
                              "--discovery-proxy=p:3128", "--discovery-fallback=exit"});
  ASSERT_EQ(result.action, Action::kRun) << result.err;
  EXPECT_EQ(result.config.discovery_url, "http://d.example:8087/token");
  EXPECT_EQ(result.config.discovery_proxy, "p:3128");
  EXPECT_TRUE(result.config.initial_cluster.empty());
  EXPECT_TRUE(result.config.ShouldDiscover());

  result = Parse({"--name=m1", "--discovery-endpoints=http://a:1,b:2", "--discovery-token=t",
                  "--discovery-request-timeout=3s"});
  ASSERT_EQ(result.action, Action::kRun) << result.err;
  EXPECT_THAT(result.config.discovery.endpoints, ElementsAre("http://a:1", "b:2"));
  EXPECT_EQ(result.config.discovery.request_timeout, seconds(3));
  EXPECT_TRUE(result.config.initial_cluster.empty());

  result = Parse({"--name=m1", "--discovery-srv=example.com", "--discovery-srv-name=blue",
                  "--discovery-dns-servers=127.0.0.1:53,10.0.0.1", "--enable-discovery-service"});
  ASSERT_EQ(result.action, Action::kRun) << result.err;
  EXPECT_EQ(result.config.discovery_srv_name, "blue");
  EXPECT_THAT(result.config.discovery_dns_servers, ElementsAre("127.0.0.1:53", "10.0.0.1"));
  EXPECT_TRUE(result.config.enable_discovery_service);
  EXPECT_FALSE(result.config.ShouldDiscover());
  EXPECT_TRUE(result.config.initial_cluster.empty());
}

TEST(Parse, OldNamesSetTheirSuccessorsAndWarn) {
  ParseResult result =
      Parse({"--experimental-initial-corrupt-check=true", "--experimental-watch-progress-notify-interval=5s",
             "--experimental-max-learners=2", "--experimental-snapshot-catch-up-entries=7"});
  ASSERT_EQ(result.action, Action::kRun) << result.err;
  EXPECT_TRUE(result.config.features.initial_corrupt_check);
  EXPECT_EQ(result.config.watch_progress_notify_interval, seconds(5));
  EXPECT_EQ(result.config.max_learners, 2);
  EXPECT_EQ(result.config.snapshot_catchup_entries, 7u);
  EXPECT_TRUE(Warns(result,
                    "--experimental-initial-corrupt-check is an older name; use "
                    "--feature-gates=InitialCorruptCheck=true"));
  EXPECT_TRUE(Warns(result, "use --watch-progress-notify-interval"));
}

// The names of etcd 3.3 to 3.7, each with a value that it takes. What is refused is refused by name, never
// unknown.
TEST(Parse, EveryFlagOfEtcdsReleasesIsKnown) {
  const std::map<std::string, std::string> by_value = {
      {"x",
       "name data-dir wal-dir initial-cluster-token discovery-token discovery-srv discovery-srv-name "
       "discovery-cert "
       "discovery-key discovery-cacert discovery-user discovery-password discovery-endpoints discovery-proxy "
       "cert-file key-file client-cert-file client-key-file client-crl-file client-cert-allowed-hostname "
       "trusted-ca-file peer-cert-file peer-key-file peer-client-cert-file peer-client-key-file "
       "peer-trusted-ca-file peer-crl-file peer-cert-allowed-cn peer-cert-allowed-hostname cipher-suites "
       "cors "
       "host-whitelist auth-token metrics log-outputs log-output log-package-levels "
       "distributed-tracing-address "
       "distributed-tracing-service-name distributed-tracing-instance-id experimental-enable-v2v3 "
       "experimental-distributed-tracing-address experimental-distributed-tracing-service-name "
       "experimental-distributed-tracing-instance-id ca-file peer-ca-file"},
      {"7",
       "snapshot-count heartbeat-interval election-timeout max-snapshots max-wals quota-backend-bytes "
       "backend-batch-limit max-txn-ops max-request-bytes max-concurrent-streams self-signed-cert-validity "
       "bcrypt-cost auth-token-ttl distributed-tracing-sampling-rate compaction-batch-limit "
       "bootstrap-defrag-threshold-megabytes max-learners snapshot-catchup-entries proxy-failure-wait "
       "proxy-refresh-interval proxy-dial-timeout proxy-write-timeout proxy-read-timeout "
       "experimental-compaction-batch-limit experimental-bootstrap-defrag-threshold-megabytes "
       "experimental-max-learners experimental-snapshot-catchup-entries "
       "experimental-snapshot-catch-up-entries "
       "experimental-distributed-tracing-sampling-rate auto-compaction-retention"},
      {"7s",
       "grpc-keepalive-min-time grpc-keepalive-interval grpc-keepalive-timeout raft-read-timeout "
       "raft-write-timeout backend-batch-interval discovery-dial-timeout discovery-request-timeout "
       "discovery-keepalive-time discovery-keepalive-timeout warning-unary-request-duration "
       "warning-apply-duration corrupt-check-time compact-hash-check-time compaction-sleep-interval "
       "watch-progress-notify-interval downgrade-check-time experimental-corrupt-check-time "
       "experimental-compact-hash-check-time experimental-compaction-sleep-interval "
       "experimental-watch-progress-notify-interval experimental-downgrade-check-time "
       "experimental-warning-apply-duration experimental-warning-unary-request-duration "
       "experimental-wait-cluster-ready-timeout"},
      {"true",
       "initial-election-tick-advance memory-mlock socket-reuse-port socket-reuse-address "
       "enable-grpc-gateway "
       "strict-reconfig-check pre-vote discovery-insecure-transport discovery-insecure-skip-tls-verify "
       "client-cert-auth auto-tls peer-client-cert-auth peer-auto-tls peer-skip-client-san-verification "
       "enable-pprof enable-log-rotation enable-distributed-tracing force-new-cluster unsafe-no-fsync "
       "disable-log-sampling enable-v2 debug experimental-initial-corrupt-check "
       "experimental-compact-hash-check-enabled experimental-enable-lease-checkpoint "
       "experimental-enable-lease-checkpoint-persist experimental-peer-skip-client-san-verification "
       "experimental-memory-mlock experimental-txn-mode-write-with-shared-buffer "
       "experimental-stop-grpc-service-on-defrag experimental-enable-distributed-tracing "
       "experimental-set-member-localaddr"},
      {"http://127.0.0.1:7",
       "listen-peer-urls listen-client-urls listen-client-http-urls listen-metrics-urls "
       "initial-advertise-peer-urls advertise-client-urls"},
      {"map", "backend-bbolt-freelist-type experimental-backend-bbolt-freelist-type"},
      {"a=http://127.0.0.1:7", "initial-cluster"},
      {"new", "initial-cluster-state"},
      {"exit", "discovery-fallback"},
      {"off", "proxy"},
      {"revision", "auto-compaction-mode"},
      {"TLS1.3", "tls-min-version tls-max-version"},
      {"zap", "logger"},
      {"debug", "log-level"},
      {"console", "log-format"},
      {"{}", "log-rotation-config-json"},
      {"not-yet", "v2-deprecation"},
      {"CompactHashCheck=true", "feature-gates"},
  };
  for (const auto& [value, names] : by_value) {
    std::istringstream stream(names);
    for (std::string name; stream >> name;) {
      ParseResult result = Parse({"--" + name + "=" + value});
      // Wrong for another reason is possible; a value that does not parse is not.
      EXPECT_NE(result.exit_code, 2) << name << ": " << result.err;
    }
  }
}

TEST(Parse, IgnoredFlagsWarnAndGoOn) {
  ParseResult result =
      Parse({"--proxy=off", "--enable-v2=true", "--force", "--vv", "--debug", "--v2-deprecation", "not-yet",
             "--discovery-fallback=exit", "--proxy-read-timeout", "5"});
  ASSERT_EQ(result.action, Action::kRun) << result.err;
  for (const char* name :
       {"--proxy ", "--enable-v2 ", "--force ", "--vv ", "--debug ", "--v2-deprecation "}) {
    EXPECT_TRUE(Warns(result, std::string(name) + "is ignored")) << name;
  }
}

TEST(Parse, FeatureGatesAddUp) {
  ParseResult result = Parse({"--feature-gates=InitialCorruptCheck=true", "--feature-gates",
                              "CompactHashCheck=true,FastLeaseKeepAlive=false"});
  EXPECT_TRUE(result.config.features.initial_corrupt_check);
  EXPECT_TRUE(result.config.features.compact_hash_check);
  EXPECT_FALSE(result.config.features.fast_lease_keep_alive);
  result = Parse({"--feature-gates=AllAlpha=true,PriorityRequest=false"});
  EXPECT_TRUE(result.config.features.lease_checkpoint);
  EXPECT_FALSE(result.config.features.priority_request);
  result = Parse({"--feature-gates=AllBeta=false"});
  EXPECT_FALSE(result.config.features.txn_mode_write_with_shared_buffer);
}

TEST(Parse, VariablesSetFlags) {
  ParseResult result = Parse(
      {"--name=a"}, {"ETCD_ELECTION_TIMEOUT=5000", "ETCD_HEARTBEAT_INTERVAL=250", "KVD_SNAPSHOT_COUNT=17",
                     "ETCD_PROXY=off", "PATH=/bin", "ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK=true",
                     "ETCD_PORT=tcp://1.2.3.4", "ETCD_WAL_DIR=", "ETCD_UNSUPPORTED_ARCH=arm64"});
  ASSERT_EQ(result.action, Action::kRun) << result.err;
  EXPECT_EQ(result.config.election_timeout_ms, 5000u);
  EXPECT_EQ(result.config.heartbeat_interval_ms, 250u);
  EXPECT_EQ(result.config.snapshot_count, 17u);
  EXPECT_TRUE(result.config.features.initial_corrupt_check);
  int unrecognized = 0;
  for (const Notice& notice : result.warnings) {
    if (notice.message != "unrecognized environment variable") continue;
    ++unrecognized;
    EXPECT_EQ(notice.fields[0].second, "ETCD_PORT=tcp://1.2.3.4");
  }
  EXPECT_EQ(unrecognized, 1);
}

TEST(Parse, AVariableBesideItsFlagIsAConflict) {
  ParseResult result = Parse({"--name=a"}, {"ETCD_NAME=b"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err,
              HasSubstr("conflicting environment variable \"ETCD_NAME\" is shadowed by corresponding "
                        "command-line flag"));
  EXPECT_THAT(Parse({"--name=a"}, {"KVD_NAME=b"}).err, HasSubstr("\"KVD_NAME\""));
  EXPECT_THAT(Parse({}, {"KVD_NAME=b", "ETCD_NAME=c"}).err, HasSubstr("differ"));
  EXPECT_EQ(Parse({}, {"KVD_NAME=b", "ETCD_NAME=b"}).config.name, "b");
}

TEST(Parse, AWrongVariableIsNamed) {
  ParseResult result = Parse({}, {"ETCD_SNAPSHOT_COUNT=x"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("invalid value \"x\" for ETCD_SNAPSHOT_COUNT: parse error"));
}

TEST(Parse, UrlListsAreSortedAndUnique) {
  ParseResult result =
      Parse({"--listen-client-urls=http://127.0.0.1:9,http://127.0.0.1:10, http://127.0.0.1:9",
             "--advertise-client-urls=http://h:9"});
  ASSERT_EQ(result.action, Action::kRun) << result.err;
  EXPECT_EQ(Join(result.config.listen_client_urls), "http://127.0.0.1:10,http://127.0.0.1:9");
}

TEST(Parse, ListeningEverywhereAdvertisesTheDefaultHost) {
  ParseResult result = Parse({"--name=a", "--listen-peer-urls=http://0.0.0.0:5380"});
  ASSERT_EQ(result.action, Action::kRun) << result.err;
  EXPECT_EQ(Join(result.config.advertise_peer_urls), "http://10.1.2.3:5380");
  EXPECT_EQ(result.config.initial_cluster, "a=http://10.1.2.3:5380");
}

TEST(Parse, CompactionRetentionIsReadByMode) {
  EXPECT_EQ(Parse({"--auto-compaction-retention=8"}).config.auto_compaction_period, hours(8));
  EXPECT_EQ(Parse({"--auto-compaction-retention=5m30s"}).config.auto_compaction_period, seconds(330));
  ParseResult revision = Parse({"--auto-compaction-mode=revision", "--auto-compaction-retention=1000"});
  EXPECT_EQ(revision.config.auto_compaction_revisions, 1000);
  EXPECT_EQ(Parse({"--auto-compaction-mode=revision", "--auto-compaction-retention=5m"}).exit_code, 1);
}

TEST(Parse, LogRotationIsReadAndChecked) {
  ParseResult result = Parse({"--enable-log-rotation", "--log-outputs=/tmp/x.log",
                              "--log-rotation-config-json={\"maxsize\": 7, \"maxbackups\": 3}"});
  ASSERT_EQ(result.action, Action::kRun) << result.err;
  EXPECT_EQ(result.config.log_rotation.max_size_mb, 7);
  EXPECT_EQ(result.config.log_rotation.max_backups, 3);
  EXPECT_THAT(Parse({"--enable-log-rotation"}).err,
              HasSubstr("requires a single file path in --log-outputs"));
  EXPECT_THAT(Parse({"--enable-log-rotation", "--log-outputs=/a,/b"}).err, HasSubstr("got several"));
  EXPECT_THAT(Parse({"--enable-log-rotation", "--log-outputs=/a", "--log-rotation-config-json=}"}).err,
              HasSubstr("improperly formatted JSON"));
}

TEST(Parse, VersionBeginsWithEtcds) {
  ParseResult result = Parse({"--version"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, StartsWith("etcd Version: 3.7.1\nkvd Version: "));
  EXPECT_THAT(result.out, HasSubstr("\nGit SHA: "));
}

TEST(Parse, HelpListsEveryFlagWithItsDefault) {
  ParseResult result = Parse({"--help"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, HasSubstr("--heartbeat-interval '100'"));
  EXPECT_THAT(result.out, HasSubstr("--grpc-keepalive-min-time '5s'"));
  EXPECT_THAT(result.out, HasSubstr("--experimental-corrupt-check-time"));
  EXPECT_EQ(Parse({"-h"}).out, result.out);
}

TEST(Parse, SecretsStayOutOfTheLoggedArguments) {
  ParseResult result = Parse({"--name=a", "--discovery-password=hunter2"});
  EXPECT_THAT(result.arguments, Contains("--name=a"));
  EXPECT_THAT(result.arguments, Contains("--discovery-password=<hidden>"));
}

// The command lines of the deployers that this must be a drop-in for.
TEST(Parse, KubesprayAndTalosCommandLinesStart) {
  ParseResult kubespray = Parse({}, {"ETCD_DATA_DIR=/var/lib/etcd",
                                     "ETCD_ADVERTISE_CLIENT_URLS=http://10.0.0.1:2379",
                                     "ETCD_INITIAL_ADVERTISE_PEER_URLS=http://10.0.0.1:2380",
                                     "ETCD_INITIAL_CLUSTER_STATE=existing",
                                     "ETCD_METRICS=basic",
                                     "ETCD_LISTEN_CLIENT_URLS=http://10.0.0.1:2379,http://127.0.0.1:2379",
                                     "ETCD_ELECTION_TIMEOUT=5000",
                                     "ETCD_HEARTBEAT_INTERVAL=250",
                                     "ETCD_INITIAL_CLUSTER_TOKEN=k8s_etcd",
                                     "ETCD_LISTEN_PEER_URLS=http://10.0.0.1:2380",
                                     "ETCD_NAME=etcd1",
                                     "ETCD_PROXY=off",
                                     "ETCD_INITIAL_CLUSTER=etcd1=http://10.0.0.1:2380",
                                     "ETCD_AUTO_COMPACTION_RETENTION=8",
                                     "ETCD_SNAPSHOT_COUNT=100000",
                                     "ETCD_QUOTA_BACKEND_BYTES=2147483648",
                                     "ETCD_MAX_REQUEST_BYTES=1572864",
                                     "ETCD_LOG_LEVEL=info",
                                     "ETCD_MAX_SNAPSHOTS=5",
                                     "ETCD_MAX_WALS=5",
                                     "ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL=5s"});
  ASSERT_EQ(kubespray.action, Action::kRun) << kubespray.err;
  EXPECT_EQ(kubespray.config.initial_cluster_state, ClusterState::kExisting);
  EXPECT_FALSE(Warns(kubespray, "unrecognized"));

  ParseResult talos = Parse(
      {"--name=t1", "--auto-tls=false", "--peer-auto-tls=false", "--data-dir=/var/lib/etcd",
       "--listen-peer-urls=http://10.0.0.1:2380", "--listen-client-urls=http://10.0.0.1:2379",
       "--advertise-client-urls=http://10.0.0.1:2379", "--initial-advertise-peer-urls=http://10.0.0.1:2380",
       "--initial-cluster=t1=http://10.0.0.1:2380", "--tls-min-version=TLS1.3",
       "--auto-compaction-mode=periodic", "--feature-gates=InitialCorruptCheck=true",
       "--feature-gates=CompactHashCheck=true"});
  ASSERT_EQ(talos.action, Action::kRun) << talos.err;
  EXPECT_TRUE(talos.config.features.compact_hash_check);
}

TEST(Validate, ChecksAConfigMadeByHand) {
  Config config = DefaultConfig();
  EXPECT_TRUE(Validate(config).ok());
  config.election_timeout_ms = 100;
  EXPECT_EQ(Validate(config).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace kvd::server
