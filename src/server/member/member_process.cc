#include "server/member/member_process.h"

#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/file_system.h"
#include "base/log.h"
#include "base/random.h"
#include "base/strings.h"
#include "net/grpc_server.h"
#include "net/io_threads.h"
#include "server/api/services.h"
#include "server/bootstrap/bootstrap.h"
#include "server/bootstrap/member_tls.h"
#include "server/bootstrap/recovery.h"
#include "server/config/sd_notify.h"
#include "server/http/discovery_service.h"
#include "server/http/http_endpoints.h"
#include "server/member/node_metrics.h"
#include "server/metrics/metrics.h"
#include "server/node/auto_compactor.h"
#include "server/node/node.h"
#include "server/node/peer_link.h"
#include "storage/store.h"
#include "wal/wal.h"

namespace kvd::server {
namespace {

constexpr base::Nanos kHandOverLimit = std::chrono::milliseconds(1500);
constexpr base::Nanos kClientGrace = std::chrono::milliseconds(500);
constexpr int kInternalStop = SIGUSR2;  // raised by the member itself, never handled otherwise

// A long list is always ready to run; a put is a moment of many threads, each of which would wait for it.
constexpr int kListNice = 5;

// The executors, each a thread, stopped together.
struct Threads {
  base::ThreadExecutor consensus{"consensus"};
  base::ThreadExecutor log{"log"};
  base::ThreadExecutor apply{"apply"};
  base::ThreadExecutor watch{"watch"};
  base::ThreadExecutor background{"background"};
  base::ThreadExecutor bulk{"bulk"};
  base::ThreadExecutor lists{"lists", kListNice};

  NodeExecutors ForNode() { return {consensus, log, apply, watch, background, bulk}; }
  void Stop() {
    for (base::ThreadExecutor* executor : {&consensus, &log, &apply, &watch, &background, &bulk, &lists})
      executor->Stop();
  }
};

int ClientThreads() {
  // Half of the processors: the log, consensus and apply threads need the others.
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()) / 2, 1, 8);
}

DiskOptions DiskOptionsOf(const Config& config) {
  DiskOptions disk;
  disk.member_dir = config.MemberDir();
  disk.wal_dir = config.WalDir();
  disk.snap_dir = config.SnapDir();
  disk.backend_dir = config.BackendDir();
  disk.max_wals = static_cast<uint32_t>(config.max_wals);
  disk.no_fsync = config.unsafe_no_fsync;
  disk.program_version = std::string(KvdVersion());
  disk.name = config.name;
  disk.force_new_cluster = config.force_new_cluster;
  return disk;
}

NodeOptions NodeOptionsOf(const Config& config) {
  NodeOptions node;
  node.name = config.name;
  node.client_urls = ToStrings(config.advertise_client_urls);
  node.heartbeat = std::chrono::milliseconds(config.heartbeat_interval_ms);
  node.election_ticks = config.ElectionTicks();
  node.advance_election_ticks = config.initial_election_tick_advance;
  node.snapshot_count = config.snapshot_count;
  node.snapshot_catchup_entries = config.snapshot_catchup_entries;
  node.max_request_bytes = config.max_request_bytes;
  node.quota_bytes = config.QuotaBytes();
  node.no_space_clears_itself = config.no_space_auto_disarm;
  node.watch_progress_interval = config.watch_progress_notify_interval;
  node.lease_checkpoints = config.features.lease_checkpoint;
  node.strict_reconfig_check = config.strict_reconfig_check;
  node.max_learners = config.max_learners;
  node.auto_promote_learners = config.auto_promote_learners;
  node.seed = base::SystemSeed();
  return node;
}

net::FrontDoorOptions DoorOptionsOf(const Config& config) {
  net::FrontDoorOptions door;
  door.max_receive_message_bytes = static_cast<uint32_t>(config.MaxReceiveBytes());
  door.max_concurrent_streams = config.max_concurrent_streams;
  door.keepalive_min_time = config.grpc_keepalive_min_time;
  door.keepalive_interval = config.grpc_keepalive_interval;
  door.keepalive_timeout = config.grpc_keepalive_timeout;
  return door;
}

// Where other machines reach this member's HTTP.
std::string DiscoveryBaseUrl(const Config& config) {
  const bool split = !config.listen_client_http_urls.empty();
  for (const Url& url : split ? config.listen_client_http_urls : config.advertise_client_urls) {
    if (!url.IsUnix()) return url.ToString();
  }
  return ToStrings(config.advertise_client_urls).front();
}

absl::Status InitLoggingFrom(const Config& config) {
  base::LogOptions log;
  base::ParseLogLevel(config.log_level, &log.level);
  log.format =
      config.log_format == "console" ? base::LogOptions::Format::kConsole : base::LogOptions::Format::kJson;
  log.outputs = config.log_outputs;
  if (config.enable_log_rotation) {
    log.rotate_bytes = static_cast<uint64_t>(config.log_rotation.max_size_mb) << 20;
    log.rotate_keep_files = static_cast<uint32_t>(config.log_rotation.max_backups);
  }
  return base::InitLogging(log);
}

class MemberProcess {
 public:
  // Reading `stop_fd` becoming possible ends a start that waits for other members or a discovery service.
  MemberProcess(const Config& config, int stop_fd)
      : config_(config), stop_fd_(stop_fd), fs_(base::PosixFileSystem()) {}

  absl::Status Start();
  void Stop();
  bool failed() const { return failed_.load(std::memory_order_acquire); }

 private:
  absl::StatusOr<BootstrapResult> Decide();
  absl::StatusOr<MemberDisk::State> OpenDisk(const BootstrapResult& how);
  absl::Status WithAdvice(const absl::Status& status) const;
  void Fail(const std::string& why);
  absl::Status LoadTls();
  absl::Status ListenForPeers();
  absl::Status ListenForClients();
  void StartAutoCompaction();
  void Serve();

  const Config& config_;
  const int stop_fd_;
  base::FileSystem& fs_;
  Threads threads_;
  net::IoThreads peer_io_{1, "peer"};
  net::IoThreads client_io_{ClientThreads(), "client"};
  std::shared_ptr<const net::TlsContext> client_tls_;  // null: none of the URLs asks for it
  std::shared_ptr<const net::TlsContext> peer_tls_;
  std::unique_ptr<MemberDisk> disk_;
  std::unique_ptr<PeerLink> peers_;
  std::unique_ptr<Node> node_;
  std::unique_ptr<net::FrontDoor> door_;
  std::unique_ptr<net::FrontDoor> metrics_door_;
  std::unique_ptr<Services> services_;
  std::unique_ptr<HttpEndpoints> http_;
  std::unique_ptr<DiscoveryEndpoints> discovery_;  // null: off
  std::shared_ptr<AutoCompactor> compactor_;       // null: off
  std::once_flag failing_;
  std::atomic<bool> failed_{false};
};

// How to start. What the disk says comes before what the peers say: a part of the data may be lost.
absl::StatusOr<BootstrapResult> MemberProcess::Decide() {
  absl::StatusOr<BootstrapSeams> seams = SystemBootstrapSeams(config_, stop_fd_);
  if (!seams.ok()) return seams.status();
  disk_ = std::make_unique<MemberDisk>(DiskOptionsOf(config_), fs_, threads_.background);
  if (!config_.force_new_cluster) {
    if (absl::Status whole = disk_->CheckLogNotLost(); !whole.ok()) return WithAdvice(whole);
    return Bootstrap(config_, *seams);
  }
  absl::StatusOr<bool> has_log = disk_->HasLog();
  if (!has_log.ok()) return has_log.status();
  absl::StatusOr<bool> has_state = *has_log ? true : disk_->HasState();
  if (!has_state.ok()) return has_state.status();
  if (!*has_state) return Bootstrap(config_, *seams);
  if (absl::Status usable = DataDir(config_, fs_).Prepare(); !usable.ok()) return usable;
  BootstrapResult restart;
  restart.mode = StartMode::kRestart;
  restart.name = config_.name;
  return restart;
}

// Data that are lost or damaged come with the commands that get the member back.
absl::Status MemberProcess::WithAdvice(const absl::Status& status) const {
  if (!absl::IsDataLoss(status)) return status;
  const std::vector<Member>& known = disk_->known_members();
  return absl::Status(status.code(),
                      absl::StrCat(status.message(), HowToRecover(config_, known, 0, !known.empty())));
}

void MemberProcess::Fail(const std::string& why) {
  std::call_once(failing_, [&] {
    KVD_LOG(kFatal, base::StrCat(why, "; to join them: `", RecoverCommand(config_, {}, 0), "`"));
    failed_.store(true, std::memory_order_release);
    kill(getpid(), kInternalStop);
  });
}

absl::StatusOr<MemberDisk::State> MemberProcess::OpenDisk(const BootstrapResult& how) {
  switch (how.mode) {
    case StartMode::kNew:
      return disk_->Create(how.local_id, how.cluster_id, how.members);
    case StartMode::kJoin:
      return disk_->Create(how.local_id, how.cluster_id, {});
    case StartMode::kRestart:
      break;
  }
  return disk_->Open();
}

absl::Status MemberProcess::LoadTls() {
  auto clients = ClientTls(config_);
  if (!clients.ok()) return clients.status();
  auto peers = PeerTls(config_);
  if (!peers.ok()) return peers.status();
  client_tls_ = *std::move(clients);
  peer_tls_ = *std::move(peers);
  return absl::OkStatus();
}

absl::Status MemberProcess::ListenForPeers() {
  for (const Url& url : config_.listen_peer_urls) {
    absl::StatusOr<uint16_t> port = peers_->Listen(url.Hostname(), url.Port(), url.IsSecure());
    if (!port.ok()) {
      return absl::Status(port.status().code(), absl::StrCat("cannot listen for peers on ", url.ToString(),
                                                             ": ", port.status().message()));
    }
    KVD_LOG(kInfo, "serving peer traffic", {"address", url.host});
  }
  return absl::OkStatus();
}

absl::Status MemberProcess::ListenForClients() {
  auto listen = [this](net::FrontDoor& door, const Url& url, net::ListenOptions options) {
    if (url.IsSecure()) options.tls = client_tls_;
    absl::Status status = url.IsUnix() ? door.ListenUnix(url.host + url.path, options)
                                       : door.Listen(url.Hostname(), url.Port(), options).status();
    if (status.ok()) return status;
    return absl::Status(
        status.code(), absl::StrCat("cannot listen for clients on ", url.ToString(), ": ", status.message()));
  };
  bool split = !config_.listen_client_http_urls.empty();
  for (const Url& url : config_.listen_client_urls) {
    if (absl::Status status = listen(*door_, url, {.grpc = true, .http = !split}); !status.ok())
      return status;
  }
  for (const Url& url : config_.listen_client_http_urls) {
    if (absl::Status status = listen(*door_, url, {.grpc = false, .http = true}); !status.ok()) return status;
  }
  for (const Url& url : config_.listen_metrics_urls) {
    if (absl::Status status = listen(*metrics_door_, url, {.grpc = false, .http = true}); !status.ok())
      return status;
  }
  return absl::OkStatus();
}

absl::Status MemberProcess::Start() {
  // Files that cannot be used end the start before anything is written.
  if (absl::Status loaded = LoadTls(); !loaded.ok()) return loaded;
  absl::StatusOr<BootstrapResult> how = Decide();
  if (!how.ok()) return how.status();
  absl::StatusOr<MemberDisk::State> state = OpenDisk(*how);
  if (!state.ok()) return WithAdvice(state.status());
  if (config_.client_tls.auto_tls || config_.peer_tls.auto_tls) {
    if (absl::Status made = MakeOwnCertificates(config_); !made.ok()) return made;
    if (absl::Status loaded = LoadTls(); !loaded.ok()) return loaded;
  }

  PeerLink::Options link;
  link.member_id = state->member_id;
  link.cluster_id = state->cluster_id;
  link.server_version = std::string(kEtcdVersion);
  link.peer_urls = ToStrings(config_.advertise_peer_urls);
  link.read_timeout = config_.raft_read_timeout;
  link.write_timeout = config_.raft_write_timeout;
  link.tls = peer_tls_;
  link.check_client_address = !config_.peer_tls.skip_client_san_verification;
  peers_ = std::make_unique<PeerLink>(link, peer_io_.thread(0), fs_, threads_.background);

  KVD_LOG(kInfo, "starting kvd server", {"etcd-version", kEtcdVersion}, {"kvd-version", KvdVersion()},
          {"local-member-id", base::HexId(state->member_id)}, {"cluster-id", base::HexId(state->cluster_id)},
          {"name", config_.name}, {"data-dir", config_.data_dir},
          {"revision", state->store->current_revision()});
  Node::Events events;
  events.on_ready = [this] { Serve(); };
  events.on_removed = [] { kill(getpid(), kInternalStop); };
  events.on_failed = [this](const std::string& why) { Fail(why); };
  node_ = std::make_unique<Node>(NodeOptionsOf(config_), threads_.ForNode(), *disk_, std::move(*state),
                                 how->members, *peers_, std::move(events));
  if (absl::Status loaded = node_->Load(); !loaded.ok()) return loaded;
  if (how->mode == StartMode::kRestart) {
    absl::Status ours =
        CheckIdentity(config_, node_->member_id(), node_->cluster_id(), node_->cluster().View()->Members());
    if (!ours.ok()) return ours;
  }
  peers_->SetReceiver(node_.get());

  services_ = std::make_unique<Services>(
      *node_, fs_, threads_.lists,
      ServiceOptions{static_cast<int64_t>(config_.max_txn_ops), config_.max_request_bytes,
                     static_cast<int>(config_.bcrypt_cost)});
  door_ = std::make_unique<net::FrontDoor>(client_io_, DoorOptionsOf(config_));
  metrics_door_ = std::make_unique<net::FrontDoor>(client_io_, DoorOptionsOf(config_));
  services_->Register(*door_);
  http_ = std::make_unique<HttpEndpoints>(*node_);
  http_->Register(*door_);
  http_->RegisterHealth(*metrics_door_);
  if (config_.enable_discovery_service) {
    discovery_ = std::make_unique<DiscoveryEndpoints>(*node_, DiscoveryBaseUrl(config_));
    discovery_->Register(*door_);
  }
  for (net::FrontDoor* door : {door_.get(), metrics_door_.get()}) {
    RegisterMetrics(*door, {CollectProcessMetrics, CollectVersionMetrics,
                            [node = node_.get()](MetricSink& sink) { CollectNodeMetrics(*node, sink); }});
  }
  if (absl::Status listening = ListenForPeers(); !listening.ok()) return listening;
  if (absl::Status listening = ListenForClients(); !listening.ok()) return listening;
  metrics_door_->Start();
  node_->Start();
  StartAutoCompaction();
  return absl::OkStatus();
}

void MemberProcess::StartAutoCompaction() {
  AutoCompactor::Options options{config_.auto_compaction_period, config_.auto_compaction_revisions};
  if (options.keep_time <= base::Nanos(0) && options.keep_revisions <= 0) return;
  AutoCompactor::Hooks hooks;
  hooks.is_leader = [node = node_.get()] { return node->is_leader(); };
  hooks.revision = [node = node_.get()] { return node->store().current_revision(); };
  hooks.compact = [node = node_.get()](int64_t revision, absl::AnyInvocable<void(Error)> done) {
    std::string request;
    AppendInt64Field(request, 1, revision);
    node->Propose(RequestField::kCompaction, request,
                  [done = std::move(done)](ApplyOutcome&& outcome) mutable { done(outcome.error); });
  };
  compactor_ = std::make_shared<AutoCompactor>(options, threads_.background, std::move(hooks));
  compactor_->Start();
}

void MemberProcess::Serve() {
  door_->Start();
  for (const Url& url : config_.listen_client_urls) {
    if (url.IsSecure()) {
      KVD_LOG(kInfo, "serving client traffic securely", {"address", url.host});
    } else {
      KVD_LOG(kInfo, "serving client traffic insecurely; this is strongly discouraged!",
              {"address", url.host});
    }
  }
  KVD_LOG(kInfo, "ready to serve client requests");
  if (absl::Status told = SdNotify("READY=1"); !told.ok()) {
    KVD_LOG(kWarn, "failed to notify systemd for readiness", {"error", told});
  }
}

void MemberProcess::Stop() {
  if (node_ != nullptr) node_->HandOver(kHandOverLimit);
  if (compactor_ != nullptr) compactor_->Stop();
  if (services_ != nullptr) services_->Shutdown();
  if (node_ != nullptr) node_->Stop();
  if (door_ != nullptr) door_->Shutdown(kClientGrace);
  if (metrics_door_ != nullptr) metrics_door_->Shutdown(base::Nanos(0));
  if (peers_ != nullptr) peers_->Stop();
  threads_.Stop();
  door_.reset();
  metrics_door_.reset();
  peer_io_.Stop();
  client_io_.Stop();
  discovery_.reset();
  http_.reset();
  services_.reset();
  node_.reset();
  peers_.reset();
}

}  // namespace

int RunMember(const ParseResult& parsed, int* signal_out) {
  *signal_out = 0;
  // Taken by this thread alone, so before there is any other.
  sigset_t signals;
  sigemptyset(&signals);
  for (int s : {SIGTERM, SIGINT, kInternalStop}) sigaddset(&signals, s);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  // Debian's Abseil checks every lock against every other for cycles unless it is told not to.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);

  const Config& config = parsed.config;
  if (absl::Status logging = InitLoggingFrom(config); !logging.ok()) {
    KVD_LOG(kError, "cannot start logging", {"error", logging});
    return 1;
  }
  KVD_LOG(kInfo, "Running: ", {"args", parsed.arguments});
  for (const Notice& notice : parsed.infos) KVD_LOG(kInfo, notice.message);
  for (const Notice& notice : parsed.warnings) KVD_LOG(kWarn, notice.message);

  absl::Status started = CheckFileDescriptorLimit();
  const int stop_fd = signalfd(-1, &signals, SFD_CLOEXEC);  // for waiting only: sigwait takes the signal
  auto process = std::make_unique<MemberProcess>(config, stop_fd);
  if (started.ok()) started = process->Start();
  int code = 0;
  if (started.ok() || absl::IsCancelled(started)) {
    int received = 0;
    sigwait(&signals, &received);
    if (received != kInternalStop) {
      KVD_LOG(kInfo, "received signal; shutting down", {"signal", strsignal(received)});
      *signal_out = received;
    }
    if (process->failed()) code = 1;
  } else {
    KVD_LOG(kFatal, base::FromAbsl(started.message()));
    code = 1;
  }
  process->Stop();
  process.reset();
  if (stop_fd >= 0) close(stop_fd);
  KVD_LOG(kInfo, "closed kvd server");
  base::FlushLogging();
  return code;
}

}  // namespace kvd::server
