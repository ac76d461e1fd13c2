#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "solo.h"

namespace kvd::raft {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(ReadIndex, SingleVoter_AtOnceButNotBeforeItCommittedInItsTerm) {
  // What a crash left: entries that were acknowledged, and a commit index that was not written.
  Solo s{{.voters = 1, .log = LogOf({1, 1, 1}), .hard = {.term = 1, .vote = 1, .commit = 1}}};
  s.core().Campaign();
  std::vector<Message> out;
  while (s.core().role() != Role::kLeader) {
    s.node().TakeReady(&out);
    s.node().Persist(&out);
  }
  ASSERT_TRUE(s.core().ReadIndex("early"));
  s.node().TakeReady(&out);
  EXPECT_THAT(s.node().TakeReads(), IsEmpty());
  s.Settle();
  EXPECT_THAT(s.node().TakeReads(), ElementsAre(ReadState{4, "early"}));
  ASSERT_TRUE(s.core().ReadIndex("later"));
  s.Settle();
  EXPECT_THAT(s.node().TakeReads(), ElementsAre(ReadState{4, "later"}));
}

TEST(ReadIndex, Leader_WaitsForAQuorum_OneRoundForAll) {
  Solo s{{.voters = 5}};
  s.Lead(2);
  s.Ack(2, 1);
  s.Ack(3, 1);
  s.Settle();
  ASSERT_TRUE(s.core().ReadIndex("a"));
  ASSERT_TRUE(s.core().ReadIndex("b"));
  auto beats = OfType(s.Settle(), MessageType::kHeartbeat);
  ASSERT_THAT(beats, SizeIs(4));
  EXPECT_FALSE(beats[0].context.empty());
  const Message yes{.type = MessageType::kHeartbeatResp, .from = 2, .term = 1, .context = beats[0].context};
  s.Step(yes);
  s.Step(yes);  // the same again proves nothing
  EXPECT_THAT(s.node().TakeReads(), IsEmpty());
  Message other = yes;
  other.from = 3;
  s.Step(other);
  EXPECT_THAT(s.node().TakeReads(), ElementsAre(ReadState{1, "a"}, ReadState{1, "b"}));
}

TEST(ReadIndex, LaterRound_ReleasesTheEarlier) {
  Solo s;
  s.Lead();
  s.Ack(2, 1);
  s.Settle();
  (void)s.core().ReadIndex("a");
  s.Settle();
  (void)s.core().ReadIndex("b");
  auto beats = OfType(s.Settle(), MessageType::kHeartbeat);
  s.Step({.type = MessageType::kHeartbeatResp, .from = 2, .term = 1, .context = beats[0].context});
  EXPECT_THAT(s.node().TakeReads(), ElementsAre(ReadState{1, "a"}, ReadState{1, "b"}));
}

TEST(ReadIndex, LostRound_AskedAgainByTheNextHeartbeat) {
  Solo s;
  s.Lead();
  s.Ack(2, 1);
  s.Settle();
  (void)s.core().ReadIndex("a");
  auto lost = OfType(s.Settle(), MessageType::kHeartbeat);
  s.Tick();
  auto again = OfType(s.Settle(), MessageType::kHeartbeat);
  ASSERT_THAT(again, SizeIs(2));
  EXPECT_EQ(again[0].context, lost[0].context);
}

TEST(ReadIndex, NewLeader_WaitsForItsFirstCommit) {
  Solo s;
  s.Lead();
  ASSERT_TRUE(s.core().ReadIndex("a"));
  EXPECT_THAT(OfType(s.Settle(), MessageType::kHeartbeat), IsEmpty());
  auto beats = OfType(s.Ack(2, 1), MessageType::kHeartbeat);
  EXPECT_THAT(beats, SizeIs(2));
}

TEST(ReadIndex, LearnersAnswer_DoesNotCount) {
  Solo s{{.voters = 3, .learners = {4}}};
  s.Lead();
  s.Ack(2, 1);
  s.Settle();
  (void)s.core().ReadIndex("a");
  auto beats = OfType(s.Settle(), MessageType::kHeartbeat);
  ASSERT_THAT(beats, SizeIs(3));
  s.Step({.type = MessageType::kHeartbeatResp, .from = 4, .term = 1, .context = beats[0].context});
  EXPECT_THAT(s.node().TakeReads(), IsEmpty());
}

TEST(ReadIndex, SteppedDown_ReadsAreForgotten) {
  Solo s;
  s.Lead();
  s.Ack(2, 1);
  s.Settle();
  (void)s.core().ReadIndex("a");
  auto beats = OfType(s.Settle(), MessageType::kHeartbeat);
  s.Step({.type = MessageType::kApp, .from = 3, .term = 2});
  s.Step({.type = MessageType::kHeartbeatResp, .from = 2, .term = 1, .context = beats[0].context});
  EXPECT_THAT(s.node().TakeReads(), IsEmpty());
}

TEST(ReadIndex, Follower_AsksTheLeader) {
  TestCluster c(3);
  EXPECT_FALSE(c.core(2).ReadIndex("nobody leads"));
  c.Elect(1);
  (void)c.Propose(1, "x");
  c.Stabilize();
  ASSERT_TRUE(c.core(2).ReadIndex("mine"));
  c.Stabilize();
  EXPECT_THAT(c[2].TakeReads(), ElementsAre(ReadState{2, "mine"}));
  EXPECT_THAT(c[1].TakeReads(), IsEmpty());
}

}  // namespace
}  // namespace kvd::raft
