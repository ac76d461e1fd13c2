// One seed, from a new cluster to the last check. Thread-compatible; runs share nothing.
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "swarm.h"

namespace kvd::sim {

struct RunOptions {
  bool log_events = false;  // to stdout, one line each
  base::Nanos until{0};     // stop the phase with faults here; 0: where the swarm says
};

struct RunResult {
  bool failed = false;
  std::string checker;
  std::string what;
  uint64_t trace = 0;  // equal for equal seeds
  base::Nanos simulated{0};
  uint64_t requests = 0;
  uint64_t answered = 0;
  uint64_t faults = 0;
  uint64_t events = 0;
  int64_t revisions = 0;
  uint64_t terms = 0;
};

RunResult Run(const Swarm& swarm, const RunOptions& options);

}  // namespace kvd::sim
