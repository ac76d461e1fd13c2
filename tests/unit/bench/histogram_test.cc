#include "histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/random.h"

namespace kvd::bench {
namespace {

TEST(Histogram, Empty_IsZero) {
  const Histogram h;
  EXPECT_EQ(h.count(), 0);
  EXPECT_EQ(h.Percentile(50), 0);
  EXPECT_EQ(h.Percentile(100), 0);
  EXPECT_EQ(h.Mean(), 0);
}

TEST(Histogram, SmallValues_AreExact) {
  Histogram h;
  for (uint64_t v = 0; v < 200; ++v) h.Record(v);
  EXPECT_EQ(h.Percentile(0.5), 0);
  EXPECT_EQ(h.Percentile(50), 99);
  EXPECT_EQ(h.Percentile(99), 197);
  EXPECT_EQ(h.Percentile(100), 199);
  EXPECT_DOUBLE_EQ(h.Mean(), 99.5);
}

// Against the sorted values, over the whole range: never below, and at most 1 % above.
TEST(Histogram, Percentiles_AgreeWithSortedValues) {
  base::Random random(7);
  std::vector<uint64_t> values;
  Histogram h;
  for (int i = 0; i < 50'000; ++i) {
    const uint64_t value = random.Next() >> random.Between(21, 63);
    values.push_back(value);
    h.Record(value);
  }
  std::sort(values.begin(), values.end());
  for (const double percent : {0.01, 1.0, 10.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0}) {
    const auto rank = static_cast<size_t>(std::ceil(percent / 100 * static_cast<double>(values.size())));
    const auto exact = static_cast<double>(values[rank - 1]);
    const auto told = static_cast<double>(h.Percentile(percent));
    EXPECT_GE(told, exact) << percent;
    EXPECT_LE(told, exact * 1.01 + 1) << percent;
  }
  EXPECT_EQ(h.max(), values.back());
}

TEST(Histogram, EveryPowerOfTwo_IsInItsOwnBucket) {
  for (int bit = 0; bit < 43; ++bit) {
    const uint64_t value = uint64_t{1} << bit;
    Histogram h;
    h.Record(value - 1);
    h.Record(value);
    EXPECT_EQ(h.Percentile(50), value - 1) << bit;
    EXPECT_EQ(h.Percentile(100), value) << bit;
  }
}

TEST(Histogram, TooLarge_CountsAsTheLargest) {
  Histogram h;
  h.Record(UINT64_MAX);
  EXPECT_EQ(h.max(), Histogram::kMaxValue);
  EXPECT_EQ(h.Percentile(100), Histogram::kMaxValue);
}

TEST(Histogram, Merge_IsAsIfRecordedInOne) {
  Histogram a, b, both;
  for (uint64_t i = 0; i < 1000; ++i) {
    (i % 3 == 0 ? a : b).Record(i * i);
    both.Record(i * i);
  }
  a.Merge(b);
  EXPECT_EQ(a.count(), both.count());
  EXPECT_EQ(a.max(), both.max());
  EXPECT_EQ(a.Percentile(99), both.Percentile(99));
  EXPECT_DOUBLE_EQ(a.Mean(), both.Mean());
}

}  // namespace
}  // namespace kvd::bench
