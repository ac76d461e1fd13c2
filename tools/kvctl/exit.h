// How a command ended.
#pragma once

#include <string>
#include <utility>

namespace kvd::ctl {

inline constexpr int kExitSuccess = 0;
inline constexpr int kExitError = 1;
inline constexpr int kExitBadConnection = 2;
inline constexpr int kExitInvalidInput = 3;
inline constexpr int kExitBadFeature = 4;
inline constexpr int kExitInterrupted = 5;
inline constexpr int kExitIo = 6;
inline constexpr int kExitBadArgs = 128;

// The process's exit code, and the text that stderr shows after "Error: ". An empty message shows nothing.
struct [[nodiscard]] Exit {
  int code = kExitSuccess;
  std::string message;

  bool ok() const { return code == kExitSuccess; }
};

inline Exit Success() {
  return {};
}
inline Exit Fail(int code, std::string message) {
  return {code, std::move(message)};
}

}  // namespace kvd::ctl
