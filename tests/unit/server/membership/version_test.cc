#include "server/membership/version.h"

#include "gtest/gtest.h"

namespace kvd::server {
namespace {

TEST(Version, ParsesAndPrints) {
  auto version = ParseVersion("3.7.1");
  ASSERT_TRUE(version.ok());
  EXPECT_EQ(*version, (Version{3, 7, 1}));
  EXPECT_EQ(version->ToString(), "3.7.1");
  EXPECT_EQ(version->Cluster().ToString(), "3.7.0");
  EXPECT_EQ(ParseVersion("3.6.0-rc.1")->minor, 6);
  for (const char* bad : {"", "3", "3.7", "3.7.", "a.b.c", "3.7.1.2", "-3.7.1", "3.+7.1", "not_decided"}) {
    EXPECT_FALSE(ParseVersion(bad).ok()) << bad;
  }
}

TEST(Version, OrdersByNumber) {
  EXPECT_LT((Version{3, 9, 0}), (Version{3, 10, 0}));
  EXPECT_LT(kMinClusterVersion, ServerVersion());
}

}  // namespace
}  // namespace kvd::server
