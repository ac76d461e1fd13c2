// Seeded randomness. A component draws only from the source that it was given; a source is split per
// component and purpose, so that one more draw in one place does not shift the others.
#pragma once

#include <cstdint>
#include <string_view>

namespace kvd::base {

// xoshiro256** seeded through splitmix64 (Blackman and Vigna, 2018). Thread-compatible.
class Random {
 public:
  explicit Random(uint64_t seed);
  uint64_t Next();
  // Uniform in [0, bound). REQUIRES: bound > 0.
  uint64_t Below(uint64_t bound);
  // Uniform in [low, high]. REQUIRES: low <= high.
  uint64_t Between(uint64_t low, uint64_t high);
  // True with probability p, 0 <= p <= 1.
  bool Chance(double p);
  double Unit();  // in [0, 1)
  // An independent source that depends on this one's seed and on `purpose`, not on what has been drawn from
  // it.
  Random Split(std::string_view purpose) const;

 private:
  uint64_t seed_;
  uint64_t s_[4];
};

// A seed from the operating system, for the process's own sources.
uint64_t SystemSeed();

}  // namespace kvd::base
