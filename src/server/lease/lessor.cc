#include "server/lease/lessor.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/node_hash_map.h"
#include "base/executor.h"
#include "base/mutant.h"
#include "base/sites.h"
#include "server/lease/deadline_heap.h"
#include "storage/event.h"

namespace kvd::server {
namespace {

using base::Nanos;

constexpr Nanos kForever = Nanos::max();
// A deadline further off than this is as good as never: kMaxLeaseTtlSeconds fits with centuries to spare in
// seconds but not in nanoseconds (292 years).
constexpr int64_t kMaxSecondsAhead = int64_t{100} * 365 * 24 * 3600;

Nanos Seconds(int64_t s) {
  return std::chrono::seconds(std::min(s, kMaxSecondsAhead));
}

int64_t CeilSeconds(Nanos d) {
  const int64_t s = std::chrono::duration_cast<std::chrono::seconds>(d).count();
  return std::chrono::seconds(s) < d ? s + 1 : s;
}

// Which lease a key hangs on, and where in that lease's list of keys.
struct Attachment {
  int64_t lease;
  size_t position;
};
struct KeyHash {
  using is_transparent = void;
  size_t operator()(std::string_view key) const { return std::hash<std::string_view>()(key); }
};
// Addresses of entries stay.
using AttachedKeys = absl::node_hash_map<std::string, Attachment, KeyHash, std::equal_to<>>;
using AttachedKey = AttachedKeys::value_type;

std::vector<std::string> Sorted(const std::vector<AttachedKey*>& keys) {
  std::vector<std::string> out;
  out.reserve(keys.size());
  for (const AttachedKey* key : keys) out.push_back(key->first);
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

absl::Status LeaseNotFoundError() {
  return absl::NotFoundError("etcdserver: requested lease not found");
}
absl::Status LeaseExistsError() {
  return absl::FailedPreconditionError("etcdserver: lease already exists");
}
absl::Status LeaseTtlTooLargeError() {
  return absl::OutOfRangeError("etcdserver: too large lease TTL");
}
absl::Status LeaseNotPrimaryError() {
  return absl::FailedPreconditionError("etcdserver: not leader");
}

int64_t MinLeaseTtlSeconds(Nanos election_timeout) {
  return CeilSeconds(election_timeout * 3 / 2);
}

struct Lessor::Impl : std::enable_shared_from_this<Impl> {
  struct Lease {
    int64_t ttl_s = 0;
    int64_t remaining_ttl_s = 0;
    // A checkpoint was handed out and may still be on its way through the log.
    bool checkpoint_under_way = false;
    Nanos expiry = kForever;
    // The deadlines of this lease's one valid entry in each heap.
    Nanos expiry_entry = kForever;
    Nanos checkpoint_entry = kForever;
    std::vector<AttachedKey*> keys;
  };
  struct Waiter {
    RenewCallback done;
    bool for_checkpoint;  // waits until the old checkpoint is cleared, not until the lease is revoked
  };
  using Waiters = std::vector<Waiter>;

  class Binder;

  Impl(Options o, base::Executor& e) : options(std::move(o)), executor(e) {}

  Nanos Now() const { return executor.clock().Monotonic(); }

  // Starts the clock of a lease that this primary has just learnt of.
  void Schedule(int64_t id, Lease& lease, Nanos now) {
    if (!primary) return;
    lease.expiry = now + Seconds(lease.remaining_ttl_s > 0 ? lease.remaining_ttl_s : lease.ttl_s);
    PushExpiry(id, lease, lease.expiry);
    PushCheckpoint(id, lease, now);
  }
  void PushExpiry(int64_t id, Lease& lease, Nanos at) {
    lease.expiry_entry = at;
    expiries.Push(at, id);
  }
  void PushCheckpoint(int64_t id, Lease& lease, Nanos now) {
    lease.checkpoint_entry = kForever;
    if (options.checkpoint_interval <= Nanos(0) || lease.expiry - now <= options.checkpoint_interval) return;
    lease.checkpoint_entry = now + options.checkpoint_interval;
    checkpoints.Push(lease.checkpoint_entry, id);
  }

  // Leases that come and go leave dead entries behind; without this, short-lived leases of a long TTL would
  // pile up.
  void DropDeadEntries();
  // Moves deadlines that fall together apart, always to a later time, so that revocations keep up with them.
  void Spread();

  std::vector<int64_t> TakeExpired(Nanos now);
  void HandOutMore();
  std::vector<LeaseCheckpoint> TakeCheckpoints(Nanos now);
  void Arm(uint64_t for_epoch);
  void Scan(uint64_t for_epoch);

  // Takes the key off its lease's list, the last one filling the gap.
  void Unlist(const AttachedKey& key) {
    std::vector<AttachedKey*>& keys = leases.find(key.second.lease)->second.keys;
    keys[key.second.position] = keys.back();
    keys[key.second.position]->second.position = key.second.position;
    keys.pop_back();
  }

  // Proposes, from the executor, that the checkpoint be forgotten.
  void ClearCheckpointSoon(int64_t id) {
    executor.Post([weak = weak_from_this(), id] {
      auto self = weak.lock();
      if (self && self->StillPrimary()) self->options.on_checkpoint({{id, 0}});
    });
  }
  bool StillPrimary() {
    std::lock_guard lock(mu);
    return primary && !stopped;
  }

  static void Complete(Waiters waiters, const absl::StatusOr<int64_t>& result) {
    for (Waiter& w : waiters) w.done(result);
  }
  Waiters TakeAllWaiters() {
    Waiters all;
    for (auto& [id, list] : waiting) {
      std::move(list.begin(), list.end(), std::back_inserter(all));
    }
    waiting.clear();
    return all;
  }

  Options options;  // the two callbacks are called on `executor` only
  base::Executor& executor;
  std::unique_ptr<Binder> binder;

  // Guards what follows; held by the caller of every function above but Arm, Scan, HandOutMore, StillPrimary
  // and Complete.
  mutable std::mutex mu;
  bool primary = false;
  bool stopped = false;
  // Moves on with each change of leadership, so that a scan of an earlier one ends.
  uint64_t epoch = 0;
  // Expired leases are under way: no others are handed out until they are done, or given up as lost.
  bool handed_out = false;
  Nanos handed_out_at{0};
  absl::flat_hash_map<int64_t, Lease> leases;
  AttachedKeys attached;
  // Ordered: they are answered in the same order in every run of a seed.
  std::map<int64_t, Waiters> waiting;
  DeadlineHeap expiries;
  DeadlineHeap checkpoints;
};

void Lessor::Impl::DropDeadEntries() {
  constexpr size_t kSlack = 64;
  if (expiries.size() > 2 * leases.size() + kSlack) {
    std::vector<DeadlineHeap::Entry> live;
    live.reserve(leases.size());
    for (const auto& [id, lease] : leases) live.push_back({lease.expiry_entry, id});
    expiries.Replace(std::move(live));
  }
  if (checkpoints.size() > 2 * leases.size() + kSlack) {
    std::vector<DeadlineHeap::Entry> live;
    for (const auto& [id, lease] : leases) {
      if (lease.checkpoint_entry != kForever) live.push_back({lease.checkpoint_entry, id});
    }
    checkpoints.Replace(std::move(live));
  }
}

void Lessor::Impl::Spread() {
  std::vector<DeadlineHeap::Entry> order;
  order.reserve(leases.size());
  for (const auto& [id, lease] : leases) order.push_back({lease.expiry, id});
  const auto revokes_per_second = static_cast<size_t>(options.revokes_per_second);
  if (order.size() >= revokes_per_second && revokes_per_second > 1) {
    std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return b > a; });
    // Three quarters of what can be revoked leaves room for leases that expire in the meantime.
    const Nanos gap = Nanos(std::chrono::seconds(1)) / static_cast<int64_t>(revokes_per_second * 3 / 4);
    Nanos pace = order.front().at;
    for (DeadlineHeap::Entry& e : order) {
      e.at = pace = std::max(e.at, pace);
      leases.find(e.id)->second.expiry = pace;
      pace += gap;
    }
  }
  for (const DeadlineHeap::Entry& e : order) leases.find(e.id)->second.expiry_entry = e.at;
  expiries.Replace(std::move(order));
}

std::vector<int64_t> Lessor::Impl::TakeExpired(Nanos now) {
  std::vector<int64_t> expired;
  DeadlineHeap::Entry entry;
  // What was handed out before is still under way, unless it got lost with a leader.
  if (handed_out && now < handed_out_at + options.revoke_retry_interval) return expired;
  if (KVD_BUGGIFY("lease/scan late")) return expired;
  const int most = KVD_BUGGIFY("lease/expire one") ? 1 : options.max_expired_at_once;
  while (static_cast<int>(expired.size()) < most && expiries.PopDue(now, &entry)) {
    const auto it = leases.find(entry.id);
    if (it == leases.end() || it->second.expiry_entry != entry.at) continue;
    if (it->second.expiry > now) {  // renewed since
      PushExpiry(entry.id, it->second, it->second.expiry);
      continue;
    }
    KVD_PROBE("lease/expired");
    expired.push_back(entry.id);
    PushExpiry(entry.id, it->second, now + options.revoke_retry_interval);
  }
  handed_out = !expired.empty();
  handed_out_at = now;
  return expired;
}

void Lessor::Impl::HandOutMore() {
  std::vector<int64_t> expired;
  {
    std::lock_guard lock(mu);
    handed_out = false;
    if (stopped || !primary) return;
    expired = TakeExpired(Now());
  }
  if (!expired.empty() && options.on_expired) options.on_expired(std::move(expired));
}

std::vector<LeaseCheckpoint> Lessor::Impl::TakeCheckpoints(Nanos now) {
  std::vector<LeaseCheckpoint> due;
  DeadlineHeap::Entry entry;
  while (static_cast<int>(due.size()) < options.max_checkpoints_per_scan && checkpoints.PopDue(now, &entry)) {
    const auto it = leases.find(entry.id);
    if (it == leases.end() || it->second.checkpoint_entry != entry.at) continue;
    Lease& lease = it->second;
    if (lease.expiry > now) {
      const int64_t left = CeilSeconds(lease.expiry - now);
      if (left < lease.ttl_s) {
        lease.checkpoint_under_way = true;
        due.push_back({entry.id, left});
      }
    }
    PushCheckpoint(entry.id, lease, now);
  }
  return due;
}

void Lessor::Impl::Arm(uint64_t for_epoch) {
  executor.PostAfter(options.scan_interval, [weak = weak_from_this(), for_epoch] {
    if (auto self = weak.lock()) self->Scan(for_epoch);
  });
}

void Lessor::Impl::Scan(uint64_t for_epoch) {
  std::vector<int64_t> expired;
  std::vector<LeaseCheckpoint> due;
  {
    std::lock_guard lock(mu);
    if (stopped || !primary || epoch != for_epoch) return;
    const Nanos now = Now();
    expired = TakeExpired(now);
    due = TakeCheckpoints(now);
  }
  if (!expired.empty() && options.on_expired) options.on_expired(std::move(expired));
  if (!due.empty() && options.on_checkpoint) options.on_checkpoint(std::move(due));
  Arm(for_epoch);
}

class Lessor::Impl::Binder final : public storage::LeaseBinder {
 public:
  explicit Binder(Lessor& lessor) : lessor_(lessor) {}
  bool Exists(int64_t lease) override { return lessor_.Exists(lease); }
  void Attach(int64_t lease, std::string_view key) override { lessor_.Attach(lease, key); }
  void Detach(std::string_view key) override { lessor_.Detach(key); }

 private:
  Lessor& lessor_;
};

Lessor::Lessor(Options options, base::Executor& executor)
    : impl_(std::make_shared<Impl>(std::move(options), executor)) {
  impl_->binder = std::make_unique<Impl::Binder>(*this);
}

Lessor::~Lessor() {
  Impl::Waiters waiters;
  {
    std::lock_guard lock(impl_->mu);
    impl_->stopped = true;
    waiters = impl_->TakeAllWaiters();
  }
  Impl::Complete(std::move(waiters), LeaseNotPrimaryError());
}

storage::LeaseBinder& Lessor::binder() {
  return *impl_->binder;
}

absl::StatusOr<LeaseRecord> Lessor::Grant(int64_t id, int64_t ttl_s) {
  if (id == 0) return LeaseNotFoundError();
  if (ttl_s > kMaxLeaseTtlSeconds) return LeaseTtlTooLargeError();
  std::lock_guard lock(impl_->mu);
  const auto [it, added] = impl_->leases.try_emplace(id);
  if (!added) return LeaseExistsError();
  it->second.ttl_s = std::max(ttl_s, impl_->options.min_ttl_s);
  impl_->Schedule(id, it->second, impl_->Now());
  return LeaseRecord{.id = id, .ttl_s = it->second.ttl_s};
}

absl::StatusOr<std::vector<std::string>> Lessor::Revoke(int64_t id) {
  std::vector<std::string> keys;
  Impl::Waiters waiters;
  {
    std::lock_guard lock(impl_->mu);
    const auto it = impl_->leases.find(id);
    if (it == impl_->leases.end()) return LeaseNotFoundError();
    keys = Sorted(it->second.keys);
    for (const AttachedKey* key : it->second.keys) impl_->attached.erase(impl_->attached.find(key->first));
    impl_->leases.erase(it);
    if (auto node = impl_->waiting.extract(id)) {
      KVD_PROBE("lease/revocation answers renewals");
      waiters = std::move(node.mapped());
    }
    impl_->DropDeadEntries();
  }
  Impl::Complete(std::move(waiters), LeaseNotFoundError());
  return keys;
}

absl::StatusOr<LeaseRecord> Lessor::Checkpoint(int64_t id, int64_t remaining_ttl_s) {
  Impl::Waiters ready;
  LeaseRecord record;
  {
    std::lock_guard lock(impl_->mu);
    const auto it = impl_->leases.find(id);
    if (it == impl_->leases.end()) return LeaseNotFoundError();
    it->second.remaining_ttl_s = remaining_ttl_s;
    // What clears a checkpoint is proposed after it.
    if (remaining_ttl_s == 0) it->second.checkpoint_under_way = false;
    record = {.id = id, .ttl_s = it->second.ttl_s, .remaining_ttl_s = remaining_ttl_s};
    const auto waiting = impl_->waiting.find(id);
    if (remaining_ttl_s == 0 && waiting != impl_->waiting.end()) {
      Impl::Waiters& all = waiting->second;
      const auto first =
          std::stable_partition(all.begin(), all.end(), [](const auto& w) { return !w.for_checkpoint; });
      std::move(first, all.end(), std::back_inserter(ready));
      all.erase(first, all.end());
      if (all.empty()) impl_->waiting.erase(waiting);
    }
  }
  Impl::Complete(std::move(ready), record.ttl_s);
  return record;
}

void Lessor::Attach(int64_t id, std::string_view key) {
  std::lock_guard lock(impl_->mu);
  const auto it = impl_->leases.find(id);
  if (it == impl_->leases.end()) return;
  const auto [entry, added] = impl_->attached.try_emplace(key, Attachment{id, 0});
  if (!added) {
    if (entry->second.lease == id) return;
    impl_->Unlist(*entry);
  }
  std::vector<AttachedKey*>& keys = it->second.keys;
  entry->second = {id, keys.size()};
  keys.push_back(&*entry);
}

void Lessor::Detach(std::string_view key) {
  std::lock_guard lock(impl_->mu);
  const auto it = impl_->attached.find(key);
  if (it == impl_->attached.end()) return;
  impl_->Unlist(*it);
  impl_->attached.erase(it);
}

void Lessor::Recover(const LeaseRecord& record) {
  std::lock_guard lock(impl_->mu);
  Impl::Lease& lease = impl_->leases[record.id];
  lease.ttl_s = std::max(record.ttl_s, impl_->options.min_ttl_s);
  lease.remaining_ttl_s = record.remaining_ttl_s;
  impl_->Schedule(record.id, lease, impl_->Now());
}

void Lessor::Clear() {
  Impl::Waiters waiters;
  {
    std::lock_guard lock(impl_->mu);
    impl_->primary = false;
    ++impl_->epoch;
    impl_->leases.clear();
    impl_->attached.clear();
    impl_->expiries.Clear();
    impl_->checkpoints.Clear();
    waiters = impl_->TakeAllWaiters();
  }
  Impl::Complete(std::move(waiters), LeaseNotPrimaryError());
}

void Lessor::Promote(Nanos extend) {
  uint64_t epoch;
  {
    std::lock_guard lock(impl_->mu);
    const Nanos now = impl_->Now();
    impl_->primary = true;
    impl_->handed_out = false;
    epoch = ++impl_->epoch;
    impl_->checkpoints.Clear();
    for (auto& [id, lease] : impl_->leases) {
      lease.expiry = now + extend + Seconds(lease.remaining_ttl_s > 0 ? lease.remaining_ttl_s : lease.ttl_s);
      if (KVD_MUTANT("lease_early_on_new_leader")) lease.expiry = now + extend;
      impl_->PushCheckpoint(id, lease, now);
    }
    impl_->Spread();
  }
  impl_->Arm(epoch);
}

void Lessor::Demote() {
  Impl::Waiters waiters;
  {
    std::lock_guard lock(impl_->mu);
    impl_->primary = false;
    ++impl_->epoch;
    for (auto& [id, lease] : impl_->leases) {
      lease.expiry = lease.expiry_entry = lease.checkpoint_entry = kForever;
    }
    impl_->expiries.Clear();
    impl_->checkpoints.Clear();
    waiters = impl_->TakeAllWaiters();
  }
  Impl::Complete(std::move(waiters), LeaseNotPrimaryError());
}

void Lessor::ExpiredDone() {
  impl_->executor.Post([weak = impl_->weak_from_this()] {
    if (auto self = weak.lock()) self->HandOutMore();
  });
}

bool Lessor::IsPrimary() const {
  std::lock_guard lock(impl_->mu);
  return impl_->primary;
}

void Lessor::Renew(int64_t id, RenewCallback done) {
  absl::StatusOr<int64_t> result = LeaseNotPrimaryError();
  {
    std::lock_guard lock(impl_->mu);
    if (impl_->primary) {
      const auto it = impl_->leases.find(id);
      const Nanos now = impl_->Now();
      if (it == impl_->leases.end()) {
        result = LeaseNotFoundError();
      } else if (it->second.expiry <= now && !KVD_MUTANT("expired_lease_revived")) {
        KVD_PROBE("lease/renewal waits for the revocation");
        impl_->waiting[id].push_back({std::move(done), /*for_checkpoint=*/false});
        return;
      } else {
        Impl::Lease& lease = it->second;
        lease.expiry = now + Seconds(lease.ttl_s);
        if (lease.expiry < lease.expiry_entry) impl_->PushExpiry(id, lease, lease.expiry);
        if ((lease.remaining_ttl_s > 0 || lease.checkpoint_under_way) && impl_->options.on_checkpoint) {
          // A leader elected after this must not go by the old checkpoint, applied or not: the answer waits
          // until the log has cleared it.
          KVD_PROBE("lease/renewal waits for the checkpoint");
          impl_->waiting[id].push_back({std::move(done), /*for_checkpoint=*/true});
          impl_->ClearCheckpointSoon(id);
          return;
        }
        result = lease.ttl_s;
      }
    }
  }
  done(std::move(result));
}

size_t Lessor::waiting_renewals() const {
  std::lock_guard lock(impl_->mu);
  size_t n = 0;
  for (const auto& [id, list] : impl_->waiting) n += list.size();
  return n;
}

bool Lessor::Exists(int64_t id) const {
  std::lock_guard lock(impl_->mu);
  return impl_->leases.contains(id);
}

absl::StatusOr<Lessor::Info> Lessor::TimeToLive(int64_t id, bool with_keys) const {
  std::lock_guard lock(impl_->mu);
  const auto it = impl_->leases.find(id);
  if (it == impl_->leases.end()) return LeaseNotFoundError();
  const Impl::Lease& lease = it->second;
  Info info{.id = id, .granted_ttl_s = lease.ttl_s, .remaining_ttl_s = lease.ttl_s};
  if (impl_->primary) {
    const auto left = std::chrono::duration_cast<std::chrono::seconds>(lease.expiry - impl_->Now());
    info.remaining_ttl_s = std::max<int64_t>(left.count(), 0);
  }
  if (with_keys) info.keys = Sorted(lease.keys);
  return info;
}

std::vector<int64_t> Lessor::Leases() const {
  std::vector<std::pair<Nanos, int64_t>> order;
  {
    std::lock_guard lock(impl_->mu);
    order.reserve(impl_->leases.size());
    for (const auto& [id, lease] : impl_->leases) order.emplace_back(lease.expiry, id);
  }
  std::sort(order.begin(), order.end());
  std::vector<int64_t> ids;
  ids.reserve(order.size());
  for (const auto& [expiry, id] : order) ids.push_back(id);
  return ids;
}

std::vector<std::string> Lessor::KeysOf(int64_t id) const {
  std::lock_guard lock(impl_->mu);
  const auto it = impl_->leases.find(id);
  return it == impl_->leases.end() ? std::vector<std::string>() : Sorted(it->second.keys);
}

size_t Lessor::size() const {
  std::lock_guard lock(impl_->mu);
  return impl_->leases.size();
}

}  // namespace kvd::server
