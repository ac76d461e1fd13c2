// Time as a component sees it. Nothing above the core reads the machine's clock itself: it is handed a Clock,
// so a test decides what time it is.
//
// Thread-safety: implementations are thread-safe.
#pragma once

#include <chrono>

namespace kvd::base {

using Nanos = std::chrono::nanoseconds;

class Clock {
 public:
  virtual ~Clock() = default;
  // Never goes back; the zero point is arbitrary.
  virtual Nanos Monotonic() const = 0;
  // Since 1970-01-01 UTC; may jump.
  virtual Nanos Wall() const = 0;
};

// The machine's clocks. Never destroyed.
Clock& SystemClock();

}  // namespace kvd::base
