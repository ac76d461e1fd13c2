// When writes were acknowledged, as far as the longest silence goes.
//
// Thread-safety: thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>

namespace kvd::support {

class Silence {
 public:
  // The longest silence is counted from now.
  void Mark();
  void Acknowledged();
  // The one that still lasts counts too.
  int64_t LongestMs();

 private:
  using Clock = std::chrono::steady_clock;
  std::mutex mutex_;
  Clock::time_point last_ = Clock::now();
  Clock::duration longest_{};
};

}  // namespace kvd::support
