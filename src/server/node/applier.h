// Applies committed entries to the state machine, on an executor of its own: everything that waits is applied
// as one batch, written once, published, and then answered.
//
// A follower where nobody waits for it applies at intervals (kInterval): fewer and larger batches, fewer
// wake-ups of the thread. Its serializable reads are that much older.
//
// Thread-safety: OnCommitted, OnSnapshot and OnStateChange come from the consensus executor; the rest runs on
// the apply executor. Ownership: borrows everything in Parts.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/executor.h"
#include "server/node/alarms.h"
#include "server/node/applied_waiters.h"
#include "server/node/apply_outcome.h"
#include "server/node/proposal_table.h"
#include "server/node/raft_driver.h"
#include "storage/errors.h"

namespace kvd::storage {
class Store;
}

namespace kvd::server {

class AuthStore;
class Cluster;
class Lessor;

class Applier final : public CommitSink {
 public:
  // What a member does besides when something takes effect. Called on the apply executor.
  struct Hooks {
    // A member joined, left or changed its URLs.
    std::function<void()> on_membership;
    // This member was removed.
    std::function<void()> on_removed;
    // Replaces the state machine by the received snapshot; gives false if that failed: the process stops, and
    // nothing more is applied.
    std::function<bool(const raft::Snapshot&)> install_snapshot;
    // The leader, role or term changed; called on the consensus executor.
    std::function<void()> on_state_change;
    // The first entry of a term took effect; before the waiters for its index are told.
    std::function<void(raft::Term)> on_applied_term;
    // A whole batch took effect; `bytes` is the size of its entries.
    std::function<void(raft::Index applied_index, size_t bytes)> on_applied;
    // Whether there are clients that are told of what takes effect. Any thread.
    std::function<bool()> is_watched;
  };
  struct Parts {
    uint64_t member_id = 0;
    base::Executor& executor;
    storage::Store& store;
    Lessor& lessor;
    Cluster& cluster;
    Alarms& alarms;
    AuthStore& auth;
    ProposalTable& proposals;
    AppliedWaiters& waiters;
  };

  Applier(Parts parts, Hooks hooks);
  ~Applier() override;
  // Before the driver starts.
  void SetDriver(RaftDriver* driver) { driver_ = driver; }

  void OnCommitted(std::vector<raft::Entry> entries) override;
  void OnSnapshot(std::shared_ptr<const raft::Snapshot> snapshot) override;
  void OnStateChange() override;
  bool AwaitsCommits() const override;

  // What is committed is applied without delay: somebody waits for it now. Any thread.
  void Hurry();
  // Any thread.
  raft::Index applied_index() const { return applied_index_.load(std::memory_order_acquire); }
  raft::Term applied_term() const { return applied_term_.load(std::memory_order_acquire); }
  // Where the membership last changed.
  raft::Index conf_changed_at() const { return conf_changed_at_.load(std::memory_order_acquire); }

 private:
  struct Item {
    std::vector<raft::Entry> entries;
    std::shared_ptr<const raft::Snapshot> snapshot;
  };
  class Batch;

  void Enqueue(Item item, size_t bytes);
  void ApplyQueued();
  void ApplyNow();
  void Rest();
  // False if it stopped at a configuration change, which goes on by itself.
  bool ApplyEntries(std::deque<raft::Entry>& entries);
  void ApplyEntry(const raft::Entry& entry, Batch& batch);
  void ApplyRequest(uint32_t field, std::string_view body, uint64_t id, Batch& batch);
  void ApplyPut(std::string_view body, uint64_t id, Batch& batch);
  void ApplyDelete(std::string_view body, uint64_t id, Batch& batch);
  void ApplyTxn(std::string_view body, uint64_t id, Batch& batch);
  void ApplyCompaction(std::string_view body, uint64_t id, Batch& batch);
  void ApplyLeaseGrant(std::string_view body, uint64_t id, Batch& batch);
  void ApplyLeaseRevoke(std::string_view body, uint64_t id, Batch& batch);
  void ApplyLeaseCheckpoint(std::string_view body, uint64_t id, Batch& batch);
  void ApplyAlarm(std::string_view body, uint64_t id, Batch& batch);
  void ApplyAuth(uint32_t field, std::string_view body, uint64_t id, Batch& batch);
  void ApplyMembership(uint32_t field, std::string_view body, uint64_t id, Batch& batch);
  void ApplyV2(std::string_view body, Batch& batch);
  void ApplyConfChange(const raft::Entry& entry);
  void FinishConfChange(const raft::Entry& entry, const raft::ConfChange& change, Error refused,
                        const raft::ConfState& state);
  void InstallSnapshot(const raft::Snapshot& snapshot);
  void Publish(raft::Index index, raft::Term term, size_t bytes);
  bool IsOurs(uint64_t request_id) const { return (request_id >> 48) == (parts_.member_id & 0xffff); }

  const Parts parts_;
  const Hooks hooks_;
  RaftDriver* driver_ = nullptr;

  std::mutex mutex_;
  std::vector<Item> queued_;  // guarded by mutex_
  size_t queued_bytes_ = 0;   // guarded by mutex_
  bool scheduled_ = false;    // guarded by mutex_
  bool resting_ = false;      // until a timer ends that; guarded by mutex_

  // Apply executor only.
  std::deque<raft::Entry> entries_;
  std::deque<Item> items_;
  bool changing_conf_ = false;
  bool failed_ = false;  // a snapshot could not be installed

  std::atomic<raft::Index> applied_index_{0};
  std::atomic<raft::Term> applied_term_{0};
  std::atomic<raft::Index> conf_changed_at_{0};
};

// What the store refuses, and what the lessor, the auth store and the cluster refuse (by etcd's text), as
// rows of the error table.
Error ToError(storage::StoreError error);
Error ToError(const absl::Status& status);

}  // namespace kvd::server
