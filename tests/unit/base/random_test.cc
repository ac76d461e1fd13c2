#include "base/random.h"

#include <gtest/gtest.h>

#include <vector>

namespace kvd::base {
namespace {

TEST(Random, SameSeed_SameDraws) {
  Random a(42), b(42), c(43);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const uint64_t x = a.Next();
    EXPECT_EQ(x, b.Next());
    differs |= x != c.Next();
  }
  EXPECT_TRUE(differs);
}

TEST(Random, Split_DependsOnPurposeNotOnDraws) {
  Random fresh(1), drawn(1);
  for (int i = 0; i < 10; ++i) drawn.Next();
  EXPECT_EQ(fresh.Split("net").Next(), drawn.Split("net").Next());
  EXPECT_NE(fresh.Split("net").Next(), fresh.Split("disk").Next());
  EXPECT_NE(fresh.Split("ab").Next(), fresh.Split("ba").Next());
}

TEST(Random, Below_IsRoughlyUniform) {
  Random random(3);
  std::vector<int> seen(10);
  for (int i = 0; i < 100'000; ++i) ++seen[random.Below(10)];
  for (int count : seen) EXPECT_NEAR(count, 10'000, 600);
}

TEST(Random, Between_ReachesBothEnds) {
  Random random(3);
  bool low = false, high = false;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t x = random.Between(5, 8);
    ASSERT_GE(x, 5u);
    ASSERT_LE(x, 8u);
    low |= x == 5;
    high |= x == 8;
  }
  EXPECT_TRUE(low && high);
  random.Between(0, UINT64_MAX);
}

TEST(Random, Chance_AtTheEnds_IsCertain) {
  Random random(9);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_FALSE(random.Chance(0));
    EXPECT_TRUE(random.Chance(1));
    const double unit = random.Unit();
    EXPECT_GE(unit, 0);
    EXPECT_LT(unit, 1);
  }
}

TEST(Random, SystemSeed_Varies) {
  EXPECT_NE(SystemSeed(), SystemSeed());
}

}  // namespace
}  // namespace kvd::base
