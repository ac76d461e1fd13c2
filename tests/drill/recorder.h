// Writes the history of a drill as it happens. Thread-safe.
#pragma once

#include <cstdint>
#include <fstream>
#include <mutex>
#include <string>

namespace kvd::drill {

class Line;

// The machine's monotonic clock; never 0.
int64_t NowNs();

class Recorder {
 public:
  explicit Recorder(const std::string& path) : out_(path) {}
  void Write(const Line& line);
  bool ok() {
    std::lock_guard lock(mutex_);
    return out_.flush().good();
  }

 private:
  std::mutex mutex_;
  std::ofstream out_;
};

}  // namespace kvd::drill
