#include "member_executor.h"

#include <algorithm>
#include <utility>

namespace kvd::sim {

using base::Nanos;

MemberExecutor::MemberExecutor(base::SimScheduler& scheduler, const std::string& name, base::Clock& clock,
                               const MemberTime& time, const Latency& latency, base::Random random)
    : scheduler_(scheduler),
      clock_(clock),
      time_(time),
      latency_(latency),
      random_(random),
      inner_(scheduler.NewExecutor(name)) {}

MemberExecutor::~MemberExecutor() {
  inner_.reset();  // what is queued is dropped next, and may still post here
  scheduled_ = true;
  std::deque<Queued> dropped;
  dropped.swap(queue_);
}

void MemberExecutor::Post(base::Task task) {
  Enqueue({0, std::move(task)});
}

void MemberExecutor::Enqueue(Queued queued) {
  queue_.push_back(std::move(queued));
  Pump();
}

base::Executor::TimerId MemberExecutor::PostAfter(Nanos delay, base::Task task) {
  TimerId id = next_timer_++;
  if (inner_ == nullptr) return id;
  double scaled = std::max(0.0, static_cast<double>(delay.count()) / time_.rate);
  Nanos real = scaled > 9e18 ? Nanos::max() : Nanos(static_cast<int64_t>(scaled));
  timers_[id] = inner_->PostAfter(real, [this, id, task = std::move(task)]() mutable {
    timers_.erase(id);
    Enqueue({id, std::move(task)});
  });
  return id;
}

bool MemberExecutor::Cancel(TimerId id) {
  if (auto it = timers_.find(id); it != timers_.end()) {
    TimerId inner = it->second;
    timers_.erase(it);
    return inner_ != nullptr && inner_->Cancel(inner);
  }
  auto queued = std::find_if(queue_.begin(), queue_.end(), [id](const Queued& q) { return q.timer == id; });
  if (id == 0 || queued == queue_.end()) return false;
  queue_.erase(queued);
  return true;
}

void MemberExecutor::Pump() {
  if (scheduled_ || queue_.empty()) return;
  scheduled_ = true;
  Nanos wait{0};
  if (latency_.max.count() > 0) wait = Nanos(static_cast<int64_t>(random_.Below(latency_.max.count() + 1)));
  if (latency_.stall_chance > 0 && random_.Chance(latency_.stall_chance)) {
    wait += Nanos(static_cast<int64_t>(random_.Below(latency_.max_stall.count() + 1)));
  }
  if (wait.count() == 0) {
    inner_->Post([this] { RunNext(); });
  } else {
    inner_->PostAfter(wait, [this] { RunNext(); });
  }
}

void MemberExecutor::RunNext() {
  Nanos now = scheduler_.clock().Monotonic();
  if (now < time_.paused_until) {
    inner_->PostAfter(time_.paused_until - now, [this] { RunNext(); });
    return;
  }
  scheduled_ = false;
  if (queue_.empty()) return;
  Queued next = std::move(queue_.front());
  queue_.pop_front();
  running_ = true;
  next.task();
  next.task = nullptr;
  running_ = false;
  Pump();
}

}  // namespace kvd::sim
