#include "base/check.h"

#include <cstdlib>

#include "base/log.h"

namespace kvd::base {

void CheckFailed(const char* file, int line, const char* expression, const char* why) {
  LogLine(LogLevel::kFatal, log_internal::Caller(log_internal::ShortPath(file), line), "invariant violated",
          {{"expression", expression}, {"why", why}});
  std::abort();
}

}  // namespace kvd::base
