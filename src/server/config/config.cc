#include "server/config/config.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/resource.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/file_system.h"
#include "base/log.h"
#include "base/strings.h"
#include "server/config/flag.h"
#include "yaml-cpp/yaml.h"

namespace kvd::server {
namespace {

constexpr uint64_t kMaxElectionMs = 50'000;
constexpr int64_t kDefaultQuotaBytes = int64_t{2} << 30;
constexpr int64_t kHighQuotaBytes = int64_t{8} << 30;
constexpr uint64_t kRecommendedRequestBytes = 10 << 20;
constexpr std::string_view kDefaultPeerUrl = "http://localhost:2380";
constexpr std::string_view kDefaultClientUrl = "http://localhost:2379";
constexpr std::string_view kDefaultName = "default";
constexpr std::string_view kDefaultCluster = "default=http://localhost:2380";
constexpr Duration kMinRaftTimeout = std::chrono::seconds(5);
constexpr std::string_view kDefaultRotation =
    R"({"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false})";

absl::Status Invalid(std::string_view message) {
  return absl::InvalidArgumentError(base::ToAbsl(message));
}

bool IsAddress(const std::string& host) {
  unsigned char buffer[sizeof(in6_addr)];
  std::string plain = host.substr(0, host.find('%'));
  return inet_pton(AF_INET, plain.c_str(), buffer) == 1 || inet_pton(AF_INET6, plain.c_str(), buffer) == 1;
}

absl::Status CheckListen(std::string_view flag, const Urls& urls) {
  for (const Url& url : urls) {
    if (url.IsUnix() || url.Hostname() == "localhost" || IsAddress(url.Hostname())) continue;
    return Invalid(base::StrCat("--", flag, ": expected IP in URL for binding (", url.ToString(), ")"));
  }
  return absl::OkStatus();
}

absl::Status CheckAdvertised(std::string_view flag, const Urls& urls) {
  for (const Url& url : urls) {
    if (url.IsUnix() || !url.Hostname().empty()) continue;
    return Invalid(base::StrCat("--", flag, " \"", Join(urls),
                                "\" must be \"host:port\" (unexpected empty host (", url.ToString(), "))"));
  }
  return absl::OkStatus();
}

absl::Status CheckTimes(const Config& config) {
  const uint64_t heartbeat = config.heartbeat_interval_ms;
  const uint64_t election = config.election_timeout_ms;
  if (heartbeat == 0) return Invalid("--heartbeat-interval must be >0 (set to 0ms)");
  if (election == 0) return Invalid("--election-timeout must be >0 (set to 0ms)");
  if (heartbeat > election / 5) {
    return Invalid(base::StrCat("--election-timeout[", election,
                                "ms] should be at least as 5 times as --heartbeat-interval[", heartbeat,
                                "ms]"));
  }
  if (election > kMaxElectionMs) {
    return Invalid(base::StrCat("--election-timeout[", election,
                                "ms] is too long, and should be set less than ", kMaxElectionMs, "ms"));
  }
  return absl::OkStatus();
}

absl::Status CheckLogging(const Config& config) {
  base::LogLevel level;
  if (config.logger != "zap")
    return Invalid(base::StrCat("--logger: unknown logger option \"", config.logger, "\""));
  if (!base::ParseLogLevel(config.log_level, &level)) {
    return Invalid(base::StrCat("--log-level: unrecognized level: \"", config.log_level, "\""));
  }
  if (config.log_format != "json" && config.log_format != "console") {
    return Invalid(base::StrCat("--log-format: unknown log format: \"", config.log_format, "\""));
  }
  if (config.log_outputs.empty()) return Invalid("--log-outputs: at least one output is needed");
  if (!config.enable_log_rotation) return absl::OkStatus();
  int files = 0;
  for (const std::string& output : config.log_outputs) {
    if (output != "default" && output != "stderr" && output != "stdout" && output != "systemd/journal")
      ++files;
  }
  if (files == 0)
    return Invalid("--enable-log-rotation requires a single file path in --log-outputs; none was given");
  if (files > 1)
    return Invalid("--enable-log-rotation requires a single file path in --log-outputs; got several");
  return absl::OkStatus();
}

absl::Status CheckTlsVersions(const Config& config) {
  auto number = [](const std::string& text) { return text == "TLS1.2" ? 12 : text == "TLS1.3" ? 13 : -1; };
  const int low = number(config.tls_min_version.empty() ? "TLS1.2" : config.tls_min_version);
  const int high = config.tls_max_version.empty() ? 99 : number(config.tls_max_version);
  if (low < 0)
    return Invalid(
        base::StrCat("--tls-min-version: unexpected TLS version \"", config.tls_min_version, "\""));
  if (high < 0)
    return Invalid(
        base::StrCat("--tls-max-version: unexpected TLS version \"", config.tls_max_version, "\""));
  if (low > high) {
    return Invalid(base::StrCat("min version (", config.tls_min_version, ") is greater than max version (",
                                config.tls_max_version, ")"));
  }
  if (low == 13 && !config.cipher_suites.empty()) {
    return Invalid("--cipher-suites: cipher suites cannot be configured when only TLS1.3 is enabled");
  }
  return absl::OkStatus();
}

absl::Status CheckLimits(const Config& config) {
  if (config.features.lease_checkpoint_persist && !config.features.lease_checkpoint) {
    return Invalid(
        "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint");
  }
  if (config.compact_hash_check_time <= Duration::zero()) {
    return Invalid(base::StrCat("--compact-hash-check-time must be >0 (set to ",
                                config_internal::FormatDuration(config.compact_hash_check_time), ")"));
  }
  if (config.watch_progress_notify_interval <= Duration::zero()) {
    return Invalid("--watch-progress-notify-interval must be >0");
  }
  if (config.max_request_bytes == 0 || config.max_request_bytes > (uint64_t{1} << 31)) {
    return Invalid(base::StrCat("--max-request-bytes must be between 1 and 2147483648 (set to ",
                                config.max_request_bytes, ")"));
  }
  if (config.max_txn_ops == 0) return Invalid("--max-txn-ops must be >0");
  if (config.max_concurrent_streams == 0) return Invalid("--max-concurrent-streams must be >0");
  if (config.bcrypt_cost < 4 || config.bcrypt_cost > 31) {
    return Invalid(base::StrCat("--bcrypt-cost must be between 4 and 31 (set to ", config.bcrypt_cost, ")"));
  }
  const int64_t rate = config.distributed_tracing_sampling_rate;
  if (config.enable_distributed_tracing && (rate < 0 || rate > 1'000'000)) {
    return Invalid(base::StrCat("--distributed-tracing-sampling-rate must be between 0 and 1000000 (set to ",
                                rate, ")"));
  }
  return absl::OkStatus();
}

std::string ClusterFromName(const Config& config) {
  std::string name = config.name.empty() ? std::string(kDefaultName) : config.name;
  std::string text;
  for (const Url& url : config.advertise_peer_urls) {
    base::StrAppend(&text, text.empty() ? "" : ",", name, "=", url.ToString());
  }
  return text;
}

// A member that listens everywhere and advertises nothing better than localhost advertises the machine's
// address.
void AdvertiseDefaultHost(Config& config, const Surroundings& surroundings, std::vector<Notice>& warnings) {
  auto wants = [](const Urls& advertised, std::string_view standard, const Urls& listen) {
    return advertised.size() == 1 && advertised[0].ToString() == standard && !listen.empty() &&
           !listen[0].IsUnix() && listen[0].Hostname() == "0.0.0.0";
  };
  const bool peer = wants(config.advertise_peer_urls, kDefaultPeerUrl, config.listen_peer_urls);
  const bool client = wants(config.advertise_client_urls, kDefaultClientUrl, config.listen_client_urls);
  if (!peer && !client) return;
  std::string host = surroundings.default_host();
  if (host.empty()) {
    warnings.push_back({"failed to detect default host", {}});
    return;
  }
  if (absl::StrContains(host, ":")) host = base::StrCat("[", host, "]");
  auto use = [&host](Url& advertised, const Url& listen) {
    advertised = {listen.scheme, base::StrCat(host, ":", listen.Port()), ""};
  };
  if (peer) use(config.advertise_peer_urls[0], config.listen_peer_urls[0]);
  if (client) use(config.advertise_client_urls[0], config.listen_client_urls[0]);
  warnings.push_back({"detected default host for advertise", {{"host", host}}});
}

absl::Status ResolveCompaction(Config& config) {
  const std::string& mode = config.auto_compaction_mode;
  const std::string& text = config.auto_compaction_retention;
  if (mode.empty()) return Invalid("--auto-compaction-mode: undefined auto-compaction-mode");
  if (mode != "periodic" && mode != "revision") {
    return Invalid(base::StrCat("unknown auto-compaction-mode \"", mode, "\""));
  }
  int64_t number = 0;
  const bool is_number = absl::SimpleAtoi(text, &number) && number >= 0;
  if (mode == "revision") {
    if (!is_number) return Invalid(base::StrCat("--auto-compaction-retention: error parsing \"", text, "\""));
    config.auto_compaction_revisions = number;
    return absl::OkStatus();
  }
  if (is_number) {
    if (number > 2'000'000) return Invalid("--auto-compaction-retention: too many hours");
    config.auto_compaction_period = std::chrono::hours(number);
    return absl::OkStatus();
  }
  auto period = config_internal::ParseDuration(text);
  if (!period.ok() || *period < Duration::zero()) {
    return Invalid(base::StrCat("--auto-compaction-retention: error parsing \"", text, "\""));
  }
  config.auto_compaction_period = *period;
  return absl::OkStatus();
}

void ResolveGates(const std::map<std::string, bool>& given, FeatureGates* features) {
  struct Gate {
    const char* name;
    bool* value;
    bool beta;
  };
  const Gate gates[] = {
      {"StopGRPCServiceOnDefrag", &features->stop_grpc_service_on_defrag, false},
      {"InitialCorruptCheck", &features->initial_corrupt_check, false},
      {"CompactHashCheck", &features->compact_hash_check, false},
      {"TxnModeWriteWithSharedBuffer", &features->txn_mode_write_with_shared_buffer, true},
      {"LeaseCheckpoint", &features->lease_checkpoint, false},
      {"LeaseCheckpointPersist", &features->lease_checkpoint_persist, false},
      {"SetMemberLocalAddr", &features->set_member_local_addr, false},
      {"FastLeaseKeepAlive", &features->fast_lease_keep_alive, true},
      {"PriorityRequest", &features->priority_request, false},
  };
  for (const Gate& gate : gates) {
    if (auto all = given.find(gate.beta ? "AllBeta" : "AllAlpha"); all != given.end())
      *gate.value = all->second;
    if (auto one = given.find(gate.name); one != given.end()) *gate.value = one->second;
  }
}

absl::Status ResolveRotation(Config& config) {
  if (!config.enable_log_rotation) return absl::OkStatus();
  try {
    YAML::Node node = YAML::Load(config.log_rotation_json);
    if (!node.IsMap())
      return Invalid("--log-rotation-config-json: improperly formatted JSON for log rotation");
    for (const auto& entry : node) {
      const std::string key = entry.first.as<std::string>();
      if (key == "maxsize") config.log_rotation.max_size_mb = entry.second.as<int64_t>();
      if (key == "maxage") config.log_rotation.max_age_days = entry.second.as<int64_t>();
      if (key == "maxbackups") config.log_rotation.max_backups = entry.second.as<int64_t>();
      if (key == "localtime") config.log_rotation.local_time = entry.second.as<bool>();
      if (key == "compress") config.log_rotation.compress = entry.second.as<bool>();
    }
  } catch (const YAML::Exception&) {
    return Invalid("--log-rotation-config-json: improperly formatted JSON for log rotation");
  }
  LogRotation& rotation = config.log_rotation;
  if (rotation.max_size_mb < 0 || rotation.max_size_mb > (int64_t{1} << 40) || rotation.max_backups < 0 ||
      rotation.max_backups > UINT32_MAX || rotation.max_age_days < 0) {
    return Invalid("--log-rotation-config-json: a value is out of range");
  }
  if (rotation.max_size_mb == 0) rotation.max_size_mb = 100;
  return absl::OkStatus();
}

void Advise(const Config& config, std::vector<Notice>& warnings) {
  if (config.name == kDefaultName) {
    warnings.push_back(
        {"it isn't recommended to use default name, please set a value for --name. Note that kvd might "
         "run into issue when multiple members have the same default name",
         {{"name", config.name}}});
  }
  if (config.max_request_bytes > kRecommendedRequestBytes) {
    warnings.push_back({"exceeded recommended request limit",
                        {{"max-request-bytes", base::StrCat(config.max_request_bytes)},
                         {"recommended-request-bytes", base::StrCat(kRecommendedRequestBytes)}}});
  }
  if (config.quota_backend_bytes > kHighQuotaBytes) {
    warnings.push_back({"quota exceeds the maximum value",
                        {{"quota-size-bytes", base::StrCat(config.quota_backend_bytes)},
                         {"quota-maximum-size-bytes", base::StrCat(kHighQuotaBytes)}}});
  }
  if (config.features.lease_checkpoint && !config.features.lease_checkpoint_persist) {
    warnings.push_back(
        {"Detected that checkpointing is enabled without persistence. Consider enabling feature gate "
         "LeaseCheckpointPersist",
         {}});
  }
  if (config.unsafe_no_fsync) {
    warnings.push_back({"--unsafe-no-fsync: a crash of the machine will lose acknowledged writes", {}});
  }
}

// The name of the interface of the default route, from the kernel's table.
std::string DefaultInterface() {
  std::ifstream routes("/proc/net/route");
  std::string line;
  std::getline(routes, line);
  while (std::getline(routes, line)) {
    std::vector<std::string> fields = absl::StrSplit(line, absl::ByAnyChar("\t "), absl::SkipEmpty());
    if (fields.size() > 7 && fields[1] == "00000000" && fields[7] == "00000000") return fields[0];
  }
  return "";
}

std::string DefaultHost() {
  std::string interface = DefaultInterface();
  ifaddrs* list = nullptr;
  if (interface.empty() || getifaddrs(&list) != 0) return "";
  std::string host;
  for (ifaddrs* it = list; it != nullptr && host.empty(); it = it->ifa_next) {
    if (it->ifa_addr == nullptr || it->ifa_addr->sa_family != AF_INET || interface != it->ifa_name) continue;
    char text[INET_ADDRSTRLEN] = {};
    const void* address =
        &reinterpret_cast<const sockaddr_in*>(static_cast<const void*>(it->ifa_addr))->sin_addr;
    if (inet_ntop(AF_INET, address, text, sizeof(text)) != nullptr) host = text;
  }
  freeifaddrs(list);
  return host;
}

}  // namespace

bool TlsConfig::Empty() const {
  return cert_file.empty() && key_file.empty() && client_cert_file.empty() && client_key_file.empty() &&
         trusted_ca_file.empty() && crl_file.empty() && !client_cert_auth && !auto_tls &&
         allowed_cns.empty() && allowed_hostnames.empty();
}

bool Config::ServesClientsWithTls() const {
  for (const Urls* urls : ListenClientLists()) {
    for (const Url& url : *urls) {
      if (url.IsSecure()) return true;
    }
  }
  return false;
}

std::string Config::MemberDir() const {
  return base::JoinPath(data_dir, "member");
}
std::string Config::WalDir() const {
  return wal_dir.empty() ? base::JoinPath(MemberDir(), "wal") : wal_dir;
}
std::string Config::SnapDir() const {
  return base::JoinPath(MemberDir(), "snap");
}
std::string Config::BackendDir() const {
  return base::JoinPath(MemberDir(), "rocksdb");
}
int64_t Config::QuotaBytes() const {
  return quota_backend_bytes == 0 ? kDefaultQuotaBytes : quota_backend_bytes;
}
int Config::ElectionTicks() const {
  return static_cast<int>(election_timeout_ms / heartbeat_interval_ms);
}

namespace config_internal {

Draft NewDraft() {
  Draft draft;
  Config& config = draft.config;
  config.listen_peer_urls = {{"http", "localhost:2380", ""}};
  config.listen_client_urls = {{"http", "localhost:2379", ""}};
  config.advertise_peer_urls = config.listen_peer_urls;
  config.advertise_client_urls = config.listen_client_urls;
  config.initial_cluster = std::string(kDefaultCluster);
  config.log_rotation_json = std::string(kDefaultRotation);
  return draft;
}

absl::Status Finish(Draft& draft, const Surroundings& surroundings, std::vector<Notice>& warnings) {
  Config& config = draft.config;
  if (!config.listen_client_urls.empty() && config.advertise_client_urls.empty()) {
    return Invalid("--advertise-client-urls is required when --listen-client-urls is set explicitly");
  }
  AdvertiseDefaultHost(config, surroundings, warnings);
  if (config.name != kDefaultName && config.initial_cluster == kDefaultCluster) {
    config.initial_cluster = ClusterFromName(config);
  }
  if (config.data_dir.empty()) {
    config.data_dir = base::StrCat(config.name, ".etcd");
    warnings.push_back({"'data-dir' was empty; using default", {{"data-dir", config.data_dir}}});
  }
  for (Duration* timeout : {&config.raft_read_timeout, &config.raft_write_timeout}) {
    *timeout = std::max(*timeout, kMinRaftTimeout);
  }
  ResolveGates(draft.gates, &config.features);
  if (absl::Status status = ResolveCompaction(config); !status.ok()) return status;
  if (absl::Status status = ResolveRotation(config); !status.ok()) return status;
  Advise(config, warnings);
  AdviseTls(config, warnings);
  return absl::OkStatus();
}

}  // namespace config_internal

absl::Status Validate(const Config& config) {
  if (config.name.empty()) return Invalid("--name must not be empty");
  if (config.listen_peer_urls.empty()) return Invalid("--listen-peer-urls must not be empty");
  if (config.listen_client_urls.empty()) return Invalid("--listen-client-urls must not be empty");
  if (config.advertise_peer_urls.empty()) return Invalid("--initial-advertise-peer-urls must not be empty");
  const std::pair<const char*, const Urls*> listen[] = {
      {"listen-peer-urls", &config.listen_peer_urls},
      {"listen-client-urls", &config.listen_client_urls},
      {"listen-client-http-urls", &config.listen_client_http_urls},
      {"listen-metrics-urls", &config.listen_metrics_urls},
  };
  absl::Status status = CheckLogging(config);
  for (const auto& [flag, urls] : listen) status.Update(CheckListen(flag, *urls));
  status.Update(CheckAdvertised("initial-advertise-peer-urls", config.advertise_peer_urls));
  status.Update(CheckAdvertised("advertise-client-urls", config.advertise_client_urls));
  status.Update(config_internal::CheckBootstrap(config));
  if (status.ok()) status = CheckTimes(config);
  if (config.advertise_client_urls.empty()) {
    status.Update(Invalid("--advertise-client-urls is required when --listen-client-urls is set explicitly"));
  }
  status.Update(CheckLimits(config));
  status.Update(CheckTlsVersions(config));
  status.Update(config_internal::CheckTls(config));
  return status;
}

Config DefaultConfig() {
  config_internal::Draft draft = config_internal::NewDraft();
  std::vector<Notice> ignored;
  draft.config.data_dir = "default.etcd";
  (void)config_internal::Finish(draft, Surroundings{nullptr, [] { return std::string(); }}, ignored);
  return std::move(draft.config);
}

Surroundings SystemSurroundings() {
  return {[](const std::string& path) { return base::ReadFile(base::PosixFileSystem(), path); }, DefaultHost};
}

absl::Status CheckFileDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > 150) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      base::StrCat("the limit of open files is ", limit.rlim_cur,
                   "; a member needs more than 150: raise it with ulimit -n or "
                   "LimitNOFILE"));
}

}  // namespace kvd::server
