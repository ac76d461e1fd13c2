#include "support/silence.h"

#include <algorithm>

namespace kvd::support {

void Silence::Mark() {
  std::lock_guard lock(mutex_);
  last_ = Clock::now();
  longest_ = {};
}

void Silence::Acknowledged() {
  std::lock_guard lock(mutex_);
  const Clock::time_point now = Clock::now();
  longest_ = std::max(longest_, now - last_);
  last_ = now;
}

int64_t Silence::LongestMs() {
  std::lock_guard lock(mutex_);
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::max(longest_, Clock::now() - last_))
      .count();
}

}  // namespace kvd::support
