#include "base/sim_executor.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <map>
#include <optional>
#include <utility>
#include <vector>

namespace kvd::base {
namespace {

class SimClock final : public Clock {
 public:
  Nanos Monotonic() const override { return now; }
  Nanos Wall() const override { return kWallAtStart + now; }

  Nanos now{0};

 private:
  static constexpr Nanos kWallAtStart = std::chrono::seconds(1'700'000'000);
};

class SimExecutor;

struct ReadyTask {
  uint64_t sequence;
  Task task;
};

struct Timer {
  SimExecutor* executor;
  Task task;
};

// The world, shared by the scheduler and its executors so that either may be destroyed first.
struct World {
  explicit World(uint64_t seed) : random(Random(seed).Split("scheduler")) {}

  using TimerKey = std::pair<Nanos, uint64_t>;  // (due, id): of equal times, the one set first

  SimClock clock;
  Random random;
  uint64_t next_sequence = 1;
  uint32_t next_executor = 0;
  std::map<TimerKey, Timer> timers;
  std::map<uint64_t, Nanos> timer_due;
  std::vector<SimExecutor*> ready;  // those with a task to run; order is part of the schedule
  const SimExecutor* current = nullptr;
  uint64_t trace = 0xcbf29ce484222325;
};

class SimExecutor final : public Executor {
 public:
  SimExecutor(std::shared_ptr<World> world, std::string name)
      : world_(std::move(world)), number_(world_->next_executor++), name_(std::move(name)) {}
  ~SimExecutor() override;

  void Post(Task task) override { Enqueue(world_->next_sequence++, std::move(task)); }
  TimerId PostAfter(Nanos delay, Task task) override;
  bool Cancel(TimerId id) override;
  Clock& clock() override { return world_->clock; }
  bool IsCurrent() const override { return world_->current == this; }

  void Enqueue(uint64_t sequence, Task task) {
    if (closing_) return;
    if (tasks_.empty()) world_->ready.push_back(this);
    tasks_.push_back({sequence, std::move(task)});
  }
  // REQUIRES: a task is queued. Takes this executor off `ready` with its last one.
  ReadyTask TakeNext();
  uint32_t number() const { return number_; }

 private:
  const std::shared_ptr<World> world_;
  const uint32_t number_;
  const std::string name_;
  std::deque<ReadyTask> tasks_;
  bool closing_ = false;
};

SimExecutor::~SimExecutor() {
  closing_ = true;
  if (world_->current == this) world_->current = nullptr;
  std::erase(world_->ready, this);
  std::vector<Task> dropped;  // destroyed last: a task may own what posts to, or cancels on, another executor
  for (auto it = world_->timers.begin(); it != world_->timers.end();) {
    if (it->second.executor == this) {
      dropped.push_back(std::move(it->second.task));
      world_->timer_due.erase(it->first.second);
      it = world_->timers.erase(it);
    } else {
      ++it;
    }
  }
  for (ReadyTask& t : tasks_) dropped.push_back(std::move(t.task));
}

Executor::TimerId SimExecutor::PostAfter(Nanos delay, Task task) {
  const Nanos now = world_->clock.now;
  const Nanos at = delay > Nanos::max() - now ? Nanos::max() : now + std::max(delay, Nanos::zero());
  const uint64_t id = world_->next_sequence++;
  if (closing_) return id;
  world_->timers.emplace(World::TimerKey(at, id), Timer{this, std::move(task)});
  world_->timer_due.emplace(id, at);
  return id;
}

bool SimExecutor::Cancel(TimerId id) {
  auto due = world_->timer_due.find(id);
  if (due == world_->timer_due.end()) return false;
  auto timer = world_->timers.find({due->second, id});
  if (timer->second.executor != this) return false;
  Task dropped = std::move(timer->second.task);
  world_->timers.erase(timer);
  world_->timer_due.erase(due);
  return true;
}

ReadyTask SimExecutor::TakeNext() {
  ReadyTask next = std::move(tasks_.front());
  tasks_.pop_front();
  if (tasks_.empty()) std::erase(world_->ready, this);
  return next;
}

}  // namespace

struct SimScheduler::Impl {
  explicit Impl(uint64_t seed) : world(std::make_shared<World>(seed)) {}

  // When the next task is due; nothing if there is none.
  std::optional<Nanos> NextTime() const {
    if (!world->ready.empty()) return world->clock.now;
    if (world->timers.empty()) return std::nullopt;
    return std::max(world->clock.now, world->timers.begin()->first.first);
  }
  // Hands the timers due by now to their executors.
  void ReleaseTimers() {
    while (!world->timers.empty() && world->timers.begin()->first.first <= world->clock.now) {
      auto it = world->timers.begin();
      const uint64_t id = it->first.second;
      Timer timer = std::move(it->second);
      world->timers.erase(it);
      world->timer_due.erase(id);
      timer.executor->Enqueue(id, std::move(timer.task));
    }
  }
  void Trace(uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8) {
      world->trace = (world->trace ^ ((value >> shift) & 0xff)) * 0x100000001b3;
    }
  }

  std::shared_ptr<World> world;
};

SimScheduler::SimScheduler(uint64_t seed) : impl_(std::make_unique<Impl>(seed)) {}
SimScheduler::~SimScheduler() = default;

std::unique_ptr<Executor> SimScheduler::NewExecutor(std::string name) {
  return std::make_unique<SimExecutor>(impl_->world, std::move(name));
}

Clock& SimScheduler::clock() {
  return impl_->world->clock;
}

bool SimScheduler::RunOne() {
  World& world = *impl_->world;
  const std::optional<Nanos> next = impl_->NextTime();
  if (!next) return false;
  world.clock.now = *next;
  impl_->ReleaseTimers();
  SimExecutor* executor = world.ready[world.random.Below(world.ready.size())];
  ReadyTask ready = executor->TakeNext();
  impl_->Trace(static_cast<uint64_t>(world.clock.now.count()));
  impl_->Trace(executor->number());
  impl_->Trace(ready.sequence);
  const SimExecutor* outer = world.current;
  world.current = executor;
  ready.task();
  ready.task = nullptr;  // while still current: what it owned is released on its own executor
  world.current = outer;
  return true;
}

void SimScheduler::RunFor(Nanos duration) {
  const Nanos end = clock().Monotonic() + duration;
  for (auto next = impl_->NextTime(); next && *next <= end; next = impl_->NextTime()) RunOne();
  impl_->world->clock.now = end;
}

bool SimScheduler::RunUntil(const std::function<bool()>& done, Nanos limit) {
  const Nanos end = clock().Monotonic() + limit;
  while (!done()) {
    const std::optional<Nanos> next = impl_->NextTime();
    if (!next || *next > end) {
      impl_->world->clock.now = end;
      return done();
    }
    RunOne();
  }
  return true;
}

uint64_t SimScheduler::TraceHash() const {
  return impl_->world->trace;
}

}  // namespace kvd::base
