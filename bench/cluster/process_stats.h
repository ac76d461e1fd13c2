// What the servers under load have used, from /proc.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "report.h"

namespace kvd::bench {

// Sums over processes.
struct ProcessUse {
  double cpu_seconds = 0;
  uint64_t resident_bytes = 0;
  uint64_t peak_bytes = 0;     // sum of each one's highest resident size since ResetPeaks (or its start)
  uint64_t written_bytes = 0;  // handed to block devices
};

class ProcessStats {
 public:
  // Process ids in decimal. One that is not there counts nothing.
  explicit ProcessStats(std::vector<std::string> pids) : pids_(std::move(pids)) {}

  bool empty() const { return pids_.empty(); }
  ProcessUse Sample() const;
  void ResetPeaks() const;

 private:
  const std::vector<std::string> pids_;
};

// User and system time of this process.
double OwnCpuSeconds();

// CPU per operation, peak memory and bytes written of the servers between two samples.
void ReportUse(const ProcessUse& before, const ProcessUse& after, double operations, Report* report);

}  // namespace kvd::bench
