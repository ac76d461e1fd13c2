#include "instructions.h"

#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

namespace kvd::bench {

InstructionCounter::InstructionCounter() {
  perf_event_attr wanted{};
  wanted.size = sizeof wanted;
  wanted.type = PERF_TYPE_HARDWARE;
  wanted.config = PERF_COUNT_HW_INSTRUCTIONS;
  wanted.exclude_kernel = 1;
  wanted.exclude_hv = 1;
  fd_ = static_cast<int>(syscall(SYS_perf_event_open, &wanted, 0, -1, -1, PERF_FLAG_FD_CLOEXEC));
  if (available()) start_ = Read();
}

InstructionCounter::~InstructionCounter() {
  if (available()) close(fd_);
}

uint64_t InstructionCounter::Read() const {
  uint64_t count = 0;
  return read(fd_, &count, sizeof count) == static_cast<ssize_t>(sizeof count) ? count : 0;
}

void InstructionCounter::Report(benchmark::State& state, int64_t operations) const {
  if (!available()) return;
  state.counters["instructions"] =
      static_cast<double>(Read() - start_) / static_cast<double>(std::max<int64_t>(operations, 1));
}

}  // namespace kvd::bench
