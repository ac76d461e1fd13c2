// One I/O thread, for the sources of this room that own sockets: its io_context, its queue of work from other
// threads, its coarse timers, and the write-once-a-wake-up rule.
//
// Thread-safety: Push and the Executor methods from any thread; the rest on the thread itself.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/executor.h"
#include "net/timer_wheel.h"

namespace kvd::net {

// A piece of work that brings its own queue link, so handing it over allocates nothing.
class WorkNode {
 public:
  // On the I/O thread; `stopped`: the thread is going away, so only release what is held.
  virtual void Run(bool stopped) = 0;
  virtual ~WorkNode() = default;

 private:
  friend class IoThread;
  WorkNode* next_ = nullptr;
};

// Something that collects output while events are handled and sends it at the end of the wake-up.
class Flushable {
 public:
  virtual void Flush() = 0;
  virtual ~Flushable() = default;

 private:
  friend class IoThread;
  bool flush_due_ = false;
};

class IoThread final : public base::Executor {
 public:
  explicit IoThread(std::string name);
  ~IoThread() override;

  // Sockets of this thread are made with this context. Their completion handlers open an IoThread::Batch
  // first.
  boost::asio::io_context& context() { return context_; }

  // Runs `node` once on this thread, in the order of Push and Post. The node must live until then.
  void Push(WorkNode* node);

  void Post(base::Task task) override;
  TimerId PostAfter(base::Nanos delay, base::Task task) override;
  bool Cancel(TimerId id) override;
  base::Clock& clock() override;
  bool IsCurrent() const override { return current_ == this; }

  // Arms a coarse timer of this thread for `due` on the monotonic clock.
  void Arm(WheelTimer& timer, base::Nanos due);
  base::Nanos Now() const { return clock_.Monotonic(); }

  // Has `what` flushed when the current batch ends.
  void FlushLater(std::shared_ptr<Flushable> what);

  // The scope of one wake-up's work.
  class Batch {
   public:
    explicit Batch(IoThread& thread) : thread_(thread) { ++thread_.batch_depth_; }
    ~Batch() { thread_.EndBatch(); }
    Batch(const Batch&) = delete;
    Batch& operator=(const Batch&) = delete;

   private:
    IoThread& thread_;
  };

  // A buffer for what a socket read brings; its content is gone at the next read on this thread.
  char* read_buffer() { return read_buffer_.get(); }
  static constexpr size_t kReadBufferBytes = size_t{64} * 1024;

  void Start();
  void Stop();

 private:
  struct TaskNode;
  void Run();
  void Drain();
  void EndBatch();
  void ArmExactTimer();
  void RunExactTimers();
  void ArmWheelTimer();

  static thread_local const IoThread* current_;

  const std::string name_;
  base::Clock& clock_;
  boost::asio::io_context context_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::thread os_thread_;

  std::atomic<WorkNode*> queue_{nullptr};  // newest first

  int batch_depth_ = 0;
  std::vector<std::shared_ptr<Flushable>> flushes_, flushing_;

  TimerWheel wheel_;
  boost::asio::steady_timer wheel_timer_;
  base::Nanos wheel_wake_ = base::Nanos::max();

  std::mutex timers_mutex_;
  std::map<std::pair<base::Nanos, TimerId>, base::Task> timers_;  // guarded by timers_mutex_
  absl::flat_hash_map<TimerId, base::Nanos> timer_due_;           // guarded by timers_mutex_
  TimerId next_timer_ = 1;                                        // guarded by timers_mutex_
  base::Nanos exact_wake_ = base::Nanos::max();                   // guarded by timers_mutex_
  boost::asio::steady_timer exact_timer_;

  std::unique_ptr<char[]> read_buffer_;
};

}  // namespace kvd::net
