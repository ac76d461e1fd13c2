// The physical part of compaction: takes away, in small batches with pauses, the versions that a logical
// compaction let go. Nothing depends on how far it got: it begins anew after a restart, as the index then
// names again what is still there.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/executor.h"
#include "base/mutex.h"

namespace kvd::storage {

class StoreImpl;

// Slices run on the background executor. Its tasks hold it by a shared pointer; after Stop they do nothing.
class Sweeper : public std::enable_shared_from_this<Sweeper> {
 public:
  explicit Sweeper(StoreImpl& store);

  // Sweeps for `compact_revision`, after what is under way; then runs `done`. Thread-safe.
  void Request(int64_t compact_revision, std::vector<absl::AnyInvocable<void()>> done);
  // How many passes have ended. Thread-safe.
  uint64_t passes() const { return passes_.load(std::memory_order_acquire); }
  // Has the engine give space back, on `executor`: all it can, or what is worth it. Thread-safe.
  void HintCompaction(base::Executor& executor);
  void HintGarbage(base::Executor& executor);
  // Waits for a running slice and a running compaction of the engine; later ones do not touch the store.
  // Thread-safe.
  void Stop();

 private:
  void Schedule(base::Nanos delay);
  void RunSlice();
  bool SweepSlice() ABSL_EXCLUSIVE_LOCKS_REQUIRED(slice_mu_);
  void BeginPass() ABSL_EXCLUSIVE_LOCKS_REQUIRED(slice_mu_);
  void EndPass() ABSL_EXCLUSIVE_LOCKS_REQUIRED(slice_mu_);

  StoreImpl& store_;
  std::atomic<uint64_t> passes_{0};
  base::Mutex slice_mu_;  // held while a slice runs
  bool stopped_ ABSL_GUARDED_BY(slice_mu_) = false;

  base::Mutex hint_mu_;  // held while the engine compacts
  bool hints_stopped_ ABSL_GUARDED_BY(hint_mu_) = false;
  std::atomic<bool> garbage_hinted_{false};

  base::Mutex mu_;
  int64_t requested_ ABSL_GUARDED_BY(mu_) = -1;
  bool scheduled_ ABSL_GUARDED_BY(mu_) = false;
  bool again_ ABSL_GUARDED_BY(mu_) = false;  // asked for while scheduled
  std::vector<absl::AnyInvocable<void()>> waiting_ ABSL_GUARDED_BY(mu_);

  // Of the pass under way.
  bool in_pass_ ABSL_GUARDED_BY(slice_mu_) = false;
  int64_t revision_ ABSL_GUARDED_BY(slice_mu_) = -1;
  std::string resume_ ABSL_GUARDED_BY(slice_mu_);
  bool kept_for_pins_ ABSL_GUARDED_BY(slice_mu_) = false;
  uint64_t dropped_ ABSL_GUARDED_BY(slice_mu_) = 0;
  base::Nanos started_ ABSL_GUARDED_BY(slice_mu_){0};
  std::vector<absl::AnyInvocable<void()>> done_ ABSL_GUARDED_BY(slice_mu_);
};

}  // namespace kvd::storage
