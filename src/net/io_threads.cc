#include "net/io_threads.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cstddef>

#include "base/check.h"
#include "net/io_thread.h"

namespace kvd::net {

thread_local const IoThread* IoThread::current_ = nullptr;

struct IoThread::TaskNode final : WorkNode {
  explicit TaskNode(base::Task t) : task(std::move(t)) {}
  void Run(bool stopped) override {
    std::unique_ptr<TaskNode> self(this);
    if (!stopped) task();
  }
  base::Task task;
};

IoThread::IoThread(std::string name)
    : name_(std::move(name)),
      clock_(base::SystemClock()),
      context_(1),
      work_(context_.get_executor()),
      wheel_timer_(context_),
      exact_timer_(context_),
      read_buffer_(new char[kReadBufferBytes]) {}

IoThread::~IoThread() {
  Stop();
}

void IoThread::Start() {
  os_thread_ = std::thread([this] { Run(); });
  pthread_setname_np(os_thread_.native_handle(), name_.substr(0, 15).c_str());
}

void IoThread::Run() {
  // Signals belong to the main thread.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  current_ = this;
  of_this_thread_ = this;
  context_.run();
  of_this_thread_ = nullptr;
  current_ = nullptr;
}

void IoThread::Stop() {
  KVD_CHECK(current_ != this, "an I/O thread cannot stop itself");
  context_.stop();
  if (os_thread_.joinable()) os_thread_.join();
  // Releasing work may queue more of it.
  while (WorkNode* node = queue_.exchange(nullptr, std::memory_order_acquire)) {
    while (node != nullptr) {
      WorkNode* next = node->next_;
      node->Run(true);
      node = next;
    }
  }
  std::map<std::pair<base::Nanos, TimerId>, base::Task> dropped;
  {
    std::lock_guard<std::mutex> lock(timers_mutex_);
    dropped.swap(timers_);
    timer_due_.clear();
  }
}

void IoThread::Push(WorkNode* node) {
  WorkNode* head = queue_.load(std::memory_order_relaxed);
  do {
    node->next_ = head;
  } while (!queue_.compare_exchange_weak(head, node, std::memory_order_release, std::memory_order_relaxed));
  if (head == nullptr) boost::asio::post(context_, [this] { Drain(); });
}

void IoThread::Drain() {
  Batch batch(*this);
  WorkNode* newest = queue_.exchange(nullptr, std::memory_order_acquire);
  WorkNode* oldest = nullptr;
  while (newest != nullptr) {
    WorkNode* next = newest->next_;
    newest->next_ = oldest;
    oldest = newest;
    newest = next;
  }
  while (oldest != nullptr) {
    WorkNode* next = oldest->next_;
    oldest->Run(false);
    oldest = next;
  }
}

void IoThread::Post(base::Task task) {
  Push(new TaskNode(std::move(task)));
}

base::Clock& IoThread::clock() {
  return clock_;
}

void IoThread::FlushLater(std::shared_ptr<Flushable> what) {
  if (what->flush_due_) return;
  what->flush_due_ = true;
  flushes_.push_back(std::move(what));
  if (batch_depth_ == 0) Post([] {});  // the batch around it flushes
}

void IoThread::EndBatch() {
  if (batch_depth_ == 1) {
    // Flushing may run callbacks that have output of their own.
    while (!flushes_.empty()) {
      flushing_.swap(flushes_);
      for (std::shared_ptr<Flushable>& what : flushing_) {
        what->flush_due_ = false;
        what->Flush();
      }
      flushing_.clear();
    }
  }
  --batch_depth_;
}

void IoThread::Arm(WheelTimer& timer, base::Nanos due) {
  wheel_.Arm(timer, Now(), due);
  ArmWheelTimer();
}

void IoThread::ArmWheelTimer() {
  base::Nanos wake = wheel_.NextWake();
  // Waking early for a timer that is gone by then is cheaper than moving the alarm at every disarm.
  if (wake >= wheel_wake_) return;
  wheel_wake_ = wake;
  wheel_timer_.expires_after(std::max(wake - Now(), base::Nanos(0)));
  wheel_timer_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    Batch batch(*this);
    wheel_wake_ = base::Nanos::max();
    wheel_.Advance(Now());
    ArmWheelTimer();
  });
}

base::Executor::TimerId IoThread::PostAfter(base::Nanos delay, base::Task task) {
  base::Nanos due = Now() + std::max(delay, base::Nanos(0));
  TimerId id;
  bool earlier;
  {
    std::lock_guard<std::mutex> lock(timers_mutex_);
    id = next_timer_++;
    timers_.emplace(std::make_pair(due, id), std::move(task));
    timer_due_.emplace(id, due);
    earlier = due < exact_wake_;
  }
  if (earlier) {
    if (IsCurrent()) {
      ArmExactTimer();
    } else {
      Post([this] { ArmExactTimer(); });
    }
  }
  return id;
}

bool IoThread::Cancel(TimerId id) {
  base::Task dropped;  // destroyed outside the lock
  std::lock_guard<std::mutex> lock(timers_mutex_);
  auto due = timer_due_.find(id);
  if (due == timer_due_.end()) return false;
  auto timer = timers_.find({due->second, id});
  dropped = std::move(timer->second);
  timers_.erase(timer);
  timer_due_.erase(due);
  return true;
}

void IoThread::ArmExactTimer() {
  std::lock_guard<std::mutex> lock(timers_mutex_);
  base::Nanos due = timers_.empty() ? base::Nanos::max() : timers_.begin()->first.first;
  if (due >= exact_wake_) return;
  exact_wake_ = due;
  exact_timer_.expires_after(std::max(due - Now(), base::Nanos(0)));
  exact_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) RunExactTimers();
  });
}

void IoThread::RunExactTimers() {
  Batch batch(*this);
  std::unique_lock<std::mutex> lock(timers_mutex_);
  base::Nanos now = Now();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    base::Task task = std::move(timers_.begin()->second);
    timer_due_.erase(timers_.begin()->first.second);
    timers_.erase(timers_.begin());
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
  }
  exact_wake_ = base::Nanos::max();
  lock.unlock();
  ArmExactTimer();
}

struct IoThreads::Impl {
  std::vector<std::unique_ptr<IoThread>> threads;
  std::atomic<uint32_t> next{0};
};

IoThreads::IoThreads(int count, const std::string& name) : impl_(std::make_unique<Impl>()) {
  KVD_CHECK(count >= 1, "there is at least one I/O thread");
  for (int i = 0; i < count; ++i) {
    impl_->threads.push_back(std::make_unique<IoThread>(name + "-" + std::to_string(i)));
  }
  for (auto& thread : impl_->threads) thread->Start();
}

IoThreads::~IoThreads() {
  Stop();
}

int IoThreads::count() const {
  return static_cast<int>(impl_->threads.size());
}
base::Executor& IoThreads::executor(int i) {
  return *impl_->threads[static_cast<size_t>(i)];
}
IoThread& IoThreads::thread(int i) {
  return *impl_->threads[static_cast<size_t>(i)];
}

IoThread& IoThreads::Next() {
  uint32_t turn = impl_->next.fetch_add(1, std::memory_order_relaxed);
  return *impl_->threads[turn % impl_->threads.size()];
}

void IoThreads::Stop() {
  for (auto& thread : impl_->threads) thread->Stop();
}

}  // namespace kvd::net
