#include "server/node/node.h"

#include <algorithm>
#include <cstdlib>
#include <future>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/mutant.h"
#include "base/sites.h"
#include "membershippb/membership.pb.h"
#include "server/config/config.h"
#include "server/node/conf_state_json.h"
#include "storage/store.h"
#include "wal/wal.h"

namespace kvd::server {
namespace {

// etcd: committed and not yet applied entries beyond which requests are refused.
constexpr uint64_t kMaxApplyGap = 5000;
// A follower that needs older entries than what is kept since then gets a snapshot.
constexpr size_t kSnapshotPointBytes = 16 << 20;
// Proposals that wait for a leader, or for the leader to take more.
constexpr size_t kMaxPendingBytes = 128 << 20;
constexpr base::Nanos kHousekeeping = std::chrono::milliseconds(250);
constexpr base::Nanos kGarbageEvery = std::chrono::seconds(10);
// How long a removed member goes on answering the others (ETCD: stopWithDelay).
constexpr base::Nanos kRemovedLinger = std::chrono::seconds(1);
// For the last writes of an orderly stop; the next start makes up what they lack.
constexpr base::Nanos kStopLimit = std::chrono::seconds(5);
constexpr base::Nanos kPublishRetry = std::chrono::milliseconds(500);
// The log is cut at least this often if the state machine has moved.
constexpr raft::Index kCheckpointEvery = 10'000;

raft::Config CoreConfig(const NodeOptions& options, const MemberDisk::State& state, raft::Index applied) {
  raft::Config config;
  config.id = state.member_id;
  config.election_ticks = options.election_ticks;
  config.heartbeat_ticks = 1;
  config.hard_state = state.hard;
  config.conf_state = state.conf_state;
  config.applied = applied;
  if (KVD_MUTANT("applied_twice_after_restart") && applied > state.log->FirstIndex()) --config.applied;
  config.max_message_bytes = options.limits.max_message_bytes;
  config.max_inflight_messages = options.limits.max_inflight_messages;
  config.max_uncommitted_bytes = options.limits.max_uncommitted_bytes;
  config.max_apply_bytes = options.limits.max_apply_bytes;
  return config;
}

}  // namespace

Node::Node(NodeOptions options, NodeExecutors executors, MemberDisk& disk, MemberDisk::State state,
           std::vector<Member> members, PeerNetwork& network, Events events)
    : options_(std::move(options)),
      executors_(executors),
      disk_(disk),
      network_(network),
      events_(std::move(events)),
      member_id_(state.member_id),
      cluster_id_(state.cluster_id),
      wal_(std::move(state.wal)),
      store_(std::move(state.store)),
      ids_(member_id_, executors.consensus.clock().Wall()),
      proposals_(RequestTimeout()),
      waiters_(store_->applied().index),
      cluster_(Cluster::Options{options_.max_learners}),
      lessor_(
          Lessor::Options{
              .min_ttl_s = MinLeaseTtlSeconds(options_.heartbeat * options_.election_ticks),
              .checkpoint_interval =
                  options_.lease_checkpoints ? options_.limits.lease_checkpoint_interval : base::Nanos(0),
              .on_expired = [this](std::vector<int64_t> ids) { RevokeExpired(std::move(ids)); },
              .on_checkpoint = [this](std::vector<LeaseCheckpoint> c) { ProposeCheckpoints(std::move(c)); }},
          executors.background),
      conf_state_(state.conf_state) {
  cluster_.SetIds(member_id_, cluster_id_);
  cluster_.SetBootstrapMembers(members);
  WatchHub::Options watch;
  watch.fragment_bytes = options_.max_request_bytes + size_t{512} * 1024;
  watch.progress_interval = options_.watch_progress_interval;
  watch.seed = options_.seed + 1;
  watch.max_queued_bytes = options_.limits.watch_queue_bytes;
  watch.slice_events = options_.limits.watch_slice_events;
  watch.max_backlog_bytes = options_.limits.watch_backlog_bytes;
  hub_ = std::make_unique<WatchHub>(watch, *store_, *this, executors.watch, executors.background);
  store_->SetObserver(&hub_->observer());
  store_->SetLeaseBinder(&lessor_.binder());
  writer_ = std::make_unique<LogWriter>(*wal_, state.hard, executors.log, network);
  writer_->SetFailureCallback([this](const absl::Status& status) { OnDiskFailure(status); });

  Applier::Parts parts{member_id_, executors.apply, *store_,    lessor_, cluster_,
                       alarms_,    auth_,           proposals_, waiters_};
  Applier::Hooks hooks;
  hooks.on_membership = [this] { OnMembership(); };
  hooks.on_removed = [this] { Removed(); };
  hooks.install_snapshot = [this](const raft::Snapshot& snapshot) { return InstallSnapshot(snapshot); };
  hooks.on_state_change = [this] { OnStateChange(); };
  hooks.on_applied_term = [this](raft::Term term) { TakeLeases(term); };
  hooks.on_applied = [this](raft::Index index, size_t bytes) { OnApplied(index, bytes); };
  hooks.is_watched = [this] { return hub_->has_streams(); };
  applier_ = std::make_unique<Applier>(parts, std::move(hooks));

  RaftDriver::Options driver;
  driver.tick = options_.heartbeat;
  driver.request_timeout = RequestTimeout();
  driver.catch_up_entries = options_.snapshot_catchup_entries;
  driver.trim_every = options_.limits.trim_every;
  driver.stall_limit = options_.heartbeat * options_.election_ticks;
  driver.trace = options_.trace;
  if (options_.advance_election_ticks) driver.advance_ticks = options_.election_ticks - 1;
  raft::Config config = CoreConfig(options_, state, store_->applied().index);
  checkpointed_ = state.log->FirstIndex() - 1;
  checkpoint_at_ = config.applied + std::min<raft::Index>(options_.snapshot_count, kCheckpointEvery);
  driver_ = std::make_unique<RaftDriver>(config, std::move(state.log), options_.seed, executors.consensus,
                                         *writer_, network, *applier_, driver);
  applier_->SetDriver(driver_.get());
}

Node::~Node() = default;

// 5 seconds for the work and two elections (ETCD: config.ReqTimeout).
base::Nanos Node::RequestTimeout() const {
  return std::chrono::seconds(5) + 2 * options_.heartbeat * options_.election_ticks;
}

absl::Status Node::Load() {
  auto rows = [this](storage::Table table) {
    TableRows out;
    store_->ForEachInTable(table, [&](std::string_view key, std::string_view value) {
      out.emplace_back(std::string(key), std::string(value));
    });
    return out;
  };
  absl::Status loaded = cluster_.Load(rows(storage::Table::kMembers), rows(storage::Table::kMembersRemoved),
                                      rows(storage::Table::kCluster));
  if (!loaded.ok()) return loaded;
  alarms_.Reset();
  for (const auto& [key, value] : rows(storage::Table::kAlarm)) {
    Alarms::Alarm alarm;
    if (!Alarms::Decode(key, &alarm)) return absl::DataLossError("an alarm in the store cannot be read");
    alarms_.Raise(alarm);
  }
  loaded = auth_.Load([this](AuthTable table, AuthStore::Visit visit) {
    store_->ForEachInTable(table == AuthTable::kAuth    ? storage::Table::kAuth
                           : table == AuthTable::kUsers ? storage::Table::kAuthUsers
                                                        : storage::Table::kAuthRoles,
                           visit);
  });
  if (!loaded.ok()) return loaded;
  for (const auto& [key, value] : rows(storage::Table::kLease)) {
    absl::StatusOr<LeaseRecord> record = DecodeLeaseRecord(value);
    if (!record.ok()) return record.status();
    lessor_.Recover(*record);
  }
  store_->ForEachLeasedKey([this](std::string_view key, int64_t lease) { lessor_.Attach(lease, key); });
  return absl::OkStatus();
}

void Node::Start() {
  executors_.apply.Post([this] {
    SyncPeers();
    SetSnapshotPoint();
    driver_->Start();
  });
  executors_.background.Post([this] { Housekeep(); });
}

// The voter that has been reachable for longest; 0 if there is none.
uint64_t Node::Successor(const ClusterView& view, uint64_t leader) const {
  uint64_t best = 0;
  base::Nanos longest = base::Nanos::max();
  for (const auto& [id, member] : view.members) {
    if (id == leader || member.is_learner) continue;
    std::optional<base::Nanos> since = id == member_id_ ? base::Nanos(0) : network_.ActiveSince(id);
    if (since && *since < longest) {
      longest = *since;
      best = id;
    }
  }
  return best;
}

void Node::HandOver(base::Nanos limit) {
  if (!is_leader()) return;
  uint64_t best = Successor(*cluster_.View(), member_id_);
  if (best == 0) return;
  auto done = std::make_shared<std::promise<void>>();
  std::future<void> finished = done->get_future();
  MoveLeader(best, [done](Error) { done->set_value(); });
  finished.wait_for(limit);
}

void Node::Stop() {
  stopped_.store(true, std::memory_order_release);
  driver_->Stop();
  hub_->Shutdown(absl::StatusCode::kUnavailable, ErrorText(Error::kStopped));
  proposals_.FailAll(Error::kStopped);
  waiters_.FailAll(Error::kStopped);
  lessor_.Demote();
  auto done = std::make_shared<std::promise<void>>();
  std::future<void> finished = done->get_future();
  executors_.background.Post([this, done] {
    // What is on the disk then, the next start does not read from the log again.
    if (store_->TryFlush()) TakeCheckpoint();
    writer_->Finish([done] { done->set_value(); });
  });
  finished.wait_for(kStopLimit);
}

void Node::Propose(RequestField field, std::string_view request, ApplyCallback done) {
  if (driver_->commit() > applier_->applied_index() + kMaxApplyGap ||
      driver_->pending_bytes() > kMaxPendingBytes || KVD_BUGGIFY("node/refuse early")) {
    KVD_PROBE("node/too many requests");
    ApplyOutcome refused;
    refused.error = Error::kTooManyRequests;
    done(std::move(refused));
    return;
  }
  ProposeOwn(field, request, std::nullopt, std::move(done));
}

void Node::ProposeOwn(RequestField field, std::string_view request, std::optional<raft::Term> only_in,
                      ApplyCallback done) {
  ApplyOutcome refused;
  uint64_t id = ids_.Next();
  std::string data = EncodeRaftRequest(id, field, request);
  if (stopped_.load(std::memory_order_acquire)) {
    refused.error = Error::kStopped;
  } else if (data.size() > options_.max_request_bytes) {
    refused.error = Error::kRequestTooLarge;
  }
  if (refused.error != Error::kOk) {
    done(std::move(refused));
    return;
  }
  proposals_.Add(id, Now(), std::move(done));
  driver_->Propose(base::SharedBytes(std::move(data)), only_in);
}

void Node::LinearizableRead(AppliedWaiters::Callback done) {
  if (stopped_.load(std::memory_order_acquire)) {
    done(Error::kStopped);
    return;
  }
  driver_->ReadIndex([this, done = std::move(done)](Error error, raft::Index index) mutable {
    if (error == Error::kOk && KVD_MUTANT("read_before_applied")) {
      done(Error::kOk);
    } else if (error == Error::kOk) {
      waiters_.Wait(index, std::move(done));
      applier_->Hurry();
    } else {
      done(error == Error::kTimeout ? TimeoutError() : error);
    }
  });
}

void Node::MoveLeader(uint64_t target, absl::AnyInvocable<void(Error)> done) {
  if (!is_leader()) {
    done(Error::kNotLeader);
    return;
  }
  const std::shared_ptr<const ClusterView> view = cluster_.View();
  const Member* member = view->Find(target);
  if (member == nullptr || member->is_learner) {
    done(Error::kBadLeaderTransferee);
    return;
  }
  if (target == member_id_) {
    done(Error::kOk);
    return;
  }
  KVD_LOG(kInfo, "leadership transfer starting", {"local-member-id", base::HexId(member_id_)},
          {"transferee-member-id", base::HexId(target)});
  base::Nanos deadline = Now() + options_.heartbeat * options_.election_ticks + RequestTimeout() / 7;
  driver_->TransferLeadership(
      target, [this, target, deadline, done = std::move(done)](raft::TransferResult result) mutable {
        switch (result) {
          case raft::TransferResult::kStarted:
            AwaitTransfer(target, deadline, std::move(done));
            return;
          case raft::TransferResult::kAlreadyLeader:
            done(Error::kOk);
            return;
          case raft::TransferResult::kNotMember:
            done(Error::kBadLeaderTransferee);
            return;
          case raft::TransferResult::kNoLeader:
            done(Error::kNotLeader);
            return;
        }
      });
}

void Node::AwaitTransfer(uint64_t target, base::Nanos deadline, absl::AnyInvocable<void(Error)> done) {
  if (driver_->leader() == target) {
    KVD_LOG(kInfo, "leadership transfer finished", {"local-member-id", base::HexId(member_id_)},
            {"transferee-member-id", base::HexId(target)});
    done(Error::kOk);
    return;
  }
  if (Now() >= deadline || stopped_.load(std::memory_order_acquire)) {
    done(Error::kTimeoutLeaderTransfer);
    return;
  }
  executors_.consensus.PostAfter(std::chrono::milliseconds(10),
                                 [this, target, deadline, done = std::move(done)]() mutable {
                                   AwaitTransfer(target, deadline, std::move(done));
                                 });
}

bool Node::QuorumActive() const {
  std::shared_ptr<const ClusterView> view = cluster_.View();
  size_t voters = 0;
  size_t active = 0;
  for (const Member& member : view->Members()) {
    if (member.is_learner) continue;
    ++voters;
    if (member.id == member_id_ || network_.ActiveSince(member.id)) ++active;
  }
  return active >= voters / 2 + 1;
}

// Why a request found no answer in time, as far as this member can tell (ETCD: parseProposeCtxErr).
Error Node::TimeoutError() const {
  raft::NodeId leader = driver_->leader();
  if (leader == raft::kNoNode) return Error::kTimeout;
  base::Nanos elected(leader_elected_.load(std::memory_order_acquire));
  if (Now() - elected < RequestTimeout()) return Error::kTimeoutDueToLeaderFail;
  bool connected = leader == member_id_ ? QuorumActive() : network_.ActiveSince(leader).has_value();
  return connected ? Error::kTimeout : Error::kTimeoutDueToConnectionLost;
}

// --- What takes effect. ---

void Node::OnMembership() {
  raft::ConfState state;
  if (ConfStateFromJson(store_->conf_state(), &state)) conf_state_ = std::move(state);
  SyncPeers();
  SetSnapshotPoint();
}

// Apply executor: the network knows the members that the cluster has.
void Node::SyncPeers() {
  std::shared_ptr<const ClusterView> view = cluster_.View();
  is_learner_.store(view->IsLocalLearner(), std::memory_order_release);
  std::map<uint64_t, std::vector<std::string>> wanted;
  for (const Member& member : view->Members()) {
    if (member.id != member_id_) wanted[member.id] = member.peer_urls;
  }
  for (const auto& [id, urls] : peers_) {
    if (!wanted.contains(id)) network_.RemovePeer(id);
  }
  for (const auto& [id, urls] : wanted) {
    auto known = peers_.find(id);
    if (known == peers_.end()) {
      network_.AddPeer(id, urls);
    } else if (known->second != urls) {
      network_.UpdatePeer(id, urls);
    }
  }
  peers_ = std::move(wanted);
}

void Node::OnApplied(raft::Index index, size_t bytes) {
  bytes_since_point_ += bytes;
  if (index >= snapshot_point_ + options_.limits.snapshot_point_every ||
      bytes_since_point_ >= kSnapshotPointBytes || KVD_BUGGIFY("node/snapshot point early")) {
    SetSnapshotPoint();
  }
  if (index >= checkpoint_at_ || KVD_BUGGIFY("node/checkpoint early")) {
    checkpoint_at_ = index + std::min<raft::Index>(options_.snapshot_count, kCheckpointEvery);
    executors_.background.Post([this] { TakeCheckpoint(); });
  }
}

void Node::SetSnapshotPoint() {
  raft::Index index = applier_->applied_index();
  if (index == 0 || conf_state_.voters.empty()) return;
  snapshot_point_ = index;
  bytes_since_point_ = 0;
  driver_->SetSnapshotPoint({index, applier_->applied_term(), conf_state_});
}

// The log is needed from where the state machine would be after a crash.
void Node::TakeCheckpoint() {
  storage::AppliedState persisted = store_->PersistedApplied();
  if (persisted.index <= checkpointed_ || persisted.index < applier_->conf_changed_at()) return;
  raft::SnapshotMeta marker;
  marker.index = persisted.index;
  marker.term = persisted.term;
  if (!ConfStateFromJson(store_->conf_state(), &marker.conf_state)) return;
  checkpointed_ = persisted.index;
  KVD_LOG(kInfo, "saved snapshot", {"snapshot-index", persisted.index}, {"snapshot-term", persisted.term});
  writer_->Checkpoint(std::move(marker));
}

bool Node::InstallSnapshot(const raft::Snapshot& snapshot) {
  KVD_LOG(kInfo, "applying snapshot", {"current-applied-index", applier_->applied_index()},
          {"incoming-leader-snapshot-index", snapshot.meta.index});
  absl::StatusOr<std::unique_ptr<storage::Store>> loaded = disk_.LoadSnapshot(snapshot.meta);
  if (!loaded.ok()) {
    KVD_LOG(kError, "the received snapshot cannot be loaded", {"error", loaded.status()});
    OnDiskFailure(loaded.status());
    return false;
  }
  store_->ReplaceWith(std::move(*loaded), [] {});
  if (absl::Status active = disk_.ActivateLoaded(); !active.ok()) {
    KVD_LOG(kError, "the received snapshot cannot be adopted", {"error", active});
    OnDiskFailure(active);
    return false;
  }
  lessor_.Clear();
  if (absl::Status loaded_tables = Load(); !loaded_tables.ok()) {
    KVD_LOG(kError, "the received snapshot cannot be read", {"error", loaded_tables});
    OnDiskFailure(loaded_tables);
    return false;
  }
  KVD_PROBE("node/snapshot installed");
  KVD_LOG(kInfo, "applied snapshot", {"snapshot-index", snapshot.meta.index},
          {"revision", store_->current_revision()});
  return true;
}

void Node::OnDiskFailure(const absl::Status& status) {
  if (events_.on_disk_failure) {
    events_.on_disk_failure(status);
    return;
  }
  KVD_LOG(kFatal, "the disk has failed; stopping", {"error", status});
  base::FlushLogging();
  std::abort();
}

void Node::OnStateChange() {
  RaftDriver::State state = driver_->state();
  bool leads = state.role == raft::Role::kLeader;
  if (state.leader != raft::kNoNode && last_leader_ != state.leader) {
    last_leader_ = state.leader;
    leader_elected_.store(Now().count(), std::memory_order_release);
    leader_changes_.fetch_add(1, std::memory_order_relaxed);
    if (!ready_.load(std::memory_order_acquire)) {
      executors_.background.Post([this] {
        const bool idle =
            !stopped_.load(std::memory_order_acquire) && !ready_.load(std::memory_order_acquire);
        if (!idle || publishing_ || !has_leader()) return;
        // First the version: a voter that joins a cluster without one could not start, nor be done without.
        MonitorVersion();
        Publish();
      });
    }
  }
  KVD_LOG(kInfo, "raft state changed", {"local-member-id", base::HexId(member_id_)},
          {"role", raft::RoleName(state.role)}, {"leader", base::HexId(state.leader)}, {"term", state.term});
  const raft::Term leads_in = leads ? state.term : 0;
  if (leads_in == last_led_) return;
  last_led_ = leads_in;
  executors_.apply.Post([this, leads_in] {
    lessor_.Demote();
    leases_from_ = leads_in;
    TakeLeases(applier_->applied_term());
  });
}

// A new leader may not know yet how much of its log is committed: leases that earlier leaders renewed, and
// checkpoints that they cleared, count only once the first entry of its own term is applied.
void Node::TakeLeases(raft::Term applied) {
  if (leases_from_ == 0 || applied != leases_from_) return;
  lease_term_.store(std::exchange(leases_from_, 0), std::memory_order_release);
  lessor_.Promote(options_.heartbeat * options_.election_ticks);
}

void Node::Removed() {
  if (removed_.exchange(true)) return;
  KVD_LOG(kWarn, "the member has been permanently removed from the cluster",
          {"local-member-id", base::HexId(member_id_)});
  // A leader that fell silent now could leave behind members that do not know that its removal is committed
  // and that cannot elect anybody without it.
  base::Nanos linger = std::max<base::Nanos>(kRemovedLinger, options_.heartbeat * options_.election_ticks);
  executors_.background.PostAfter(linger, [this] { events_.on_removed(); });
}

// --- The background. ---

void Node::Housekeep() {
  if (stopped_.load(std::memory_order_acquire)) return;
  proposals_.Expire(Now(), TimeoutError());
  db_size_.store(store_->size_bytes(), std::memory_order_release);
  WatchDisk();
  WatchQuota();
  if (Now() >= next_garbage_) {
    next_garbage_ = Now() + kGarbageEvery;
    store_->HintGarbage(executors_.bulk);
  }
  if (!ready_.load(std::memory_order_acquire) && !publishing_ && has_leader()) Publish();
  MonitorVersion();
  PromoteLearners();
  executors_.background.PostAfter(kHousekeeping, [this] { Housekeep(); });
}

// Tells the cluster this member's name and client URLs; once that is applied, it serves.
void Node::Publish() {
  publishing_ = true;
  membershippb::ClusterMemberAttrSetRequest request;
  request.set_member_id(member_id_);
  request.mutable_member_attributes()->set_name(options_.name);
  for (const std::string& url : options_.client_urls)
    request.mutable_member_attributes()->add_client_urls(url);
  ProposeOwn(RequestField::kClusterMemberAttrSet, request.SerializeAsString(), std::nullopt,
             [this](ApplyOutcome&& outcome) {
               if (outcome.error == Error::kOk) {
                 BecomeReady();
               } else if (outcome.error != Error::kStopped) {
                 KVD_LOG(kWarn, "failed to publish local member to cluster through raft",
                         {"error", ErrorText(outcome.error)});
                 executors_.background.PostAfter(kPublishRetry, [this] { publishing_ = false; });
               }
             });
}

void Node::BecomeReady() {
  if (ready_.exchange(true)) return;
  KVD_LOG(kInfo, "published local member to cluster through raft",
          {"local-member-id", base::HexId(member_id_)},
          {"local-member-attributes", absl::StrCat("{Name:", options_.name, "}")},
          {"cluster-id", base::HexId(cluster_id_)});
  events_.on_ready();
}

// --- From the other members. ---

void Node::OnMessages(std::vector<raft::Message> messages) {
  driver_->Step(std::move(messages));
}
void Node::OnUnreachable(uint64_t id) {
  driver_->ReportUnreachable(id);
}
void Node::OnSnapshotSent(uint64_t id, bool ok) {
  driver_->ReportSnapshot(id, ok);
}
bool Node::IsIdRemoved(uint64_t id) {
  return cluster_.View()->removed.contains(id);
}
void Node::OnRemoved() {
  executors_.apply.Post([this] { Removed(); });
}

void Node::MakeSnapshot(raft::Message message, absl::AnyInvocable<void(absl::StatusOr<SnapshotFile>)> done) {
  executors_.bulk.Post([this, message = std::move(message), done = std::move(done)]() mutable {
    absl::StatusOr<MemberDisk::Image> image = disk_.WriteImage(*store_);
    if (!image.ok()) {
      done(image.status());
      return;
    }
    auto snapshot = std::make_shared<raft::Snapshot>();
    snapshot->meta = std::move(image->meta);
    message.snapshot = std::move(snapshot);
    done(SnapshotFile{std::move(message), image->path, image->size_bytes});
  });
}

void Node::DropSnapshot(const std::string& path) {
  disk_.RemoveTemporary(path);
}
std::string Node::IncomingSnapshotPath() {
  return disk_.IncomingPath();
}

void Node::AdoptSnapshot(raft::Message message, const std::string& path,
                         absl::AnyInvocable<void(absl::Status)> done) {
  if (message.snapshot == nullptr) {
    done(absl::InvalidArgumentError("a snapshot message without a snapshot"));
    return;
  }
  absl::Status kept = disk_.KeepSnapshot(path, message.snapshot->meta.index);
  if (kept.ok()) {
    KVD_LOG(kInfo, "received and saved database snapshot", {"remote-id", base::HexId(message.from)},
            {"incoming-snapshot-index", message.snapshot->meta.index});
    std::vector<raft::Message> messages;
    messages.push_back(std::move(message));
    driver_->Step(std::move(messages));
  }
  done(kept);
}

}  // namespace kvd::server
