// The requests in flight on this member, by ID: who waits for the outcome of a proposal, and until when.
//
// Thread-safety: thread-safe. Callbacks run on the thread that completes or expires them, outside the lock.
#pragma once

#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "server/node/apply_outcome.h"

namespace kvd::server {

class ProposalTable {
 public:
  // Every request waits equally long, so the deadlines come in the order of Add.
  explicit ProposalTable(base::Nanos timeout) : timeout_(timeout) {}

  void Add(uint64_t id, base::Nanos now, ApplyCallback callback) {
    base::MutexLock lock(mutex_);
    waiters_.emplace(id, std::move(callback));
    deadlines_.emplace_back(now + timeout_, id);
  }

  // True if somebody on this member waits for `id`.
  bool Contains(uint64_t id) const {
    base::MutexLock lock(mutex_);
    return waiters_.contains(id);
  }

  // Hands the outcome over; does nothing if nobody waits (any more).
  void Complete(uint64_t id, ApplyOutcome&& outcome) {
    if (ApplyCallback callback = Take(id)) callback(std::move(outcome));
  }

  // A whole applied batch: one lock for all of it.
  void CompleteAll(std::vector<std::pair<uint64_t, ApplyOutcome>>& outcomes) {
    std::vector<std::pair<ApplyCallback, ApplyOutcome*>> ready;
    ready.reserve(outcomes.size());
    {
      base::MutexLock lock(mutex_);
      for (auto& [id, outcome] : outcomes) {
        auto it = waiters_.find(id);
        if (it == waiters_.end()) continue;
        ready.emplace_back(std::move(it->second), &outcome);
        waiters_.erase(it);
      }
    }
    for (auto& [callback, outcome] : ready) callback(std::move(*outcome));
  }

  // Those whose time is up get `error`.
  void Expire(base::Nanos now, Error error) {
    std::vector<ApplyCallback> late;
    {
      base::MutexLock lock(mutex_);
      while (!deadlines_.empty() && deadlines_.front().first <= now) {
        auto it = waiters_.find(deadlines_.front().second);
        if (it != waiters_.end()) {
          late.push_back(std::move(it->second));
          waiters_.erase(it);
        }
        deadlines_.pop_front();
      }
    }
    Fail(late, error);
  }

  void FailAll(Error error) {
    std::vector<ApplyCallback> all;
    {
      base::MutexLock lock(mutex_);
      // In the order in which they were proposed, the same in every run of a seed.
      for (const auto& [deadline, id] : deadlines_) {
        if (auto it = waiters_.find(id); it != waiters_.end()) all.push_back(std::move(it->second));
      }
      waiters_.clear();
      deadlines_.clear();
    }
    Fail(all, error);
  }

  size_t size() const {
    base::MutexLock lock(mutex_);
    return waiters_.size();
  }

 private:
  ApplyCallback Take(uint64_t id) {
    base::MutexLock lock(mutex_);
    auto it = waiters_.find(id);
    if (it == waiters_.end()) return nullptr;
    ApplyCallback callback = std::move(it->second);
    waiters_.erase(it);
    return callback;
  }
  static void Fail(std::vector<ApplyCallback>& callbacks, Error error) {
    for (ApplyCallback& callback : callbacks) {
      ApplyOutcome outcome;
      outcome.error = error;
      callback(std::move(outcome));
    }
  }

  const base::Nanos timeout_;
  mutable base::Mutex mutex_;
  absl::flat_hash_map<uint64_t, ApplyCallback> waiters_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::pair<base::Nanos, uint64_t>> deadlines_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvd::server
