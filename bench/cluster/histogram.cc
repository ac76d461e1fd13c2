#include "histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace kvd::bench {

size_t Histogram::BucketOf(uint64_t value) {
  if (value < kExact) return value;
  const int shift = std::bit_width(value) - kExactBits;
  return kExact + static_cast<size_t>(shift - 1) * kHalf + ((value >> shift) - kHalf);
}

uint64_t Histogram::UpperBound(size_t bucket) {
  if (bucket < kExact) return bucket;
  const size_t shift = (bucket - kExact) / kHalf + 1;
  const uint64_t top = (bucket - kExact) % kHalf + kHalf;
  return ((top + 1) << shift) - 1;
}

void Histogram::Record(uint64_t value) {
  value = std::min(value, kMaxValue);
  ++buckets_[BucketOf(value)];
  ++count_;
  max_ = std::max(max_, value);
  sum_ += static_cast<double>(value);
}

void Histogram::Merge(const Histogram& other) {
  for (size_t i = 0; i < kBuckets; ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  max_ = std::max(max_, other.max_);
  sum_ += other.sum_;
}

void Histogram::Clear() {
  *this = Histogram();
}

double Histogram::Mean() const {
  return count_ == 0 ? 0 : sum_ / static_cast<double>(count_);
}

uint64_t Histogram::Percentile(double percent) const {
  const auto wanted =
      std::max<uint64_t>(1, static_cast<uint64_t>(std::ceil(percent / 100 * static_cast<double>(count_))));
  uint64_t seen = 0;
  for (size_t i = 0; i < kBuckets && count_ > 0; ++i) {
    seen += buckets_[i];
    if (seen >= wanted) return std::min(UpperBound(i), max_);
  }
  return max_;
}

}  // namespace kvd::bench
