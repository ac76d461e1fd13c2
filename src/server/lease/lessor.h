// The leases of one member: which there are, which keys hang on them, and, on the leader ("primary"), when
// they expire. Grants, revocations, checkpoints and attachments come from the applied log and are equal on
// every member; expiry is the leader's affair alone, and only ever leads to a LeaseRevoke that is proposed
// like any other request.
//
// What it persists is a LeaseRecord per lease (lease_record.h), which the applier writes in the batch of the
// entry; keys are found again from the store. So opening is: Recover every record, then Attach every leased
// key.
//
// Time: a lease lives on the member's monotonic clock. A new leader gives every lease its full TTL (or what
// its last checkpoint left) plus `extend`, so a lease never ends early because leadership moved; it may end
// late.
//
// Thread-safety: every method may be called from any thread. Grant, Revoke, Checkpoint, Attach and Detach are
// called in log order by the applier. Callbacks of Options run on `executor`; a Renew callback runs on the
// caller's thread, or, if it had to wait, on the thread of Revoke, Checkpoint, Clear, Demote or the
// destructor. No lock is held while a callback runs.
//
// Ownership: `executor` must outlive the lessor or have been stopped.
// Units: TTLs are seconds, as in the API.
// Errors: absl codes equal gRPC's, texts are etcd's (see the functions below).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "server/lease/lease_record.h"

namespace kvd::base {
class Executor;
}
namespace kvd::storage {
class LeaseBinder;
}  // namespace kvd::storage

namespace kvd::server {

inline constexpr int64_t kMaxLeaseTtlSeconds = 9'000'000'000;

absl::Status LeaseNotFoundError();     // NotFound, "etcdserver: requested lease not found"
absl::Status LeaseExistsError();       // FailedPrecondition, "etcdserver: lease already exists"
absl::Status LeaseTtlTooLargeError();  // OutOfRange, "etcdserver: too large lease TTL"
// FailedPrecondition, "etcdserver: not leader". Inside the member only: the caller forwards to the leader.
absl::Status LeaseNotPrimaryError();

// The least TTL that a member grants: ceil(1.5 election timeouts).
int64_t MinLeaseTtlSeconds(base::Nanos election_timeout);

struct LeaseCheckpoint {
  int64_t id = 0;
  int64_t remaining_ttl_s = 0;
};

class Lessor {
 public:
  struct Options {
    int64_t min_ttl_s = 2;
    base::Nanos scan_interval = std::chrono::milliseconds(500);
    // At most this many expired leases are handed out at once; more when these are done (ExpiredDone).
    int max_expired_at_once = 2000;
    // What a cluster is taken to revoke: after a change of leaders leases that would expire together are
    // spread over at least the time that takes.
    int revokes_per_second = 20'000;
    // A lease that was handed out and is still there is handed out again after this long.
    base::Nanos revoke_retry_interval = std::chrono::seconds(3);
    // How often the leader records what is left of a lease that lives longer than this. Zero: never.
    base::Nanos checkpoint_interval{0};
    int max_checkpoints_per_scan = 1000;
    // Proposes a LeaseRevoke for each, some at a time, and calls ExpiredDone when all are answered. Only
    // called on the primary.
    absl::AnyInvocable<void(std::vector<int64_t> ids)> on_expired = nullptr;
    // Proposes one LeaseCheckpoint request. Only called on the primary, and only if checkpoint_interval > 0.
    absl::AnyInvocable<void(std::vector<LeaseCheckpoint>)> on_checkpoint = nullptr;
  };
  // ok: the TTL now in force, in seconds.
  using RenewCallback = absl::AnyInvocable<void(absl::StatusOr<int64_t> ttl_s)>;

  struct Info {
    int64_t id = 0;
    int64_t granted_ttl_s = 0;
    // Whole seconds, never below 0. Meaningful on the primary only; elsewhere the granted TTL.
    int64_t remaining_ttl_s = 0;
    std::vector<std::string> keys = {};  // sorted; only if asked for
  };

  Lessor(Options options, base::Executor& executor);
  ~Lessor();
  Lessor(const Lessor&) = delete;
  Lessor& operator=(const Lessor&) = delete;

  // What the store calls while it applies.
  storage::LeaseBinder& binder();

  // --- From the applied log ---

  // The TTL is raised to min_ttl_s; the record is what to persist. NotFound if id is 0, FailedPrecondition if
  // it exists, OutOfRange if the TTL is too large.
  absl::StatusOr<LeaseRecord> Grant(int64_t id, int64_t ttl_s);
  // Forgets the lease and returns its keys in order; the applier deletes them, and the record, in one
  // revision. NotFound.
  absl::StatusOr<std::vector<std::string>> Revoke(int64_t id);
  // Records what is left of a lease (0 clears it). The record is what to persist. NotFound.
  absl::StatusOr<LeaseRecord> Checkpoint(int64_t id, int64_t remaining_ttl_s);
  // The key now hangs on this lease and on no other. A lease that is not there is ignored. O(1), as is
  // Detach.
  void Attach(int64_t id, std::string_view key);
  void Detach(std::string_view key);

  // --- Opening ---

  // Adds a persisted lease; its TTL is raised to min_ttl_s. Replaces one of the same ID.
  void Recover(const LeaseRecord& record);
  // Forgets everything, before recovering from another image (a snapshot of a peer). Waiting renewals fail
  // with LeaseNotPrimaryError. The lessor is not primary afterwards.
  void Clear();

  // --- Leadership ---

  // This member leads: expiry starts, each lease getting its remaining time plus `extend` (an election
  // timeout).
  void Promote(base::Nanos extend);
  // It leads no more: nothing expires here, waiting renewals fail with LeaseNotPrimaryError.
  void Demote();
  bool IsPrimary() const;
  // The leases that were handed out last are revoked, or will not be: whatever else is due follows.
  void ExpiredDone();

  // --- Requests ---

  // Sets the lease back to its full TTL. LeaseNotPrimaryError on a follower; NotFound if it is gone. A lease
  // that has expired but is not yet revoked is not revived: `done` is called once it is revoked (NotFound) or
  // this member is demoted. If a checkpoint had shortened the lease, or is about to, `done` waits until the
  // log has cleared it. The caller makes sure, before, that its leadership and applied index are fresh, and
  // bounds the wait.
  void Renew(int64_t id, RenewCallback done);
  // Renewals whose callback is still to come.
  size_t waiting_renewals() const;

  bool Exists(int64_t id) const;
  absl::StatusOr<Info> TimeToLive(int64_t id, bool with_keys) const;  // NotFound
  // Ordered by expiry, then ID.
  std::vector<int64_t> Leases() const;
  // The keys attached to it, in order; empty if the lease is not there.
  std::vector<std::string> KeysOf(int64_t id) const;
  // An ID for a LeaseGrant that left the choice to the server is drawn by the caller; this tells whether it
  // is free.
  bool IsFree(int64_t id) const { return id != 0 && !Exists(id); }
  size_t size() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace kvd::server
