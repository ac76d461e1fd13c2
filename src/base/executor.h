// Where a component's work runs. A component never starts a thread or sleeps: it posts tasks to the executors
// that it was given. In the process an executor is a thread; in a test one seeded scheduler is all of them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "base/clock.h"

namespace kvd::base {

using Task = absl::AnyInvocable<void()>;

// Runs its tasks one at a time, in the order of Post.
//
// Thread-safety: every method may be called from any thread, also from within a task. Tasks still queued when
// the executor stops are destroyed unrun.
class Executor {
 public:
  using TimerId = uint64_t;  // 0 is never a timer

  virtual ~Executor() = default;
  virtual void Post(Task task) = 0;
  // Like Post, but an executor that has nothing else to do may run the task before this returns, on the
  // caller's thread (IsCurrent is true meanwhile): that saves waking another. For short tasks, and for
  // callers that hold no lock and can go on after any task of this executor.
  virtual void PostOrRun(Task task) { Post(std::move(task)); }
  // Runs the task once, not before `delay` has passed on this executor's clock.
  virtual TimerId PostAfter(Nanos delay, Task task) = 0;
  // True if the timer will not run any more because of this call; false if it ran, runs, or was cancelled
  // before.
  virtual bool Cancel(TimerId id) = 0;
  virtual Clock& clock() = 0;
  // True when called from within a task of this executor.
  virtual bool IsCurrent() const = 0;

  // The executor whose thread the caller is on, whoever's task runs there (PostOrRun); null if it is on no
  // such thread. What is posted to it runs once the thread has handled what it was woken for.
  static Executor* OfThisThread() { return of_this_thread_; }

 protected:
  static thread_local constinit Executor* of_this_thread_;
};

// One thread named `name` (at most 15 bytes are shown by the system), for whose place a caller of PostOrRun
// may stand in. `nice` > 0 is how far it stands back where others want the processor, as setpriority(2) has
// it: for work that is long and not urgent, and that holds no lock which others wait for.
class ThreadExecutor final : public Executor {
 public:
  explicit ThreadExecutor(std::string name, int nice = 0, Clock& clock = SystemClock());
  ~ThreadExecutor() override;  // Stop()s

  void Post(Task task) override;
  void PostOrRun(Task task) override;
  TimerId PostAfter(Nanos delay, Task task) override;
  bool Cancel(TimerId id) override;
  Clock& clock() override;
  bool IsCurrent() const override;
  // Finishes the running task, drops the others and joins the thread. Idempotent. Not from within a task.
  void Stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvd::base
