#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/strings.h"
#include "server/config/flag.h"

// One row per flag. A field's accessor names both the place and the type of its value.
#define FIELD(type, member)   \
  type {                      \
    [](Config & c) -> auto& { \
      return c.member;        \
    }                         \
  }

namespace kvd::server::config_internal {
namespace {

using enum FlagGroup;
using enum FlagStatus;

absl::Status SetState(Draft& draft, std::string_view value) {
  draft.config.initial_cluster_state = value == "existing" ? ClusterState::kExisting : ClusterState::kNew;
  return absl::OkStatus();
}
std::string GetState(const Draft& draft) {
  return draft.config.initial_cluster_state == ClusterState::kExisting ? "existing" : "new";
}

// "Name=true,Other=false"; several flags add up.
absl::Status SetGates(Draft& draft, std::string_view value) {
  for (absl::string_view entry : absl::StrSplit(base::ToAbsl(value), ',')) {
    entry = absl::StripAsciiWhitespace(entry);
    if (entry.empty()) continue;
    size_t equal = entry.find('=');
    std::string name(absl::StripAsciiWhitespace(entry.substr(0, equal)));
    if (!IsFeatureGate(name)) {
      return absl::InvalidArgumentError(base::StrCat("unrecognized feature gate: ", name));
    }
    if (equal == absl::string_view::npos) {
      return absl::InvalidArgumentError(base::StrCat("missing bool value for ", name));
    }
    bool on = false;
    absl::string_view text = absl::StripAsciiWhitespace(entry.substr(equal + 1));
    if (!ParseBool(base::FromAbsl(text), &on)) {
      return absl::InvalidArgumentError(base::StrCat("invalid value of ", name, "=", text));
    }
    draft.gates[name] = on;
  }
  return absl::OkStatus();
}
std::string GetGates(const Draft& draft) {
  std::vector<std::string> entries;
  for (const auto& [name, on] : draft.gates)
    entries.push_back(base::StrCat(name, "=", on ? "true" : "false"));
  return absl::StrJoin(entries, ",");
}

// Values that once chose a mode: the one that means "off" is reported, any other is an error.
absl::Status SetProxy(Draft&, std::string_view value) {
  if (value == "off" || value.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError("the v2 proxy is not there any more; only \"off\" is accepted");
}
absl::Status SetFallback(Draft&, std::string_view value) {
  if (value == "exit" || value.empty()) return absl::OkStatus();
  if (value == "proxy") {
    return absl::InvalidArgumentError(
        "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"");
  }
  return absl::InvalidArgumentError("invalid value; possible values are exit");
}
std::string GetNothing(const Draft&) {
  return "";
}

std::vector<Flag> MemberFlags() {
  return {
      {"name", kMember, FIELD(StringField, name), kActive, "Human-readable name for this member.", ""},
      {"data-dir", kMember, FIELD(StringField, data_dir), kActive,
       "Path to the data directory; empty: \"<name>.etcd\".", ""},
      {"wal-dir", kMember, FIELD(StringField, wal_dir), kActive,
       "Path to the dedicated directory of the log; empty: within the data directory.", ""},
      {"snapshot-count", kMember, FIELD(UintField, snapshot_count), kActive,
       "Applied entries after which the log may be cut.", ""},
      {"heartbeat-interval", kMember, FIELD(UintField, heartbeat_interval_ms), kActive,
       "Milliseconds between two heartbeats.", ""},
      {"election-timeout", kMember, FIELD(UintField, election_timeout_ms), kActive,
       "Milliseconds without a leader before an election.", ""},
      {"initial-election-tick-advance", kMember, FIELD(BoolField, initial_election_tick_advance), kActive,
       "Whether to shorten the first election timeout at the start.", ""},
      {"listen-peer-urls", kMember, FIELD(UrlsField, listen_peer_urls), kActive,
       "URLs to listen on for the traffic of peers.", ""},
      {"listen-client-urls", kMember, FIELD(UrlsField, listen_client_urls), kActive,
       "URLs to listen on for clients: gRPC, and HTTP unless listen-client-http-urls is set.", ""},
      {"listen-client-http-urls", kMember, FIELD(UrlsField, listen_client_http_urls), kActive,
       "URLs to listen on for clients' HTTP only; the other client URLs then serve gRPC only.", ""},
      {"max-snapshots", kMember, FIELD(UintField, max_snapshots), kKept,
       "Snapshot files to retain; kvd keeps none beside its database.", ""},
      {"max-wals", kMember, FIELD(UintField, max_wals), kActive, "Log files to retain at most; 0: all.", ""},
      {"memory-mlock", kMember, FIELD(BoolField, memory_mlock), kKept, "Keep the process's pages in RAM.",
       ""},
      {"quota-backend-bytes", kMember, FIELD(IntField, quota_backend_bytes), kActive,
       "Space quota of the database in bytes; 0: 2 GiB, negative: none.", ""},
      {"no-space-auto-disarm", kMember, FIELD(BoolField, no_space_auto_disarm), kActive,
       "Whether the NOSPACE alarm goes by itself once there is room; etcd's waits for \"alarm disarm\".", ""},
      {"backend-bbolt-freelist-type", kMember, FIELD(StringField, backend_bbolt_freelist_type), kKept,
       "Of etcd's bbolt; kvd has no free list.", "map|array"},
      {"backend-batch-interval", kMember, FIELD(DurationField, backend_batch_interval), kKept,
       "Of etcd's bbolt; kvd commits each batch of entries at once.", ""},
      {"backend-batch-limit", kMember, FIELD(IntField, backend_batch_limit), kKept,
       "Of etcd's bbolt; kvd commits each batch of entries at once.", ""},
      {"max-txn-ops", kMember, FIELD(UintField, max_txn_ops), kActive,
       "Operations allowed in one transaction.", ""},
      {"max-request-bytes", kMember, FIELD(UintField, max_request_bytes), kActive,
       "Size in bytes of the largest request that is accepted.", ""},
      {"max-concurrent-streams", kMember, FIELD(Uint32Field, max_concurrent_streams), kActive,
       "Streams that one client connection may have open.", ""},
      {"grpc-keepalive-min-time", kMember, FIELD(DurationField, grpc_keepalive_min_time), kActive,
       "Shortest time between two pings of a client.", ""},
      {"grpc-keepalive-interval", kMember, FIELD(DurationField, grpc_keepalive_interval), kActive,
       "Time between two pings of the server; 0: none.", ""},
      {"grpc-keepalive-timeout", kMember, FIELD(DurationField, grpc_keepalive_timeout), kActive,
       "How long an answer to a ping is waited for before the connection is closed.", ""},
      {"socket-reuse-port", kMember, FIELD(BoolField, socket_reuse_port), kKept,
       "Set SO_REUSEPORT on the listening sockets.", ""},
      {"socket-reuse-address", kMember, FIELD(BoolField, socket_reuse_address), kKept,
       "Set SO_REUSEADDR on the listening sockets; kvd always does.", ""},
      {"enable-grpc-gateway", kMember, FIELD(BoolField, enable_grpc_gateway), kKept,
       "Serve the JSON gateway under /v3/.", ""},
      {"raft-read-timeout", kMember, FIELD(DurationField, raft_read_timeout), kActive,
       "Read timeout of a peer's connection; at least 5s.", ""},
      {"raft-write-timeout", kMember, FIELD(DurationField, raft_write_timeout), kActive,
       "Write timeout of a peer's connection; at least 5s.", ""},
      {"feature-gates", kMember, CustomField{SetGates, GetGates}, kActive,
       "Name=true|false of features, separated by commas; may be repeated.", ""},
  };
}

std::vector<Flag> ClusteringFlags() {
  return {
      {"initial-advertise-peer-urls", kClustering, FIELD(UrlsField, advertise_peer_urls), kActive,
       "This member's peer URLs, as the other members reach them.", ""},
      {"initial-cluster", kClustering, FIELD(StringField, initial_cluster), kActive,
       "The members of a new cluster: name=url,name=url.", ""},
      {"initial-cluster-state", kClustering, CustomField{SetState, GetState}, kActive,
       "\"new\" to form a cluster, \"existing\" to join one; ignored on a restart.", "new|existing"},
      {"initial-cluster-token", kClustering, FIELD(StringField, initial_cluster_token), kActive,
       "Tells clusters with equal URLs apart; a part of the IDs.", ""},
      {"advertise-client-urls", kClustering, FIELD(UrlsField, advertise_client_urls), kActive,
       "This member's client URLs, as clients reach them.", ""},
      {"strict-reconfig-check", kClustering, FIELD(BoolField, strict_reconfig_check), kActive,
       "Refuse changes of members that would lose the quorum.", ""},
      {"pre-vote", kClustering, FIELD(BoolField, pre_vote), kActive,
       "Ask before an election, so that a member that returns does not disturb.", ""},
      {"auto-compaction-retention", kClustering, FIELD(StringField, auto_compaction_retention), kActive,
       "What automatic compaction keeps: hours or a duration, or revisions; 0: off.", ""},
      {"auto-compaction-mode", kClustering, FIELD(StringField, auto_compaction_mode), kActive,
       "How auto-compaction-retention counts: periodic or revision.", ""},
      {"discovery-endpoints", kClustering, FIELD(ListField, discovery.endpoints), kActive,
       "Members of the etcd or kvd cluster that the first members are found through.", ""},
      {"discovery-token", kClustering, FIELD(StringField, discovery.token), kActive,
       "The new cluster's token there; its size is a key of that cluster.", ""},
      {"discovery-dial-timeout", kClustering, FIELD(DurationField, discovery.dial_timeout), kActive,
       "Dial timeout towards the discovery service.", ""},
      {"discovery-request-timeout", kClustering, FIELD(DurationField, discovery.request_timeout), kActive,
       "Timeout of a request to the discovery service.", ""},
      {"discovery-keepalive-time", kClustering, FIELD(DurationField, discovery.keepalive_time), kActive,
       "Keepalive time towards the discovery service.", ""},
      {"discovery-keepalive-timeout", kClustering, FIELD(DurationField, discovery.keepalive_timeout), kActive,
       "Keepalive timeout towards the discovery service.", ""},
      {"discovery-insecure-transport", kClustering, FIELD(BoolField, discovery.insecure_transport), kActive,
       "Reach the discovery service without TLS.", ""},
      {"discovery-insecure-skip-tls-verify", kClustering,
       FIELD(BoolField, discovery.insecure_skip_tls_verify), kActive,
       "Do not verify the discovery service's certificate.", ""},
      {"discovery-cert", kClustering, FIELD(StringField, discovery.cert), kActive,
       "Client certificate for the discovery service.", ""},
      {"discovery-key", kClustering, FIELD(StringField, discovery.key), kActive,
       "Key of the client certificate for the discovery service.", ""},
      {"discovery-cacert", kClustering, FIELD(StringField, discovery.cacert), kActive,
       "Authority that the discovery service's certificate is verified with.", ""},
      {"discovery-user", kClustering, FIELD(StringField, discovery.user), kActive,
       "User, or user:password, at the discovery service.", ""},
      {"discovery-password", kClustering, FIELD(StringField, discovery.password), kActive,
       "Password at the discovery service.", ""},
      {"discovery", kClustering, FIELD(StringField, discovery_url), kActive,
       "URL of a token at a discovery service (v2 protocol) that the first members are found through.", ""},
      {"discovery-proxy", kClustering, FIELD(StringField, discovery_proxy), kActive,
       "HTTP proxy towards the service of --discovery.", ""},
      {"discovery-fallback", kClustering, CustomField{SetFallback, GetNothing}, kActive,
       "What a member does that the discovered cluster has no room for: only \"exit\" is known.", ""},
      {"discovery-srv", kClustering, FIELD(StringField, discovery_srv), kActive,
       "DNS domain whose SRV records name the members.", ""},
      {"discovery-srv-name", kClustering, FIELD(StringField, discovery_srv_name), kActive,
       "Suffix of the SRV records' service name.", ""},
      {"discovery-dns-servers", kClustering, FIELD(ListField, discovery_dns_servers), kActive,
       "DNS servers for --discovery-srv, address or address:port; empty: those of resolv.conf.", ""},
      {"enable-discovery-service", kClustering, FIELD(BoolField, enable_discovery_service), kActive,
       "Answer GET /new?size=N with a URL for --discovery, so that new clusters start through this one.", ""},
  };
}

std::vector<Flag> SecurityFlags() {
  return {
      {"cert-file", kSecurity, FIELD(StringField, client_tls.cert_file), kActive,
       "Certificate that clients are served with.", ""},
      {"key-file", kSecurity, FIELD(StringField, client_tls.key_file), kActive, "Key of cert-file.", ""},
      {"client-cert-file", kSecurity, FIELD(StringField, client_tls.client_cert_file), kActive,
       "Certificate that the member shows as a client.", ""},
      {"client-key-file", kSecurity, FIELD(StringField, client_tls.client_key_file), kActive,
       "Key of client-cert-file.", ""},
      {"client-cert-auth", kSecurity, FIELD(BoolField, client_tls.client_cert_auth), kActive,
       "Demand a certificate of clients.", ""},
      {"client-crl-file", kSecurity, FIELD(StringField, client_tls.crl_file), kActive,
       "Revocation list for clients' certificates.", ""},
      {"client-cert-allowed-hostname", kSecurity, FIELD(ListField, client_tls.allowed_hostnames), kActive,
       "Host names allowed in clients' certificates.", ""},
      {"client-cert-allowed-cn", kSecurity, FIELD(ListField, client_tls.allowed_cns), kActive,
       "Common names allowed in clients' certificates; etcd has it in its file only.", ""},
      {"trusted-ca-file", kSecurity, FIELD(StringField, client_tls.trusted_ca_file), kActive,
       "Authority that clients' certificates are verified with.", ""},
      {"auto-tls", kSecurity, FIELD(BoolField, client_tls.auto_tls), kActive,
       "Serve clients with a certificate made at the start.", ""},
      {"peer-cert-file", kSecurity, FIELD(StringField, peer_tls.cert_file), kActive,
       "Certificate that peers are served with.", ""},
      {"peer-key-file", kSecurity, FIELD(StringField, peer_tls.key_file), kActive, "Key of peer-cert-file.",
       ""},
      {"peer-client-cert-file", kSecurity, FIELD(StringField, peer_tls.client_cert_file), kActive,
       "Certificate that the member shows to peers.", ""},
      {"peer-client-key-file", kSecurity, FIELD(StringField, peer_tls.client_key_file), kActive,
       "Key of peer-client-cert-file.", ""},
      {"peer-client-cert-auth", kSecurity, FIELD(BoolField, peer_tls.client_cert_auth), kActive,
       "Demand a certificate of peers.", ""},
      {"peer-trusted-ca-file", kSecurity, FIELD(StringField, peer_tls.trusted_ca_file), kActive,
       "Authority that peers' certificates are verified with.", ""},
      {"peer-crl-file", kSecurity, FIELD(StringField, peer_tls.crl_file), kActive,
       "Revocation list for peers' certificates.", ""},
      {"peer-cert-allowed-cn", kSecurity, FIELD(ListField, peer_tls.allowed_cns), kActive,
       "Common names allowed in peers' certificates.", ""},
      {"peer-cert-allowed-hostname", kSecurity, FIELD(ListField, peer_tls.allowed_hostnames), kActive,
       "Host names allowed in peers' certificates.", ""},
      {"peer-auto-tls", kSecurity, FIELD(BoolField, peer_tls.auto_tls), kActive,
       "Serve peers with a certificate made at the start.", ""},
      {"peer-skip-client-san-verification", kSecurity,
       FIELD(BoolField, peer_tls.skip_client_san_verification), kActive,
       "Do not check the names in peers' certificates.", ""},
      {"self-signed-cert-validity", kSecurity, FIELD(UintField, self_signed_cert_validity_years), kActive,
       "Years that a certificate made at the start is valid.", ""},
      {"cipher-suites", kSecurity, FIELD(ListField, cipher_suites), kActive,
       "TLS cipher suites, by Go's names.", ""},
      {"tls-min-version", kSecurity, FIELD(StringField, tls_min_version), kActive, "TLS1.2 or TLS1.3.", ""},
      {"tls-max-version", kSecurity, FIELD(StringField, tls_max_version), kActive,
       "TLS1.2 or TLS1.3; empty: the newest.", ""},
      {"cors", kSecurity, FIELD(ListField, cors), kKept, "Origins allowed for cross-origin requests.", ""},
      {"host-whitelist", kSecurity, FIELD(ListField, host_whitelist), kKept,
       "Host names that HTTP requests may use when not secure.", ""},
      {"auth-token", kAuth, FIELD(StringField, auth_token), kRefused,
       "Kind of token, and its options: simple or jwt.", ""},
      {"bcrypt-cost", kAuth, FIELD(UintField, bcrypt_cost), kActive, "Cost of hashing passwords, 4 to 31.",
       ""},
      {"auth-token-ttl", kAuth, FIELD(UintField, auth_token_ttl_seconds), kKept,
       "Seconds that a simple token lives.", ""},
  };
}

std::vector<Flag> OperationFlags() {
  return {
      {"enable-pprof", kProfiling, FIELD(BoolField, enable_pprof), kKept,
       "Serve profiles under /debug/pprof/.", ""},
      {"metrics", kProfiling, FIELD(StringField, metrics), kKept,
       "Detail of the metrics: basic or extensive.", ""},
      {"listen-metrics-urls", kProfiling, FIELD(UrlsField, listen_metrics_urls), kActive,
       "More URLs to serve /metrics and /health on.", ""},
      {"logger", kLogging, FIELD(StringField, logger), kActive, "Only \"zap\" is known: structured lines.",
       ""},
      {"log-outputs", kLogging, FIELD(ListField, log_outputs), kActive,
       "stdout, stderr, systemd/journal, or paths of files, separated by commas.", ""},
      {"log-level", kLogging, FIELD(StringField, log_level), kActive,
       "debug, info, warn, error, panic or fatal.", ""},
      {"log-format", kLogging, FIELD(StringField, log_format), kActive, "json or console.", ""},
      {"enable-log-rotation", kLogging, FIELD(BoolField, enable_log_rotation), kActive,
       "Rotate the one file of log-outputs.", ""},
      {"log-rotation-config-json", kLogging, FIELD(StringField, log_rotation_json), kActive,
       "How to rotate: maxsize (MB), maxage (days), maxbackups, localtime, compress.", ""},
      {"disable-log-sampling", kLogging, FIELD(BoolField, disable_log_sampling), kActive,
       "Log every line; kvd drops none of equal lines anyway.", ""},
      {"warning-unary-request-duration", kLogging, FIELD(DurationField, warning_unary_request_duration),
       kKept, "Time after which a request is logged as slow.", ""},
      {"enable-distributed-tracing", kTracing, FIELD(BoolField, enable_distributed_tracing), kKept,
       "Send traces by OpenTelemetry.", ""},
      {"distributed-tracing-address", kTracing, FIELD(StringField, distributed_tracing_address), kKept,
       "Address of the collector of traces.", ""},
      {"distributed-tracing-service-name", kTracing, FIELD(StringField, distributed_tracing_service_name),
       kKept, "Service name in traces.", ""},
      {"distributed-tracing-instance-id", kTracing, FIELD(StringField, distributed_tracing_instance_id),
       kKept, "Instance ID in traces.", ""},
      {"distributed-tracing-sampling-rate", kTracing, FIELD(IntField, distributed_tracing_sampling_rate),
       kKept, "Samples of a million spans.", ""},
      {"corrupt-check-time", kFeatures, FIELD(DurationField, corrupt_check_time), kKept,
       "Time between two comparisons of the members' data; 0: none.", ""},
      {"compact-hash-check-time", kFeatures, FIELD(DurationField, compact_hash_check_time), kKept,
       "Time between two comparisons of compaction hashes.", ""},
      {"compaction-batch-limit", kFeatures, FIELD(IntField, compaction_batch_limit), kActive,
       "Revisions removed in one step of a compaction.", ""},
      {"compaction-sleep-interval", kFeatures, FIELD(DurationField, compaction_sleep_interval), kActive,
       "Pause between two steps of a compaction.", ""},
      {"watch-progress-notify-interval", kFeatures, FIELD(DurationField, watch_progress_notify_interval),
       kActive, "Time between two progress notifications of a quiet watch.", ""},
      {"warning-apply-duration", kFeatures, FIELD(DurationField, warning_apply_duration), kKept,
       "Time after which applying a request is logged as slow.", ""},
      {"bootstrap-defrag-threshold-megabytes", kFeatures,
       FIELD(UintField, bootstrap_defrag_threshold_megabytes), kKept,
       "Of etcd's bbolt; kvd never needs defragmentation.", ""},
      {"max-learners", kFeatures, FIELD(IntField, max_learners), kActive, "Learners allowed in the cluster.",
       ""},
      {"auto-promote-learners", kFeatures, FIELD(BoolField, auto_promote_learners), kActive,
       "Whether the leader makes a learner a voter as soon as it has caught up; etcd's waits for \"member "
       "promote\".",
       ""},
      {"downgrade-check-time", kFeatures, FIELD(DurationField, downgrade_check_time), kKept,
       "Time between two checks of a downgrade.", ""},
      {"snapshot-catchup-entries", kFeatures, FIELD(UintField, snapshot_catchup_entries), kActive,
       "Entries kept for a slow follower when the log is cut.", ""},
      {"force-new-cluster", kUnsafe, FIELD(BoolField, force_new_cluster), kActive,
       "Make a cluster of this member alone, with its data; also where its log is lost.", ""},
      {"unsafe-no-fsync", kUnsafe, FIELD(BoolField, unsafe_no_fsync), kActive,
       "Never wait for the disk; a crash of the machine loses data.", ""},
  };
}

// Spellings of etcd 3.3 to 3.6 that have a name of their own today.
std::vector<Flag> OldNames() {
  std::vector<Flag> flags;
  auto alias = [&flags](std::string_view old_name, const char* flag) {
    flags.push_back({old_name, kHistory, AliasField{flag}, kActive, "", ""});
  };
  alias("experimental-corrupt-check-time", "corrupt-check-time");
  alias("experimental-compact-hash-check-time", "compact-hash-check-time");
  alias("experimental-compaction-batch-limit", "compaction-batch-limit");
  alias("experimental-compaction-sleep-interval", "compaction-sleep-interval");
  alias("experimental-peer-skip-client-san-verification", "peer-skip-client-san-verification");
  alias("experimental-watch-progress-notify-interval", "watch-progress-notify-interval");
  alias("experimental-downgrade-check-time", "downgrade-check-time");
  alias("experimental-memory-mlock", "memory-mlock");
  alias("experimental-warning-apply-duration", "warning-apply-duration");
  alias("experimental-warning-unary-request-duration", "warning-unary-request-duration");
  alias("experimental-bootstrap-defrag-threshold-megabytes", "bootstrap-defrag-threshold-megabytes");
  alias("experimental-max-learners", "max-learners");
  alias("experimental-backend-bbolt-freelist-type", "backend-bbolt-freelist-type");
  alias("experimental-snapshot-catchup-entries", "snapshot-catchup-entries");
  alias("experimental-snapshot-catch-up-entries", "snapshot-catchup-entries");
  alias("experimental-enable-distributed-tracing", "enable-distributed-tracing");
  alias("experimental-distributed-tracing-address", "distributed-tracing-address");
  alias("experimental-distributed-tracing-service-name", "distributed-tracing-service-name");
  alias("experimental-distributed-tracing-instance-id", "distributed-tracing-instance-id");
  alias("experimental-distributed-tracing-sampling-rate", "distributed-tracing-sampling-rate");
  alias("log-output", "log-outputs");
  alias("ca-file", "trusted-ca-file");
  alias("peer-ca-file", "peer-trusted-ca-file");

  auto gate = [&flags](std::string_view old_name, const char* name) {
    flags.push_back({old_name, kHistory, GateField{name}, kActive, "", ""});
  };
  gate("experimental-initial-corrupt-check", "InitialCorruptCheck");
  gate("experimental-compact-hash-check-enabled", "CompactHashCheck");
  gate("experimental-enable-lease-checkpoint", "LeaseCheckpoint");
  gate("experimental-enable-lease-checkpoint-persist", "LeaseCheckpointPersist");
  gate("experimental-txn-mode-write-with-shared-buffer", "TxnModeWriteWithSharedBuffer");
  gate("experimental-set-member-localaddr", "SetMemberLocalAddr");
  gate("experimental-stop-grpc-service-on-defrag", "StopGRPCServiceOnDefrag");
  return flags;
}

std::vector<Flag> GoneFlags() {
  constexpr std::string_view kNoV2 = "the v2 API and its proxy are not served";
  constexpr std::string_view kNothing = "it has no effect any more";
  constexpr std::string_view kLogLevel = "use --log-level";
  std::vector<Flag> flags = {
      {"proxy", kHistory, CustomField{SetProxy, GetNothing}, kIgnored, kNoV2, ""},
      {"enable-v2", kHistory, OddField{true}, kIgnored, kNoV2, ""},
      {"experimental-enable-v2v3", kHistory, OddField{false}, kIgnored, kNoV2, ""},
      {"v2-deprecation", kHistory, OddField{false}, kIgnored, kNoV2, ""},
      {"proxy-failure-wait", kHistory, OddField{false}, kIgnored, kNoV2, ""},
      {"proxy-refresh-interval", kHistory, OddField{false}, kIgnored, kNoV2, ""},
      {"proxy-dial-timeout", kHistory, OddField{false}, kIgnored, kNoV2, ""},
      {"proxy-write-timeout", kHistory, OddField{false}, kIgnored, kNoV2, ""},
      {"proxy-read-timeout", kHistory, OddField{false}, kIgnored, kNoV2, ""},
      {"experimental-wait-cluster-ready-timeout", kHistory, OddField{false}, kIgnored,
       "clients are served once the member has been published", ""},
      {"debug", kHistory, OddField{true}, kIgnored, kLogLevel, ""},
      {"log-package-levels", kHistory, OddField{false}, kIgnored, kLogLevel, ""},
  };
  // Of the first releases; etcd itself has long taken them without a meaning.
  for (std::string_view name :
       {"cluster-active-size", "cluster-remove-delay", "cluster-sync-interval", "config", "force",
        "max-result-buffer", "max-retry-attempts", "peer-heartbeat-interval", "peer-election-timeout",
        "retry-interval", "snapshot", "v", "vv", "test.coverprofile", "test.outputdir"}) {
    flags.push_back({name, kHistory, OddField{true}, kIgnored, kNothing, ""});
  }
  constexpr std::pair<std::string_view, std::string_view> kUnsupportedFlags[] = {
      {"addr", "use --advertise-client-urls"},
      {"bind-addr", "use --listen-client-urls"},
      {"peer-addr", "use --initial-advertise-peer-urls"},
      {"peer-bind-addr", "use --listen-peer-urls"},
      {"peers", "use --initial-cluster"},
      {"peers-file", "use --initial-cluster"},
  };
  for (const auto& [name, hint] : kUnsupportedFlags) {
    flags.push_back({name, kHistory, OddField{false}, kUnsupported, hint, ""});
  }
  return flags;
}

}  // namespace

absl::Span<const Flag> FlagTable() {
  static const auto* const table = [] {
    auto* all = new std::vector<Flag>();
    for (auto rows :
         {MemberFlags(), ClusteringFlags(), SecurityFlags(), OperationFlags(), OldNames(), GoneFlags()}) {
      all->insert(all->end(), rows.begin(), rows.end());
    }
    all->push_back(
        {"config-file", kMisc, OddField{false}, kActive,
         "Path to a YAML or JSON file of settings; all other flags and variables are then ignored.", ""});
    all->push_back({"version", kMisc, OddField{true}, kActive, "Print the version and exit.", ""});
    all->push_back({"help", kMisc, OddField{true}, kActive, "Print this text and exit.", ""});
    return all;
  }();
  return *table;
}

}  // namespace kvd::server::config_internal
