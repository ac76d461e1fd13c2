#include "base/clock.h"

#include <ctime>

namespace kvd::base {
namespace {

Nanos Read(clockid_t id) {
  timespec t;
  clock_gettime(id, &t);
  return std::chrono::seconds(t.tv_sec) + Nanos(t.tv_nsec);
}

class MachineClock final : public Clock {
 public:
  Nanos Monotonic() const override { return Read(CLOCK_MONOTONIC); }
  Nanos Wall() const override { return Read(CLOCK_REALTIME); }
};

}  // namespace

Clock& SystemClock() {
  static MachineClock* const clock = new MachineClock;
  return *clock;
}

}  // namespace kvd::base
