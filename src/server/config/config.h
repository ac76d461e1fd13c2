// A member's settings and where they come from: etcd's command line, its ETCD_* variables (KVD_* is an alias)
// or its YAML/JSON configuration file. Everything that etcd 3.3 to 3.7 takes parses; every setting is kept,
// typed, with etcd's default. What this build does not act on is said once, at the start; what would make it
// serve less safely than it was asked to stops it.
//
//   ParseResult parsed = ParseCommandLine(args, env);
//   if (parsed.action == ParseResult::Action::kExit) { print parsed.out, parsed.err; return parsed.exit_code;
//   } for (auto& warning : parsed.warnings) KVD_LOG(kWarn, ...); Run(parsed.config);
//
// Thread-safety: functions of their arguments; Config is a value.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/config/url.h"

namespace kvd::server {

using Duration = std::chrono::nanoseconds;

// The version of the API that is served: /version, Status.version and the first line of --version.
inline constexpr std::string_view kEtcdVersion = "3.7.1";
// Major and minor of it, as cluster versions are written ("3.7.0").
inline constexpr std::string_view kEtcdClusterVersion = "3.7.0";
std::string_view KvdVersion();

// The settings of one TLS side: what clients connect to, or what peers do.
struct TlsConfig {
  std::string cert_file, key_file;
  std::string client_cert_file, client_key_file;
  std::string trusted_ca_file, crl_file;
  bool client_cert_auth = false;
  bool auto_tls = false;
  bool skip_client_san_verification = false;
  std::vector<std::string> allowed_cns;
  std::vector<std::string> allowed_hostnames;

  bool Empty() const;  // nothing was asked for
};

struct DiscoveryConfig {
  std::string token;
  std::vector<std::string> endpoints;
  Duration dial_timeout = std::chrono::seconds(2);
  Duration request_timeout = std::chrono::seconds(5);
  Duration keepalive_time = std::chrono::seconds(2);
  Duration keepalive_timeout = std::chrono::seconds(6);
  bool insecure_transport = true;
  bool insecure_skip_tls_verify = false;
  std::string cert, key, cacert, user, password;
};

struct LogRotation {
  int64_t max_size_mb = 100;
  int64_t max_age_days = 0;
  int64_t max_backups = 0;  // 0: keep all
  bool local_time = false;
  bool compress = false;
};

enum class ClusterState { kNew, kExisting };

// What is served under the names of etcd's feature gates. Meta gates (AllAlpha, AllBeta) are resolved.
struct FeatureGates {
  bool stop_grpc_service_on_defrag = false;
  bool initial_corrupt_check = false;
  bool compact_hash_check = false;
  bool txn_mode_write_with_shared_buffer = true;
  bool lease_checkpoint = false;
  bool lease_checkpoint_persist = false;
  bool set_member_local_addr = false;
  bool fast_lease_keep_alive = true;
  bool priority_request = false;
};

struct Config {
  // --- member
  std::string name = "default";
  std::string data_dir;  // never empty after parsing: "<name>.etcd" unless set
  std::string wal_dir;   // empty: <data_dir>/member/wal
  uint64_t snapshot_count = 10'000;
  uint64_t snapshot_catchup_entries = 5'000;
  uint64_t max_snapshots = 5;
  uint64_t max_wals = 5;  // 0: unlimited
  uint64_t heartbeat_interval_ms = 100;
  uint64_t election_timeout_ms = 1000;
  bool initial_election_tick_advance = true;
  Urls listen_peer_urls;         // http://localhost:2380
  Urls listen_client_urls;       // http://localhost:2379
  Urls listen_client_http_urls;  // empty: HTTP is served on listen_client_urls too
  bool no_space_auto_disarm = true;
  int64_t quota_backend_bytes = 0;  // 0: etcd's default of 2 GiB; < 0: none
  std::string backend_bbolt_freelist_type = "map";
  Duration backend_batch_interval{0};
  int64_t backend_batch_limit = 0;
  uint64_t max_txn_ops = 128;
  uint64_t max_request_bytes = 1'572'864;
  uint32_t max_concurrent_streams = 4'294'967'295;
  Duration grpc_keepalive_min_time = std::chrono::seconds(5);
  Duration grpc_keepalive_interval = std::chrono::hours(2);
  Duration grpc_keepalive_timeout = std::chrono::seconds(20);
  bool socket_reuse_port = false;
  bool socket_reuse_address = false;
  bool enable_grpc_gateway = true;
  Duration raft_read_timeout = std::chrono::seconds(5);
  Duration raft_write_timeout = std::chrono::seconds(5);
  bool memory_mlock = false;
  FeatureGates features;

  // --- clustering
  Urls advertise_peer_urls;     // --initial-advertise-peer-urls, http://localhost:2380
  Urls advertise_client_urls;   // http://localhost:2379
  std::string initial_cluster;  // as given, or "<name>=<advertise_peer_urls>"; ParseInitialCluster reads it
  ClusterState initial_cluster_state = ClusterState::kNew;
  std::string initial_cluster_token = "etcd-cluster";
  bool strict_reconfig_check = true;
  bool pre_vote = true;
  int64_t max_learners = 1;
  bool auto_promote_learners = false;
  DiscoveryConfig discovery;                       // through etcd's v3 keys
  std::string discovery_url;                       // through the v2 protocol: "http://host:port/…/token"
  std::string discovery_proxy;                     // HTTP proxy towards it; "host:port" or a URL
  std::string discovery_srv, discovery_srv_name;   // through DNS
  std::vector<std::string> discovery_dns_servers;  // "address:port", instead of those in /etc/resolv.conf
  bool enable_discovery_service = false;           // this member serves GET /new and its tokens
  std::string auto_compaction_mode = "periodic";   // or "revision"
  std::string auto_compaction_retention = "0";
  Duration auto_compaction_period{0};     // periodic mode; 0: off
  int64_t auto_compaction_revisions = 0;  // revision mode; 0: off

  // --- security
  TlsConfig client_tls, peer_tls;
  uint64_t self_signed_cert_validity_years = 1;
  std::vector<std::string> cipher_suites;
  std::vector<std::string> cors = {"*"};
  std::vector<std::string> host_whitelist = {"*"};
  std::string tls_min_version = "TLS1.2", tls_max_version;

  // --- auth
  std::string auth_token = "simple";
  uint64_t bcrypt_cost = 10;
  uint64_t auth_token_ttl_seconds = 300;

  // --- profiling and metrics
  bool enable_pprof = false;
  std::string metrics = "basic";  // or "extensive"
  Urls listen_metrics_urls;

  // --- logging
  std::string logger = "zap";
  std::vector<std::string> log_outputs = {"default"};
  std::string log_level = "info";
  std::string log_format = "json";  // or "console"
  bool enable_log_rotation = false;
  std::string log_rotation_json;
  LogRotation log_rotation;
  bool disable_log_sampling = false;
  Duration warning_apply_duration = std::chrono::milliseconds(100);
  Duration warning_unary_request_duration = std::chrono::milliseconds(300);

  // --- tracing
  bool enable_distributed_tracing = false;
  std::string distributed_tracing_address = "localhost:4317";
  std::string distributed_tracing_service_name = "etcd";
  std::string distributed_tracing_instance_id;
  int64_t distributed_tracing_sampling_rate = 0;  // per million

  // --- features
  Duration corrupt_check_time{0};
  Duration compact_hash_check_time = std::chrono::minutes(1);
  int64_t compaction_batch_limit = 1000;
  Duration compaction_sleep_interval = std::chrono::milliseconds(10);
  Duration watch_progress_notify_interval = std::chrono::minutes(10);
  Duration downgrade_check_time = std::chrono::seconds(5);
  uint64_t bootstrap_defrag_threshold_megabytes = 0;

  // --- unsafe
  bool force_new_cluster = false;
  bool unsafe_no_fsync = false;

  // Whether a new cluster's members are found through a discovery service.
  bool ShouldDiscover() const { return !discovery_url.empty() || !discovery.endpoints.empty(); }

  // Where things are.
  std::string WalDir() const;      // --wal-dir or <data_dir>/member/wal
  std::string SnapDir() const;     // <data_dir>/member/snap
  std::string BackendDir() const;  // <data_dir>/member/rocksdb
  // listen-client-urls, -client-http-urls and -metrics-urls: what a certificate for clients is for.
  std::array<const Urls*, 3> ListenClientLists() const {
    return {&listen_client_urls, &listen_client_http_urls, &listen_metrics_urls};
  }
  bool ServesClientsWithTls() const;
  std::string MemberDir() const;  // <data_dir>/member
  // The limit in bytes on the backend, the default applied; <= 0: none.
  int64_t QuotaBytes() const;
  // The ticks of one election timeout, as raft counts them (a tick is one heartbeat interval).
  int ElectionTicks() const;
  // The whole of max_request_bytes and what gRPC needs around it (512 KiB, as etcd allows).
  uint64_t MaxReceiveBytes() const { return max_request_bytes + 512 * 1024; }
};

// A line for the log: what, and the values that belong to it.
struct Notice {
  std::string message;
  std::vector<std::pair<std::string, std::string>> fields;
};

struct ParseResult {
  enum class Action {
    kRun,   // start the member with `config`
    kExit,  // print `out` and `err` and exit with `exit_code`
  };
  Action action = Action::kRun;
  int exit_code = 0;
  std::string out;  // for stdout
  std::string err;  // for stderr; one line that names the flag, then perhaps the usage
  Config config;
  std::vector<Notice> warnings;
  std::vector<Notice> infos;
  // The flags that were given and their values as text, for the first log line. Passwords are hidden.
  std::vector<std::string> arguments;
};

// What parsing reads of the machine; a test gives its own.
struct Surroundings {
  std::function<absl::StatusOr<std::string>(const std::string& path)> read_file;
  // The address of the interface that has the default route; empty if there is none.
  std::function<std::string()> default_host;
};
Surroundings SystemSurroundings();

// `args` without the program's name; `env` as "NAME=value". Parses, applies the defaults that depend on other
// settings, and validates. Never fails otherwise than through the result.
ParseResult ParseCommandLine(const std::vector<std::string>& args, const std::vector<std::string>& env,
                             const Surroundings& surroundings = SystemSurroundings());

// A Config with every default applied, as of an empty command line.
Config DefaultConfig();

// The checks that do not depend on where the settings come from. Errors: kInvalidArgument with etcd's text,
// where etcd has one. ParseCommandLine has called it; a program that fills a Config itself calls it.
absl::Status Validate(const Config& config);

std::string VersionText();  // what --version prints
std::string HelpText();     // what --help prints

// Fatal if the process may open 150 file descriptors or fewer (etcd's rule).
// Errors: kResourceExhausted with what to do.
absl::Status CheckFileDescriptorLimit();

}  // namespace kvd::server
