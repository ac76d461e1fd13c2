#include "base/executor.h"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/check.h"

namespace kvd::base {
namespace {

struct Deadline {
  Nanos at;
  Executor::TimerId id;
};

// Orders a heap with the earliest deadline on top; of equal ones, the timer that was set first.
bool Later(const Deadline& a, const Deadline& b) {
  return a.at != b.at ? a.at > b.at : a.id > b.id;
}

}  // namespace

struct ThreadExecutor::Impl {
  Impl(std::string thread_name, int n, Clock& c) : name(std::move(thread_name)), nice(n), clock(c) {}

  void Run();
  // Runs the timers that are due. Called and returns with the lock held; released around each task.
  void RunDueTimers(std::unique_lock<std::mutex>& lock);
  // Blocks until there is something to do. Called and returns with the lock held.
  void WaitForWork(std::unique_lock<std::mutex>& lock);
  // Drops cancelled deadlines from the top, and all of them when they outnumber the live ones.
  void PruneDeadlines();

  static thread_local const Impl* current;

  const std::string name;
  const int nice;
  Clock& clock;
  std::atomic<bool> stopping{false};  // written under mutex; read without it between tasks

  std::mutex mutex;
  std::condition_variable wake;
  bool sleeping = false;  // the thread waits, and whoever finds work for it wakes it
  // Another thread runs a task (PostOrRun): this one runs none. It waits for `wake` without `sleeping`.
  bool lent = false;
  bool wake_after_loan = false;
  std::condition_variable returned;
  std::vector<Task> queue;
  TimerId next_timer = 1;
  absl::flat_hash_map<TimerId, Task> timers;  // live ones
  std::vector<Deadline> deadlines;            // heap; may hold ids that are no longer in `timers`

  std::mutex join_mutex;
  std::thread thread;
};

thread_local const ThreadExecutor::Impl* ThreadExecutor::Impl::current = nullptr;
thread_local constinit Executor* Executor::of_this_thread_ = nullptr;

void ThreadExecutor::Impl::PruneDeadlines() {
  if (deadlines.size() > 64 && deadlines.size() > 2 * timers.size()) {
    std::erase_if(deadlines, [this](const Deadline& d) { return !timers.contains(d.id); });
    std::make_heap(deadlines.begin(), deadlines.end(), Later);
  }
  while (!deadlines.empty() && !timers.contains(deadlines.front().id)) {
    std::pop_heap(deadlines.begin(), deadlines.end(), Later);
    deadlines.pop_back();
  }
}

void ThreadExecutor::Impl::WaitForWork(std::unique_lock<std::mutex>& lock) {
  while (!stopping.load(std::memory_order_relaxed)) {
    if (lent) {
      wake_after_loan = true;
      wake.wait(lock);
      continue;
    }
    if (!queue.empty()) return;
    PruneDeadlines();
    if (deadlines.empty()) {
      sleeping = true;
      wake.wait(lock);
    } else {
      const Nanos left = deadlines.front().at - clock.Monotonic();
      if (left <= Nanos::zero()) return;
      sleeping = true;
      wake.wait_for(lock, std::min<Nanos>(left, std::chrono::hours(1)));
    }
    sleeping = false;
  }
}

void ThreadExecutor::Impl::RunDueTimers(std::unique_lock<std::mutex>& lock) {
  if (deadlines.empty()) return;
  // Time is read once, so that timers which set each other cannot keep the queue waiting.
  const Nanos now = clock.Monotonic();
  while (!stopping.load(std::memory_order_relaxed)) {
    PruneDeadlines();
    if (deadlines.empty() || deadlines.front().at > now) return;
    auto it = timers.find(deadlines.front().id);
    Task task = std::move(it->second);
    timers.erase(it);
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
  }
}

void ThreadExecutor::Impl::Run() {
  current = this;
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
  // Of this thread alone, as Linux has it. Without effect it is as urgent as the others.
  if (nice != 0) setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), nice);
  std::vector<Task> batch;
  std::unique_lock<std::mutex> lock(mutex);
  for (;;) {
    WaitForWork(lock);
    RunDueTimers(lock);
    if (stopping.load(std::memory_order_relaxed)) return;
    batch.swap(queue);
    lock.unlock();
    for (Task& task : batch) {
      if (stopping.load(std::memory_order_acquire)) break;
      task();
      task = nullptr;
    }
    batch.clear();
    lock.lock();
  }
}

ThreadExecutor::ThreadExecutor(std::string name, int nice, Clock& clock)
    : impl_(std::make_unique<Impl>(std::move(name), nice, clock)) {
  impl_->thread = std::thread([this, impl = impl_.get()] {
    of_this_thread_ = this;
    impl->Run();
  });
}

ThreadExecutor::~ThreadExecutor() {
  Stop();
}

void ThreadExecutor::Post(Task task) {
  bool notify = false;
  {
    std::lock_guard<std::mutex> lock(impl_->mutex);
    if (impl_->stopping.load(std::memory_order_relaxed)) return;
    impl_->queue.push_back(std::move(task));
    notify = impl_->sleeping;
    impl_->sleeping = false;
  }
  if (notify) impl_->wake.notify_one();
}

void ThreadExecutor::PostOrRun(Task task) {
  std::unique_lock<std::mutex> lock(impl_->mutex);
  if (impl_->stopping.load(std::memory_order_relaxed)) return;
  if (!impl_->sleeping) {  // somebody is at work, and looks at the queue afterwards
    impl_->queue.push_back(std::move(task));
    return;
  }
  impl_->lent = true;
  impl_->sleeping = false;
  impl_->wake_after_loan = false;
  lock.unlock();
  const Impl* const outer = std::exchange(Impl::current, impl_.get());
  task();
  task = nullptr;
  Impl::current = outer;
  lock.lock();
  impl_->lent = false;
  const bool stopping = impl_->stopping.load(std::memory_order_relaxed);
  const bool wake = stopping || impl_->wake_after_loan || !impl_->queue.empty();
  if (!wake) impl_->sleeping = true;  // as it was left
  // With the lock: Stop, and with it the destructor, may follow at once.
  if (stopping) impl_->returned.notify_all();
  if (wake) impl_->wake.notify_one();
}

Executor::TimerId ThreadExecutor::PostAfter(Nanos delay, Task task) {
  const Nanos now = impl_->clock.Monotonic();
  const Nanos at = delay > Nanos::max() - now ? Nanos::max() : now + std::max(delay, Nanos::zero());
  bool notify = false;
  TimerId id;
  {
    std::lock_guard<std::mutex> lock(impl_->mutex);
    id = impl_->next_timer++;
    if (impl_->stopping.load(std::memory_order_relaxed)) return id;
    impl_->timers.emplace(id, std::move(task));
    impl_->deadlines.push_back({at, id});
    std::push_heap(impl_->deadlines.begin(), impl_->deadlines.end(), Later);
    if (impl_->deadlines.front().id == id) {
      if (impl_->lent) impl_->wake_after_loan = true;  // it waits for a later one
      notify = std::exchange(impl_->sleeping, false);
    }
  }
  if (notify) impl_->wake.notify_one();
  return id;
}

bool ThreadExecutor::Cancel(TimerId id) {
  Task dropped;  // destroyed without the lock: it may own what posts to this executor
  std::lock_guard<std::mutex> lock(impl_->mutex);
  auto it = impl_->timers.find(id);
  if (it == impl_->timers.end()) return false;
  dropped = std::move(it->second);
  impl_->timers.erase(it);
  return true;
}

Clock& ThreadExecutor::clock() {
  return impl_->clock;
}

bool ThreadExecutor::IsCurrent() const {
  return Impl::current == impl_.get();
}

void ThreadExecutor::Stop() {
  KVD_CHECK(!IsCurrent(), "an executor is stopped from outside its own tasks");
  {
    std::lock_guard<std::mutex> lock(impl_->mutex);
    impl_->stopping.store(true, std::memory_order_release);
    impl_->sleeping = false;
  }
  impl_->wake.notify_one();
  {
    std::lock_guard<std::mutex> join(impl_->join_mutex);
    if (impl_->thread.joinable()) impl_->thread.join();
  }
  std::vector<Task> dropped_queue;
  absl::flat_hash_map<TimerId, Task> dropped_timers;
  std::unique_lock<std::mutex> lock(impl_->mutex);
  impl_->returned.wait(lock, [this] { return !impl_->lent; });
  dropped_queue.swap(impl_->queue);
  dropped_timers.swap(impl_->timers);
  impl_->deadlines.clear();
}

}  // namespace kvd::base
