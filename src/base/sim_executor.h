// A world in which one thread is every executor: tasks run in the order of their time, and ties are broken by
// a seeded draw, so one seed is one schedule. Nothing here reads the machine's clock.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/executor.h"
#include "base/random.h"

namespace kvd::base {

// Thread-compatible: the test's thread only.
class SimScheduler {
 public:
  explicit SimScheduler(uint64_t seed);
  ~SimScheduler();

  // A new executor of this world. Tasks of one executor run in the order of Post; tasks of different
  // executors that are ready at the same time run in a seeded order. Destroying it drops its tasks.
  std::unique_ptr<Executor> NewExecutor(std::string name);
  // The world's true time. A node with a drifting clock wraps it.
  Clock& clock();

  // Runs the next task, moving time on to it. False if there is none.
  bool RunOne();
  // Runs everything due up to now + `duration`, and leaves the time there.
  void RunFor(Nanos duration);
  // Runs until `done()` or for at most `limit` of simulated time; true if done.
  bool RunUntil(const std::function<bool()>& done, Nanos limit);
  // A rolling hash of (time, executor, sequence) of every task run: two runs of one seed must agree on it.
  uint64_t TraceHash() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvd::base
