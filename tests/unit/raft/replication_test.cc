#include "cluster.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvd::raft {
namespace {

using ::testing::ElementsAre;

TEST(Replication, ThreeMembers_ElectAndApplyEverywhere) {
  TestCluster c(3);
  c.Elect(1);
  ASSERT_EQ(c.core(1).role(), Role::kLeader);
  ASSERT_EQ(c.Propose(1, "a"), ProposeResult::kOk);
  ASSERT_EQ(c.Propose(2, "b"), ProposeResult::kOk);
  c.Stabilize();
  for (NodeId id : {1, 2, 3}) EXPECT_THAT(c[id].Applied(), ElementsAre("a", "b")) << id;
}

TEST(Replication, SingleMember_ElectsItselfAndCommitsItsEmptyEntry) {
  TestCluster c(1);
  c.Elect(1);
  EXPECT_EQ(c.core(1).role(), Role::kLeader);
  EXPECT_EQ(c.core(1).commit(), 1);
  EXPECT_EQ(c.core(1).applied(), 1);
}

}  // namespace
}  // namespace kvd::raft
