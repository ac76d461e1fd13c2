// Those who wait until the state machine has applied the log up to some index: linearizable reads whose index
// is known but not reached.
//
// Thread-safety: thread-safe. Callbacks run on the thread that advances the index, or on the caller's of Wait
// if the index is reached already.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "base/mutex.h"
#include "server/node/error_table.h"

namespace kvd::server {

class AppliedWaiters {
 public:
  using Callback = absl::AnyInvocable<void(Error)>;

  explicit AppliedWaiters(uint64_t applied) : applied_(applied) {}

  void Wait(uint64_t index, Callback done) {
    {
      base::MutexLock lock(mutex_);
      if (index > applied_) {
        waiting_.emplace(index, std::move(done));
        return;
      }
    }
    done(Error::kOk);
  }

  bool empty() const {
    base::MutexLock lock(mutex_);
    return waiting_.empty();
  }

  void Advance(uint64_t applied) {
    std::vector<Callback> ready;
    {
      base::MutexLock lock(mutex_);
      if (applied > applied_) applied_ = applied;
      auto end = waiting_.upper_bound(applied_);
      for (auto it = waiting_.begin(); it != end; ++it) ready.push_back(std::move(it->second));
      waiting_.erase(waiting_.begin(), end);
    }
    for (Callback& done : ready) done(Error::kOk);
  }

  void FailAll(Error error) {
    std::multimap<uint64_t, Callback> all;
    {
      base::MutexLock lock(mutex_);
      all.swap(waiting_);
    }
    for (auto& [index, done] : all) done(error);
  }

 private:
  mutable base::Mutex mutex_;
  uint64_t applied_ ABSL_GUARDED_BY(mutex_);
  std::multimap<uint64_t, Callback> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvd::server
