// The revisions that long reads stand on. A sweep keeps what they need.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/mutex.h"

namespace kvd::storage {

// Thread-safe.
class Pins {
 public:
  // Keeps one revision while it lives. Move-only; must not outlive its Pins.
  class Pin {
   public:
    Pin() = default;
    Pin(Pins* pins, int64_t revision) : pins_(pins), revision_(revision) {}
    Pin(Pin&& other) noexcept : pins_(std::exchange(other.pins_, nullptr)), revision_(other.revision_) {}
    Pin& operator=(Pin&& other) noexcept {
      std::swap(pins_, other.pins_);
      std::swap(revision_, other.revision_);
      return *this;
    }
    ~Pin() {
      if (pins_) pins_->Drop(revision_);
    }

   private:
    Pins* pins_ = nullptr;
    int64_t revision_ = 0;
  };

  Pin Add(int64_t revision) {
    base::MutexLock lock(mu_);
    ++counts_[revision];
    return Pin(this, revision);
  }
  // Ascending, each once.
  std::vector<int64_t> Revisions() const {
    base::MutexLock lock(mu_);
    std::vector<int64_t> revisions;
    for (const auto& [revision, count] : counts_) revisions.push_back(revision);
    return revisions;
  }
  // `waiter` runs once, on the thread that drops the last pin of some revision below `bound`; at once if
  // there is no such pin. It replaces an earlier waiter.
  void OnDropBelow(int64_t bound, absl::AnyInvocable<void()> waiter) {
    {
      base::MutexLock lock(mu_);
      if (!counts_.empty() && counts_.begin()->first < bound) {
        bound_ = bound;
        waiter_ = std::move(waiter);
        return;
      }
    }
    waiter();
  }

 private:
  void Drop(int64_t revision) {
    absl::AnyInvocable<void()> waiter;
    {
      base::MutexLock lock(mu_);
      auto it = counts_.find(revision);
      if (--it->second == 0) {
        counts_.erase(it);
        if (revision < bound_) waiter = std::exchange(waiter_, nullptr);
      }
    }
    if (waiter) waiter();
  }

  mutable base::Mutex mu_;
  std::map<int64_t, int> counts_ ABSL_GUARDED_BY(mu_);
  int64_t bound_ ABSL_GUARDED_BY(mu_) = 0;
  absl::AnyInvocable<void()> waiter_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kvd::storage
