#include "cluster.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvd::raft {
namespace {

class TransferTest : public testing::Test {
 protected:
  TransferTest() { c_.Elect(1); }
  void ExpectLeader(NodeId id) {
    EXPECT_EQ(c_.core(id).role(), Role::kLeader);
    EXPECT_EQ(c_.core(1).leader(), id);
    EXPECT_EQ(c_.core(id).GetStatus().transferee, kNoNode);
  }
  // The others go on hearing from 1, and 1 from them, for `ticks` ticks of 1.
  void Pass(int ticks) {
    for (int i = 0; i < ticks; ++i) {
      c_.Tick(1);
      c_.Stabilize();
    }
  }
  TestCluster c_{3};
};

TEST_F(TransferTest, ToUpToDateMember_TakesOverAtOnce) {
  EXPECT_EQ(c_.core(1).TransferLeadership(2), TransferResult::kStarted);
  c_.Stabilize();
  ExpectLeader(2);
  EXPECT_EQ(c_.core(2).TransferLeadership(1), TransferResult::kStarted);
  c_.Stabilize();
  ExpectLeader(1);
}

TEST_F(TransferTest, AskedOfAFollower_PassedOnToTheLeader) {
  EXPECT_EQ(c_.core(3).TransferLeadership(2), TransferResult::kStarted);
  c_.Stabilize();
  ExpectLeader(2);
}

TEST_F(TransferTest, ByAFollowerToItself) {
  EXPECT_EQ(c_.core(2).TransferLeadership(2), TransferResult::kStarted);
  c_.Stabilize();
  ExpectLeader(2);
}

TEST_F(TransferTest, ToSlowFollower_CatchesUpFirst) {
  c_.Isolate(3);
  ASSERT_EQ(c_.Propose(1, "a"), ProposeResult::kOk);
  c_.Stabilize();
  c_.Heal();
  EXPECT_EQ(c_.core(1).TransferLeadership(3), TransferResult::kStarted);
  Pass(3);
  ExpectLeader(3);
  EXPECT_THAT(c_[3].Applied(), testing::ElementsAre("a"));
}

TEST_F(TransferTest, ToFollowerThatNeedsASnapshot) {
  c_.Isolate(3);
  ASSERT_EQ(c_.Propose(1, "a"), ProposeResult::kOk);
  c_.Stabilize();
  c_[1].Compact();
  c_.Heal();
  EXPECT_EQ(c_.core(1).TransferLeadership(3), TransferResult::kStarted);
  Pass(5);
  ExpectLeader(3);
  EXPECT_THAT(c_[3].Applied(), testing::ElementsAre("a"));
}

TEST_F(TransferTest, ToItself_Nothing) {
  EXPECT_EQ(c_.core(1).TransferLeadership(1), TransferResult::kAlreadyLeader);
  ExpectLeader(1);
}

TEST_F(TransferTest, ToUnknownMember_Refused) {
  EXPECT_EQ(c_.core(1).TransferLeadership(4), TransferResult::kNotMember);
  ExpectLeader(1);
}

TEST_F(TransferTest, WithoutLeader_Refused) {
  c_.core(2).ForgetLeader();
  EXPECT_EQ(c_.core(2).TransferLeadership(3), TransferResult::kNoLeader);
}

TEST_F(TransferTest, TargetSilent_GivenUpAfterAnElectionTimeout) {
  c_.Isolate(3);
  EXPECT_EQ(c_.core(1).TransferLeadership(3), TransferResult::kStarted);
  Pass(9);
  EXPECT_EQ(c_.core(1).GetStatus().transferee, 3);
  Pass(1);
  ExpectLeader(1);
  EXPECT_EQ(c_.Propose(1, "later"), ProposeResult::kOk);
}

TEST_F(TransferTest, ProposalsMeanwhile_Refused) {
  c_.Isolate(3);
  EXPECT_EQ(c_.core(1).TransferLeadership(3), TransferResult::kStarted);
  EXPECT_EQ(c_.Propose(1, "x"), ProposeResult::kTransferring);
  EXPECT_EQ(c_.Propose(2, "y"), ProposeResult::kOk);  // sent on, and dropped by the leader
  c_.Stabilize();
  EXPECT_EQ(c_.core(1).last_index(), 1);
}

TEST_F(TransferTest, HigherTermMeanwhile_Over) {
  c_.Isolate(3);
  EXPECT_EQ(c_.core(1).TransferLeadership(3), TransferResult::kStarted);
  (void)c_.core(1).Step({.type = MessageType::kVote,
                         .to = 1,
                         .from = 2,
                         .term = 9,
                         .log_term = 9,
                         .index = 9,
                         .context = "CampaignTransfer"});
  c_.Settle();
  EXPECT_EQ(c_.core(1).GetStatus().transferee, kNoNode);
  EXPECT_EQ(c_.core(1).role(), Role::kFollower);
}

TEST_F(TransferTest, TargetRemoved_Aborted) {
  c_.Isolate(3);
  ASSERT_EQ(c_.core(1).ProposeConfChange(ConfChange{.type = ConfChangeType::kRemoveNode, .node = 3}),
            ProposeResult::kOk);
  EXPECT_EQ(c_.core(1).TransferLeadership(3), TransferResult::kStarted);
  c_.Stabilize();
  ExpectLeader(1);
  EXPECT_EQ(c_.Propose(1, "x"), ProposeResult::kOk);
}

TEST_F(TransferTest, TargetDemoted_Aborted) {
  c_.Isolate(3);
  ASSERT_EQ(c_.core(1).ProposeConfChange(ConfChange{.type = ConfChangeType::kAddLearnerNode, .node = 3}),
            ProposeResult::kOk);
  EXPECT_EQ(c_.core(1).TransferLeadership(3), TransferResult::kStarted);
  c_.Stabilize();
  ExpectLeader(1);
  EXPECT_EQ(c_.core(1).TransferLeadership(3), TransferResult::kNotMember);
}

TEST_F(TransferTest, SecondTarget_ReplacesTheFirst) {
  c_.Isolate(3);
  EXPECT_EQ(c_.core(1).TransferLeadership(3), TransferResult::kStarted);
  EXPECT_EQ(c_.core(1).TransferLeadership(2), TransferResult::kStarted);
  c_.Stabilize();
  ExpectLeader(2);
}

TEST_F(TransferTest, SameTargetAgain_DoesNotProlong) {
  c_.Isolate(3);
  EXPECT_EQ(c_.core(1).TransferLeadership(3), TransferResult::kStarted);
  Pass(9);
  EXPECT_EQ(c_.core(1).TransferLeadership(3), TransferResult::kStarted);
  Pass(1);
  ExpectLeader(1);
}

// The voters have just heard of their leader; the campaign it asked for passes all the same.
TEST_F(TransferTest, VotersInLease_GrantAllTheSame) {
  Pass(1);
  c_.dropped_types.insert(MessageType::kHeartbeat);
  EXPECT_EQ(c_.core(1).TransferLeadership(3), TransferResult::kStarted);
  c_.Stabilize();
  EXPECT_EQ(c_.core(3).role(), Role::kLeader);
  EXPECT_EQ(c_.core(2).leader(), 3);
}

TEST_F(TransferTest, RemovedTarget_MayNotCampaign) {
  ASSERT_EQ(c_.core(1).ProposeConfChange(ConfChange{.type = ConfChangeType::kRemoveNode, .node = 3}),
            ProposeResult::kOk);
  c_.Stabilize();
  c_.Tick(1);
  c_.Stabilize();
  const Term term = c_.core(3).term();
  (void)c_.core(3).Step({.type = MessageType::kTimeoutNow, .to = 3, .from = 1, .term = term});
  EXPECT_EQ(c_.core(3).term(), term);
}

}  // namespace
}  // namespace kvd::raft
