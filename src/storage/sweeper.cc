#include "storage/sweeper.h"

#include <iterator>
#include <utility>

#include "base/log.h"
#include "base/sites.h"
#include "storage/store_impl.h"

namespace kvd::storage {
namespace {

// Keys looked at under one hold of the index's lock, and in one slice.
constexpr size_t kKeysPerHold = 128;
constexpr size_t kKeysPerSlice = 20'000;
// Large values that are gone are worth collecting when they are so large a part of all of them.
constexpr double kGarbageShare = 1.0 / 3;

}  // namespace

Sweeper::Sweeper(StoreImpl& store) : store_(store) {}

void Sweeper::Request(int64_t compact_revision, std::vector<absl::AnyInvocable<void()>> done) {
  {
    base::MutexLock lock(mu_);
    if (compact_revision > requested_) requested_ = compact_revision;
    std::move(done.begin(), done.end(), std::back_inserter(waiting_));
    again_ = scheduled_;
    if (scheduled_) return;
    scheduled_ = true;
  }
  Schedule(base::Nanos(0));
}

void Sweeper::Schedule(base::Nanos delay) {
  auto slice = [self = shared_from_this()] { self->RunSlice(); };
  if (delay.count() == 0) {
    store_.background_.Post(std::move(slice));
  } else {
    store_.background_.PostAfter(delay, std::move(slice));
  }
}

void Sweeper::Stop() {
  {
    base::MutexLock lock(slice_mu_);
    stopped_ = true;
  }
  store_.engine_->StopCompacting();
  base::MutexLock lock(hint_mu_);
  hints_stopped_ = true;
}

void Sweeper::RunSlice() {
  std::vector<absl::AnyInvocable<void()>> done;
  {
    base::MutexLock slice(slice_mu_);
    if (stopped_) return;
    if (!in_pass_) BeginPass();
    if (!SweepSlice()) {
      Schedule(base::Nanos(store_.options_.sweep_pause_ns));
      return;
    }
    EndPass();
    done = std::exchange(done_, {});
  }
  for (auto& task : done) task();
}

void Sweeper::BeginPass() {
  // What is swept cannot be made up for any more.
  store_.CompleteLatest();
  base::MutexLock lock(mu_);
  in_pass_ = true;
  revision_ = requested_;
  done_ = std::exchange(waiting_, {});
  resume_.clear();
  kept_for_pins_ = false;
  dropped_ = 0;
  started_ = store_.background_.clock().Monotonic();
}

// True if it reached the last key.
bool Sweeper::SweepSlice() {
  std::vector<DeadVersion> dead;
  bool at_end = false;
  size_t looked = 0;
  std::vector<int64_t> pins = store_.pins_.Revisions();
  const size_t keys_per_hold = KVD_BUGGIFY("storage/sweep one key") ? 1 : kKeysPerHold;
  while (!at_end && looked < kKeysPerSlice &&
         dead.size() < static_cast<size_t>(store_.options_.sweep_batch_revisions)) {
    base::WriterLock lock(store_.index_mu_);
    std::string next;
    at_end = store_.index_.Sweep(revision_, pins, resume_, keys_per_hold, &dead, &kept_for_pins_, &next);
    resume_ = std::move(next);
    looked += keys_per_hold;
    if (keys_per_hold == 1) break;
  }
  if (!dead.empty()) {
    std::unique_ptr<WriteBatch> batch = store_.engine_->NewBatch();
    for (const DeadVersion& v : dead) {
      batch->Delete(RevisionTableKey(v.revision, v.tombstone));
      if (v.large) batch->Delete(LargeTableKey(v.revision));
    }
    store_.engine_->Write(*batch);
    dropped_ += dead.size();
  }
  return at_end;
}

void Sweeper::EndPass() {
  in_pass_ = false;
  passes_.fetch_add(1, std::memory_order_release);
  if (kept_for_pins_) {
    // What long reads still need goes when they end.
    store_.pins_.OnDropBelow(revision_, [weak = weak_from_this(), revision = revision_] {
      if (auto self = weak.lock()) self->Request(revision, {});
    });
  } else {
    std::unique_ptr<WriteBatch> batch = store_.engine_->NewBatch();
    batch->Put(TableKey(Table::kMeta, kSweptRevisionKey), EncodeRevisionMark(revision_));
    store_.engine_->Write(*batch);
  }
  auto took = store_.background_.clock().Monotonic() - started_;
  KVD_LOG(kInfo, "finished scheduled compaction", {"compact-revision", revision_}, {"dropped", dropped_},
          {"took-ms", static_cast<int64_t>(took.count() / 1'000'000)});
  bool again;
  {
    base::MutexLock lock(mu_);
    again = requested_ > revision_ || !waiting_.empty() || again_;
    again_ = false;
    scheduled_ = again;
  }
  if (again) Schedule(base::Nanos(0));
}

void Sweeper::HintCompaction(base::Executor& executor) {
  executor.Post([self = shared_from_this()] {
    base::MutexLock lock(self->hint_mu_);
    if (self->hints_stopped_) return;
    self->store_.engine_->CompactRange({}, {});
    self->store_.engine_->CollectGarbage(0);
  });
}

void Sweeper::HintGarbage(base::Executor& executor) {
  const EngineSizes sizes = store_.engine_->Sizes();
  const bool worth_it =
      sizes.garbage_bytes >= store_.options_.least_garbage_bytes &&
      static_cast<double>(sizes.garbage_bytes) > kGarbageShare * static_cast<double>(sizes.separate_bytes);
  if (!worth_it || garbage_hinted_.exchange(true)) return;
  executor.Post([self = shared_from_this()] {
    self->garbage_hinted_ = false;
    base::MutexLock lock(self->hint_mu_);
    // Down to the half of it, so that the next time is not at once.
    if (!self->hints_stopped_) self->store_.engine_->CollectGarbage(kGarbageShare / 2);
  });
}

}  // namespace kvd::storage
