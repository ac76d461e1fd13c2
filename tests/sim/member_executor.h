// One thread of a simulated member: tasks run in the order of Post on the seeded scheduler, but never while
// the member is paused, after a latency that is drawn anew for each task, and on the member's own clock,
// which may run fast or slow.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>

#include "base/executor.h"
#include "base/random.h"
#include "base/sim_executor.h"

namespace kvd::sim {

// A member's time, as far as it differs from the world's.
struct MemberTime {
  double rate = 1.0;  // of its clocks against true time, since `since`
  base::Nanos since{0};
  base::Nanos at_since{0};  // what its monotonic clock showed then
  base::Nanos wall_offset{0};
  base::Nanos paused_until{0};  // true time

  base::Nanos Monotonic(base::Nanos now) const {
    return at_since + base::Nanos(static_cast<int64_t>(static_cast<double>((now - since).count()) * rate));
  }
  void SetRate(base::Nanos now, double new_rate) {
    at_since = Monotonic(now);
    since = now;
    rate = new_rate;
  }
};

// How long a task waits before it runs, which for the log's thread is how long the disk takes.
struct Latency {
  base::Nanos max{0};         // uniform
  double stall_chance = 0.0;  // per task
  base::Nanos max_stall{0};
};

class MemberClock final : public base::Clock {
 public:
  MemberClock(base::Clock& world, const MemberTime& time) : world_(world), time_(time) {}
  base::Nanos Monotonic() const override { return time_.Monotonic(world_.Monotonic()); }
  base::Nanos Wall() const override {
    base::Nanos now = world_.Monotonic();
    return world_.Wall() - now + time_.Monotonic(now) + time_.wall_offset;
  }

 private:
  base::Clock& world_;
  const MemberTime& time_;
};

// Thread-compatible, as all of the simulation. Borrows everything it is given.
class MemberExecutor final : public base::Executor {
 public:
  MemberExecutor(base::SimScheduler& scheduler, const std::string& name, base::Clock& clock,
                 const MemberTime& time, const Latency& latency, base::Random random);
  ~MemberExecutor() override;

  void Post(base::Task task) override;
  TimerId PostAfter(base::Nanos delay, base::Task task) override;
  bool Cancel(TimerId id) override;
  base::Clock& clock() override { return clock_; }
  bool IsCurrent() const override { return running_; }

 private:
  struct Queued {
    TimerId timer;  // 0: posted
    base::Task task;
  };
  void Enqueue(Queued queued);
  void Pump();
  void RunNext();

  base::SimScheduler& scheduler_;
  base::Clock& clock_;
  const MemberTime& time_;
  const Latency& latency_;
  base::Random random_;
  std::deque<Queued> queue_;
  std::map<TimerId, TimerId> timers_;  // ours -> the scheduler's
  TimerId next_timer_ = 1;
  bool scheduled_ = false;
  bool running_ = false;
  std::unique_ptr<base::Executor> inner_;
};

}  // namespace kvd::sim
