// Coarse timeouts for calls and connections: arming and disarming cost a few instructions, so every call with
// a deadline can have one. A timeout fires up to kTick late, never early.
//
// Thread-safety: thread-compatible; it lives on one I/O thread, which calls Advance.
#pragma once

#include <array>
#include <cstdint>

#include "base/clock.h"

namespace kvd::net {

class TimerWheel;

// Armed at most once at a time. Disarms itself when destroyed.
class WheelTimer {
 public:
  WheelTimer() = default;
  WheelTimer(const WheelTimer&) = delete;
  WheelTimer& operator=(const WheelTimer&) = delete;
  bool armed() const { return wheel_ != nullptr; }
  void Disarm();

 protected:
  virtual ~WheelTimer() { Disarm(); }
  virtual void OnTimer() = 0;  // disarmed when called; may arm itself again

 private:
  friend class TimerWheel;
  TimerWheel* wheel_ = nullptr;
  WheelTimer** head_ = nullptr;  // of the list it is in
  WheelTimer* previous_ = nullptr;
  WheelTimer* next_ = nullptr;
  uint64_t due_tick_ = 0;
};

class TimerWheel {
 public:
  static constexpr base::Nanos kTick = std::chrono::milliseconds(5);
  static constexpr uint64_t kSlots = 1024;  // a timer further away than a turn is looked at once a turn

  TimerWheel() = default;
  ~TimerWheel();
  TimerWheel(const TimerWheel&) = delete;
  TimerWheel& operator=(const TimerWheel&) = delete;

  // Arms (again, if it is armed) for `due` on the monotonic clock.
  void Arm(WheelTimer& timer, base::Nanos now, base::Nanos due);
  // Fires what is due.
  void Advance(base::Nanos now);
  // When Advance is due next; Nanos::max() if nothing is armed. May be early, never late.
  base::Nanos NextWake() const;

 private:
  friend class WheelTimer;
  static uint64_t TickAfter(base::Nanos t) {
    return static_cast<uint64_t>((t + kTick - base::Nanos(1)) / kTick);
  }
  void Link(WheelTimer& timer, WheelTimer** head);
  void Unlink(WheelTimer& timer);

  std::array<WheelTimer*, kSlots> slots_{};
  std::array<uint64_t, kSlots / 64> occupied_{};
  WheelTimer* firing_ = nullptr;  // due now, not yet called
  uint64_t passed_tick_ = 0;      // every tick up to this one has been handled
  size_t armed_ = 0;
};

}  // namespace kvd::net
