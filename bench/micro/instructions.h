// Instructions per operation beside the time of a micro-benchmark: they do not depend on what else the
// machine does. Where the machine has no counter for them (most virtual machines), nothing is reported.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>

namespace kvd::bench {

// Counts what this thread executes in user space, from here on.
class InstructionCounter {
 public:
  InstructionCounter();
  ~InstructionCounter();
  InstructionCounter(const InstructionCounter&) = delete;
  InstructionCounter& operator=(const InstructionCounter&) = delete;

  bool available() const { return fd_ >= 0; }
  uint64_t Read() const;
  // Adds the counter "instructions" to the report, divided by `operations`.
  void Report(benchmark::State& state, int64_t operations) const;

 private:
  int fd_;
  uint64_t start_ = 0;
};

}  // namespace kvd::bench
