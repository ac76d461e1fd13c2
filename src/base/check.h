// Assertions that stay on in every build: a broken protocol or storage invariant ends the process rather than
// the data. They say what must hold; operating errors are absl::Status, never a CHECK.
#pragma once

namespace kvd::base {
[[noreturn]] void CheckFailed(const char* file, int line, const char* expression, const char* why);
}  // namespace kvd::base

#define KVD_CHECK(condition, why)                                    \
  do {                                                               \
    if (__builtin_expect(!(condition), 0)) {                         \
      ::kvd::base::CheckFailed(__FILE__, __LINE__, #condition, why); \
    }                                                                \
  } while (false)
