// A member of the cluster without its network front: the log, consensus, the state machine, leases, watches
// and membership, joined. This is the only place where those rooms meet.
//
// A request goes Propose -> (log, quorum) -> applied -> callback. A linearizable read goes LinearizableRead
// -> callback
// -> read the store on the caller's own thread.
//
// Thread-safety: everything but Load, Start and Stop may be called from any thread. Callbacks come on one of
// the node's executors and must not block. Ownership: the node owns what it opened; it borrows executors,
// file system and network, which outlive it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "base/executor.h"
#include "server/auth/auth_store.h"
#include "server/lease/lessor.h"
#include "server/membership/cluster.h"
#include "server/node/alarms.h"
#include "server/node/applied_waiters.h"
#include "server/node/applier.h"
#include "server/node/log_writer.h"
#include "server/node/member_disk.h"
#include "server/node/peer_network.h"
#include "server/node/proposal_table.h"
#include "server/node/raft_driver.h"
#include "server/node/request_id.h"
#include "server/node/wire_codec.h"
#include "server/watch/watch_hub.h"

namespace kvd::raft {
class TraceSink;
}  // namespace kvd::raft

namespace kvd::server {

// Where a node's work runs. Several may be one and the same, as in a simulation.
struct NodeExecutors {
  base::Executor& consensus;
  base::Executor& log;
  base::Executor& apply;
  base::Executor& watch;
  base::Executor& background;
  // What reads or writes the whole store: it takes long, and nothing else may wait for it.
  base::Executor& bulk;
};

// Sizes that suit every process; a simulated cluster draws others, so that what is rare happens often.
struct NodeLimits {
  uint64_t snapshot_point_every = 500;   // entries applied between two points that a snapshot may be sent at
  uint64_t trim_every = 1000;            // entries applied between two trims of the log in memory
  uint64_t max_message_bytes = 1 << 20;  // of entries in one append
  size_t max_inflight_messages = 512;    // appends on the way to one follower
  uint64_t max_uncommitted_bytes = 64 << 20;  // beyond it the leader refuses proposals
  uint64_t max_apply_bytes = 64 << 20;        // committed and not yet applied
  base::Nanos lease_checkpoint_interval = std::chrono::minutes(5);
  size_t watch_queue_bytes = 4 << 20;     // of one stream, before its watchers fall behind
  size_t watch_slice_events = 1000;       // read from history at a time
  size_t watch_backlog_bytes = 64 << 20;  // of published events that wait for delivery
};

struct NodeOptions {
  std::string name;
  std::vector<std::string> client_urls;  // published to the cluster
  base::Nanos heartbeat = std::chrono::milliseconds(100);
  int election_ticks = 10;
  bool advance_election_ticks = true;
  uint64_t snapshot_count = 10'000;
  uint64_t snapshot_catchup_entries = 5'000;
  uint64_t max_request_bytes = 1'572'864;
  int64_t quota_bytes = 0;  // <= 0: none
  // Whether the NOSPACE alarm of this member goes by itself once there is room; otherwise it is disarmed by
  // hand.
  bool no_space_clears_itself = true;
  base::Nanos watch_progress_interval = std::chrono::minutes(10);
  bool lease_checkpoints = false;
  bool strict_reconfig_check = true;
  int64_t max_learners = 1;
  bool auto_promote_learners = false;  // as soon as they hold what the leader holds
  uint64_t seed = 0;                   // of the election jitter
  raft::TraceSink* trace = nullptr;    // sees what the core does; borrowed
  NodeLimits limits = {};
};

// The body of GET /version.
std::string VersionJson(const ClusterView& view);

class Node final : public PeerReceiver, public HeaderSource {
 public:
  // Told once each, on one of the node's executors.
  struct Events {
    std::function<void()> on_ready;  // published and able to serve
    // The disk of the log, or of a received snapshot, has failed for good: the process stops at once, and
    // what the node does until then reaches nobody. Without a function the node aborts the process itself.
    std::function<void(const absl::Status&)> on_disk_failure = nullptr;
    // No longer a member, and the others have had time to hear of it: the process stops.
    std::function<void()> on_removed;
    // This member cannot go on: the process stops with this text. May be empty.
    std::function<void(std::string why)> on_failed = nullptr;
  };

  // `members` are those that the cluster is known to have now, for reaching them before the log tells.
  Node(NodeOptions options, NodeExecutors executors, MemberDisk& disk, MemberDisk::State state,
       std::vector<Member> members, PeerNetwork& network, Events events);
  ~Node() override;

  // Loads leases, alarms and members from the store. Before Start. Errors: kDataLoss.
  absl::Status Load();
  void Start();
  // Hands leadership over if this member leads and somebody can take it; waits at most `limit`. Blocks.
  void HandOver(base::Nanos limit);
  // Fails everything that waits, and stops driving. The caller then stops the executors, and only then
  // destroys this.
  void Stop();

  // --- Requests. ---
  uint64_t NextId() { return ids_.Next(); }
  // Puts an encoded request into the log. Errors besides those of applying it: kRequestTooLarge,
  // kTooManyRequests, kStopped and the kTimeout family.
  void Propose(RequestField field, std::string_view request, ApplyCallback done);
  // Errors: kTimeout, kStopped.
  void LinearizableRead(AppliedWaiters::Callback done);
  // Errors: kLeaseNotFound, kTimeout, kNoLeader, kStopped.
  void RenewLease(int64_t id, absl::AnyInvocable<void(Error, int64_t ttl_s)> done);
  void LeaseTimeToLive(int64_t id, bool keys, absl::AnyInvocable<void(Error, const Lessor::Info&)> done);
  // Errors: kNotLeader, kBadLeaderTransferee, kTimeoutLeaderTransfer.
  void MoveLeader(uint64_t target, absl::AnyInvocable<void(Error)> done);

  // --- Membership. `members` is the whole cluster after the change. ---
  // A change that cannot be proposed now (another one is under way, there is no leader) waits.
  using MembersCallback = absl::AnyInvocable<void(Error, std::vector<Member> members)>;
  // `why` says more of an error: how far the learner is.
  using PromoteCallback = absl::AnyInvocable<void(Error, std::string why, std::vector<Member> members)>;
  void AddMember(const Member& member, MembersCallback done);
  // A leader that is to go hands over first.
  void RemoveMember(uint64_t id, MembersCallback done);
  void UpdateMember(uint64_t id, std::vector<std::string> peer_urls, MembersCallback done);
  void PromoteMember(uint64_t id, PromoteCallback done);

  // --- Parts. ---
  storage::Store& store() { return *store_; }
  const storage::Store& store() const { return *store_; }
  Lessor& lessor() { return lessor_; }
  WatchHub& watch_hub() { return *hub_; }
  const Cluster& cluster() const { return cluster_; }
  const Alarms& alarms() const { return alarms_; }
  const AuthStore& auth() const { return auth_; }
  const RaftDriver& driver() const { return *driver_; }
  const Applier& applier() const { return *applier_; }
  const NodeOptions& options() const { return options_; }
  base::Executor& background() { return executors_.background; }
  base::Executor& bulk() { return executors_.bulk; }

  // --- Status. ---
  uint64_t cluster_id() const override { return cluster_id_; }
  uint64_t member_id() const override { return member_id_; }
  uint64_t term() const override { return driver_->term(); }
  bool has_leader() const { return driver_->leader() != raft::kNoNode; }
  bool is_leader() const { return driver_->is_leader(); }
  bool is_learner() const { return is_learner_.load(std::memory_order_acquire); }
  uint64_t leader_changes() const { return leader_changes_.load(std::memory_order_relaxed); }
  size_t proposals_pending() const { return proposals_.size(); }
  // How long the log has been owing a sync, and whether that is longer than an election takes.
  base::Nanos log_stalled_for() const { return writer_->stalled_for(); }
  bool log_stalled() const { return log_stalled_for() > options_.heartbeat * options_.election_ticks; }
  bool ready() const { return ready_.load(std::memory_order_acquire); }
  // The database size, and whether a request of `cost` bytes would pass the quota or this member's disk is
  // nearly full; sampled a few times a second.
  uint64_t db_size() const { return db_size_.load(std::memory_order_acquire); }
  bool disk_nearly_full() const { return disk_nearly_full_.load(std::memory_order_acquire); }
  bool WouldExceedQuota(uint64_t cost) const;
  // Proposes the NOSPACE alarm of this member if it is the quota that is exceeded; at most once a second.
  // Another member's disk may have room, so a full one refuses what it is asked itself and alarms nobody.
  void RaiseNoSpace();
  ResponseHeaderFields Header(int64_t revision) const { return {cluster_id_, member_id_, revision, term()}; }

  // --- PeerReceiver. ---
  void OnMessages(std::vector<raft::Message> messages) override;
  void OnUnreachable(uint64_t id) override;
  void OnSnapshotSent(uint64_t id, bool ok) override;
  void OnRemoved() override;
  void OnClusterMismatch(uint64_t by) override;
  bool IsIdRemoved(uint64_t id) override;
  void MakeSnapshot(raft::Message message,
                    absl::AnyInvocable<void(absl::StatusOr<SnapshotFile>)> done) override;
  void DropSnapshot(const std::string& path) override;
  std::string IncomingSnapshotPath() override;
  void AdoptSnapshot(raft::Message message, const std::string& path,
                     absl::AnyInvocable<void(absl::Status)> done) override;
  void OnRequest(const PeerRequest& request, Respond respond) override;

 private:
  struct MemberVersions;

  base::Nanos RequestTimeout() const;
  base::Nanos Now() const { return executors_.consensus.clock().Monotonic(); }
  Error TimeoutError() const;
  bool QuorumActive() const;
  size_t ConnectedVoters(const ClusterView& view) const;
  uint64_t Successor(const ClusterView& view, uint64_t leader) const;

  void OnMembership();
  void SyncPeers();
  void OnStateChange();
  void TakeLeases(raft::Term applied);
  void OnApplied(raft::Index index, size_t bytes);
  bool InstallSnapshot(const raft::Snapshot& snapshot);
  void OnDiskFailure(const absl::Status& status);
  void SetSnapshotPoint();
  void TakeCheckpoint();
  void Housekeep();
  void WatchQuota();
  void WatchDisk();
  void FlushForRoom();  // and the log can be cut behind it
  void Reclaim();
  void ProposeNoSpace(bool raise);
  void Publish();
  void BecomeReady();
  void Removed();

  void MonitorVersion();
  void DecideVersion(const MemberVersions& versions);

  // What the member itself has to say: not refused while it is behind, or it would never catch up with its
  // duties. For `only_in` see RaftDriver::Propose.
  void ProposeOwn(RequestField field, std::string_view request, std::optional<raft::Term> only_in,
                  ApplyCallback done);
  void RevokeExpired(std::vector<int64_t> ids);
  void ProposeCheckpoints(std::vector<LeaseCheckpoint> checkpoints);
  void AskLeader(PeerRequest request, base::Nanos deadline,
                 absl::AnyInvocable<void(absl::StatusOr<PeerAnswer>)> done);
  void RenewHere(int64_t id, Lessor::RenewCallback done);
  void ServeLeaseRenew(const PeerRequest& request, Respond respond);
  void ServeLeaseTimeToLive(const PeerRequest& request, Respond respond);
  void ServeHashKv(const PeerRequest& request, Respond respond);
  void ServePromote(const PeerRequest& request, Respond respond);

  void ProposeChange(raft::ConfChangeType type, uint64_t id, const ConfChangeContext& context,
                     MembersCallback done);
  void TryPropose(raft::ConfChange change, base::Nanos deadline);
  void RemoveLeader(uint64_t id, base::Nanos deadline, MembersCallback done);
  Error CheckAdd(const Member& member) const;
  Error CheckRemove(uint64_t id) const;
  void PromoteHere(uint64_t id, PromoteCallback done);
  void PromoteLearners();
  void AwaitTransfer(uint64_t target, base::Nanos deadline, absl::AnyInvocable<void(Error)> done);

  const NodeOptions options_;
  const NodeExecutors executors_;
  MemberDisk& disk_;
  PeerNetwork& network_;
  const Events events_;
  const uint64_t member_id_;
  const uint64_t cluster_id_;

  std::unique_ptr<wal::Wal> wal_;
  std::unique_ptr<storage::Store> store_;
  RequestIdGenerator ids_;
  ProposalTable proposals_;
  AppliedWaiters waiters_;
  Alarms alarms_;
  AuthStore auth_;
  Cluster cluster_;
  Lessor lessor_;
  std::unique_ptr<WatchHub> hub_;
  std::unique_ptr<LogWriter> writer_;
  std::unique_ptr<Applier> applier_;
  std::unique_ptr<RaftDriver> driver_;

  // The term in which this member took charge of the leases.
  std::atomic<raft::Term> lease_term_{0};

  // Apply executor only.
  std::map<uint64_t, std::vector<std::string>> peers_;
  raft::ConfState conf_state_;
  raft::Index snapshot_point_ = 0;
  size_t bytes_since_point_ = 0;
  raft::Index checkpoint_at_ = 0;

  raft::Term leases_from_ = 0;  // leads, and takes charge of the leases when an entry of this term is applied

  // Consensus executor only.
  raft::NodeId last_leader_ = raft::kNoNode;
  raft::Term last_led_ = 0;  // the term in which it leads; 0 if it does not

  // Background executor only.
  raft::Index checkpointed_ = 0;
  base::Nanos next_version_check_{0};
  base::Nanos next_promotion_{0};
  std::set<uint64_t> other_cluster_;  // members that say they belong to another one
  bool publishing_ = false;
  std::optional<uint64_t> reclaimed_sweeps_;  // Store::sweeps() then
  base::Nanos next_reclaim_{0};
  base::Nanos next_garbage_{0};

  std::atomic<bool> stopped_{false};
  std::atomic<bool> ready_{false};
  std::atomic<bool> removed_{false};
  std::atomic<bool> is_learner_{false};
  std::atomic<uint64_t> db_size_{0};
  std::atomic<bool> disk_nearly_full_{false};
  std::atomic<int64_t> no_space_proposed_{0};
  std::atomic<int64_t> leader_elected_{0};
  std::atomic<uint64_t> leader_changes_{0};
};

}  // namespace kvd::server
