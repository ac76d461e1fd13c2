#include "net/timer_wheel.h"

#include <algorithm>

namespace kvd::net {

void WheelTimer::Disarm() {
  if (wheel_ != nullptr) wheel_->Unlink(*this);
}

TimerWheel::~TimerWheel() {
  for (WheelTimer* head : slots_) {
    while (head != nullptr) {
      WheelTimer* timer = head;
      head = head->next_;
      timer->wheel_ = nullptr;
    }
  }
}

void TimerWheel::Arm(WheelTimer& timer, base::Nanos now, base::Nanos due) {
  timer.Disarm();
  if (armed_ == 0) passed_tick_ = std::max(passed_tick_, static_cast<uint64_t>(now / kTick));
  // Far enough for any timeout, near enough that the sums do not overflow.
  due = std::min(due, now + std::chrono::hours(24 * 365 * 10));
  timer.due_tick_ = std::max(TickAfter(due), passed_tick_ + 1);
  uint64_t slot = timer.due_tick_ % kSlots;
  timer.wheel_ = this;
  Link(timer, &slots_[slot]);
  occupied_[slot / 64] |= uint64_t{1} << (slot % 64);
  ++armed_;
}

void TimerWheel::Link(WheelTimer& timer, WheelTimer** head) {
  timer.head_ = head;
  timer.previous_ = nullptr;
  timer.next_ = *head;
  if (timer.next_ != nullptr) timer.next_->previous_ = &timer;
  *head = &timer;
}

void TimerWheel::Unlink(WheelTimer& timer) {
  if (timer.previous_ != nullptr) {
    timer.previous_->next_ = timer.next_;
  } else {
    *timer.head_ = timer.next_;
    if (timer.next_ == nullptr && timer.head_ != &firing_) {
      uint64_t slot = timer.due_tick_ % kSlots;
      occupied_[slot / 64] &= ~(uint64_t{1} << (slot % 64));
    }
  }
  if (timer.next_ != nullptr) timer.next_->previous_ = timer.previous_;
  timer.wheel_ = nullptr;
  --armed_;
}

void TimerWheel::Advance(base::Nanos now) {
  uint64_t now_tick = static_cast<uint64_t>(now / kTick);
  if (now_tick <= passed_tick_) return;
  // More than a turn behind: each slot once is enough.
  uint64_t first = passed_tick_ + 1;
  if (now_tick - first >= kSlots) first = now_tick - kSlots + 1;
  passed_tick_ = now_tick;
  for (uint64_t tick = first; tick <= now_tick && armed_ > 0; ++tick) {
    for (WheelTimer* timer = slots_[tick % kSlots]; timer != nullptr;) {
      WheelTimer* next = timer->next_;
      if (timer->due_tick_ <= now_tick) {
        Unlink(*timer);
        timer->wheel_ = this;  // still disarmable
        ++armed_;
        Link(*timer, &firing_);
      }
      timer = next;
    }
    while (firing_ != nullptr) {
      WheelTimer* timer = firing_;
      Unlink(*timer);
      timer->OnTimer();  // may disarm others, or destroy itself
    }
  }
}

base::Nanos TimerWheel::NextWake() const {
  if (armed_ == 0) return base::Nanos::max();
  uint64_t start = passed_tick_ + 1;
  uint64_t distance = 0;
  while (distance < kSlots) {
    uint64_t slot = (start + distance) % kSlots;
    uint64_t word = occupied_[slot / 64] >> (slot % 64);
    if (word != 0) {
      distance += static_cast<uint64_t>(__builtin_ctzll(word));
      break;
    }
    distance += 64 - slot % 64;
  }
  return kTick * static_cast<int64_t>(start + distance);
}

}  // namespace kvd::net
