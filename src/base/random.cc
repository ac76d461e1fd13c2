#include "base/random.h"

#include <sys/random.h>

#include "base/check.h"

namespace kvd::base {
namespace {

__extension__ using Uint128 = unsigned __int128;

uint64_t RotateLeft(uint64_t x, int k) {
  return (x << k) | (x >> (64 - k));
}

uint64_t SplitMix(uint64_t* state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

}  // namespace

Random::Random(uint64_t seed) : seed_(seed) {
  for (uint64_t& word : s_) word = SplitMix(&seed);
}

uint64_t Random::Next() {
  const uint64_t result = RotateLeft(s_[1] * 5, 7) * 9;
  const uint64_t t = s_[1] << 17;
  s_[2] ^= s_[0];
  s_[3] ^= s_[1];
  s_[1] ^= s_[2];
  s_[0] ^= s_[3];
  s_[2] ^= t;
  s_[3] = RotateLeft(s_[3], 45);
  return result;
}

uint64_t Random::Below(uint64_t bound) {
  KVD_CHECK(bound > 0, "nothing lies below zero");
  // The high word of a product is uniform once the few low words that would favour some results are drawn
  // again (Lemire, 2019).
  Uint128 product = static_cast<Uint128>(Next()) * bound;
  if (static_cast<uint64_t>(product) < bound) {
    const uint64_t threshold = -bound % bound;
    while (static_cast<uint64_t>(product) < threshold) product = static_cast<Uint128>(Next()) * bound;
  }
  return static_cast<uint64_t>(product >> 64);
}

uint64_t Random::Between(uint64_t low, uint64_t high) {
  KVD_CHECK(low <= high, "an interval has its ends in order");
  const uint64_t span = high - low;
  return span == UINT64_MAX ? Next() : low + Below(span + 1);
}

bool Random::Chance(double p) {
  return Unit() < p;
}

double Random::Unit() {
  return static_cast<double>(Next() >> 11) * 0x1.0p-53;
}

Random Random::Split(std::string_view purpose) const {
  uint64_t state = seed_;
  uint64_t hash = SplitMix(&state);
  for (char c : purpose) {
    state = hash ^ static_cast<unsigned char>(c);
    hash = SplitMix(&state);
  }
  state = hash ^ purpose.size();
  return Random(SplitMix(&state));
}

uint64_t SystemSeed() {
  uint64_t seed;
  KVD_CHECK(getrandom(&seed, sizeof seed, 0) == sizeof seed, "the kernel gives eight random bytes at once");
  return seed;
}

}  // namespace kvd::base
