// The bytes of a fuzzer's input, read from the front as numbers and pieces. Thread-compatible.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

namespace kvd::fuzz {

class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}

  bool empty() const { return rest_.empty(); }
  // 0 once the input has ended.
  uint8_t Byte() {
    if (rest_.empty()) return 0;
    const auto byte = static_cast<uint8_t>(rest_[0]);
    rest_.remove_prefix(1);
    return byte;
  }
  uint32_t Word() { return static_cast<uint32_t>(Byte()) << 8 | Byte(); }
  // At most `n` bytes.
  std::string_view Take(size_t n) {
    const std::string_view taken = rest_.substr(0, n);
    rest_.remove_prefix(taken.size());
    return taken;
  }
  std::string_view TakeRest() { return Take(rest_.size()); }

 private:
  std::string_view rest_;
};

// What a fuzzer is to find out about.
inline void Must(bool holds) {
  if (!holds) std::abort();
}

}  // namespace kvd::fuzz
