// What the paper leaves to the implementation: limits, flow control, learners, lease, restart, refused input.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "solo.h"

namespace kvd::raft {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

Solo Led(Config config = {}, size_t voters = 3) {
  return Solo({.voters = voters, .config = config});
}

void LeadAndSettle(Solo& s) {
  s.Lead();
  s.Ack(2, 1);
  s.Ack(3, 1);
  s.Settle();
}

TEST(BackPressure, UncommittedBytes_RefusedUntilCommitted) {
  Solo s = Led({.max_uncommitted_bytes = 10});
  LeadAndSettle(s);
  EXPECT_EQ(s.Propose("123456"), ProposeResult::kOk);
  EXPECT_EQ(s.Propose("12345"), ProposeResult::kTooMuchUncommitted);
  EXPECT_EQ(s.Propose("1234"), ProposeResult::kOk);
  EXPECT_EQ(s.Propose("1"), ProposeResult::kTooMuchUncommitted);
  s.Settle();
  s.Ack(2, 3);
  EXPECT_EQ(s.Propose("more than the limit, alone"), ProposeResult::kOk);
  EXPECT_EQ(s.Propose("1"), ProposeResult::kTooMuchUncommitted);
  s.Settle();
  s.Ack(2, 4);
  EXPECT_EQ(s.Propose("1"), ProposeResult::kOk);
}

TEST(BackPressure, RefusedPayloads_AreLeftToTheCaller) {
  Solo s = Led({.max_uncommitted_bytes = 10});
  LeadAndSettle(s);
  std::vector<base::SharedBytes> payloads = {Bytes("123456"), Bytes("7890")};
  EXPECT_EQ(s.core().Propose(absl::MakeSpan(payloads)), ProposeResult::kOk);
  EXPECT_TRUE(payloads[0].empty());
  payloads = {Bytes("a"), Bytes("b")};
  EXPECT_EQ(s.core().Propose(absl::MakeSpan(payloads)), ProposeResult::kTooMuchUncommitted);
  EXPECT_EQ(payloads[0].view(), "a");
  EXPECT_EQ(payloads[1].view(), "b");
}

TEST(Proposals, Follower_ForwardsOrRefuses) {
  for (bool forward : {true, false}) {
    Solo s({.config = {.forward_proposals = forward}});
    EXPECT_EQ(s.Propose("x"), ProposeResult::kNoLeader);
    s.Step({.type = MessageType::kHeartbeat, .from = 2, .term = 1});
    EXPECT_EQ(s.Propose("x"), forward ? ProposeResult::kOk : ProposeResult::kNotLeader);
    auto sent = OfType(s.Settle(), MessageType::kProp);
    ASSERT_THAT(sent, SizeIs(forward ? 1 : 0));
    if (!forward) continue;
    EXPECT_EQ(sent[0].to, 2);
    EXPECT_EQ(sent[0].term, 0);
    EXPECT_EQ(sent[0].entries[0].data.view(), "x");
  }
}

TEST(Proposals, SecondConfChange_RefusedOrReplacedByAnEmptyEntry) {
  Solo s = Led();
  LeadAndSettle(s);
  const ConfChange change{.type = ConfChangeType::kAddLearnerNode, .node = 4};
  EXPECT_EQ(s.core().ProposeConfChange(change), ProposeResult::kOk);
  EXPECT_EQ(s.core().ProposeConfChange(change), ProposeResult::kConfChangePending);
  EXPECT_EQ(s.core().last_index(), 2);
  // Forwarded by a follower, it takes its place in the log, but changes nothing.
  Entry forwarded{.type = EntryType::kConfChange, .data = base::SharedBytes(EncodeConfChange(change))};
  s.Step({.type = MessageType::kProp, .from = 2, .entries = {MakeEntry(0, 0, "x"), forwarded}});
  const std::vector<Entry> log = s.node().LogEntries();
  ASSERT_THAT(log, SizeIs(4));
  EXPECT_EQ(log[2].data.view(), "x");
  EXPECT_EQ(log[3], MakeEntry(4, 1));
  s.Ack(2, 4);
  EXPECT_THAT(s.core().conf_state().learners, ElementsAre(4));
  EXPECT_EQ(s.core().ProposeConfChange(change), ProposeResult::kOk);
}

TEST(Proposals, NewLeader_NoConfChangeBeforeItsLogIsApplied) {
  Solo s;
  s.Lead();
  EXPECT_EQ(s.core().ProposeConfChange(ConfChange{.node = 4}), ProposeResult::kOk);  // nothing came before
  Solo t({.log = LogOf({1}), .hard = {.term = 1}});
  t.Lead();
  EXPECT_EQ(t.core().ProposeConfChange(ConfChange{.node = 4}), ProposeResult::kConfChangePending);
  t.Ack(2, 2);
  EXPECT_EQ(t.core().ProposeConfChange(ConfChange{.node = 4}), ProposeResult::kOk);
}

TEST(Proposals, BrokenConfChange_NeverEntersTheLog) {
  Solo s = Led();
  LeadAndSettle(s);
  Entry broken{.type = EntryType::kConfChange, .data = Bytes("\xff")};
  s.Step({.type = MessageType::kProp, .from = 2, .entries = {broken}});
  EXPECT_EQ(s.node().LogEntries().back(), MakeEntry(2, 1));
}

TEST(Flow, WhatComesBetweenTwoReadys_TravelsInOneAppend) {
  Solo s = Led();
  LeadAndSettle(s);
  (void)s.Propose("a");
  (void)s.Propose("b");
  std::vector<Message> out;
  s.node().TakeReady(&out);
  auto apps = OfType(out, MessageType::kApp);
  ASSERT_THAT(apps, SizeIs(2));
  EXPECT_THAT(apps[0].entries, SizeIs(2));
  // The payload is shared, not copied.
  EXPECT_EQ(apps[0].entries[0].data.data(), apps[1].entries[0].data.data());
}

TEST(Flow, MessageBytes_SplitAppends) {
  Solo s = Led({.max_message_bytes = 2 * EntryBytes(MakeEntry(1, 1, "a"))});
  LeadAndSettle(s);
  for (int i = 0; i < 5; ++i) (void)s.Propose("a");
  std::vector<size_t> sizes;
  for (const Message& m : OfType(s.Settle(), MessageType::kApp)) {
    if (m.to == 2 && !m.entries.empty()) sizes.push_back(m.entries.size());
  }
  EXPECT_THAT(sizes, ElementsAre(2, 2, 1));
}

TEST(Flow, InflightBytes_BoundTheWindow) {
  const uint64_t one = EntryBytes(MakeEntry(1, 1, "a"));
  Solo s = Led({.max_message_bytes = one, .max_inflight_bytes = 3 * one});
  LeadAndSettle(s);
  for (int i = 0; i < 10; ++i) (void)s.Propose("a");
  EXPECT_THAT(OfType(s.Settle(), MessageType::kApp), SizeIs(6));  // three to each
  EXPECT_THAT(OfType(s.Ack(2, 3), MessageType::kApp), SizeIs(2));
}

// Of messages to 2.
std::vector<Message> AppsToTwo(const std::vector<Message>& messages) {
  std::vector<Message> out;
  for (const Message& m : OfType(messages, MessageType::kApp)) {
    if (m.to == 2) out.push_back(m);
  }
  return out;
}

std::vector<Message> AckPatiently(Solo& s, NodeId from, Index index) {
  return s.Step({.type = MessageType::kAppResp,
                 .from = from,
                 .term = s.core().term(),
                 .index = index,
                 .context = std::string(kPatient)});
}

TEST(Flow, PatientFollower_HearsOfACommitWithTheNextEntries) {
  Solo s = Led();
  LeadAndSettle(s);
  (void)s.Propose("a");
  s.Settle();
  const std::vector<Message> told = AckPatiently(s, 2, 2);
  EXPECT_EQ(s.core().commit(), 2);
  EXPECT_THAT(AppsToTwo(told), IsEmpty());
  EXPECT_THAT(OfType(told, MessageType::kApp), SizeIs(1)) << "the other one has not said that it is patient";
  EXPECT_EQ(s.core().CommitToldToAll(), 1);
  (void)s.Propose("b");
  const std::vector<Message> next = AppsToTwo(s.Settle());
  ASSERT_THAT(next, SizeIs(1));
  EXPECT_EQ(next[0].commit, 2);
  EXPECT_EQ(s.core().CommitToldToAll(), 2);
}

TEST(Flow, PatientFollower_IsToldWhenAskedFor) {
  Solo s = Led();
  LeadAndSettle(s);
  (void)s.Propose("a");
  s.Settle();
  AckPatiently(s, 2, 2);
  s.core().TellCommit();
  const std::vector<Message> told = AppsToTwo(s.Settle());
  ASSERT_THAT(told, SizeIs(1));
  EXPECT_EQ(told[0].commit, 2);
  EXPECT_THAT(told[0].entries, IsEmpty());
  EXPECT_EQ(s.core().CommitToldToAll(), 2);
  // Once: what is committed next waits again.
  (void)s.Propose("b");
  s.Settle();
  EXPECT_THAT(AppsToTwo(AckPatiently(s, 2, 3)), IsEmpty());
}

TEST(Flow, FollowerThatIsNoLongerPatient_IsToldAtOnce) {
  Solo s = Led();
  LeadAndSettle(s);
  (void)s.Propose("a");
  s.Settle();
  AckPatiently(s, 2, 2);
  const std::vector<Message> told = AppsToTwo(s.Ack(2, 2));
  ASSERT_THAT(told, SizeIs(1));
  EXPECT_EQ(told[0].commit, 2);
}

TEST(Flow, PatientFollowersRead_IsToldWhatItWaitsFor) {
  Solo s = Led();
  LeadAndSettle(s);
  (void)s.Propose("a");
  s.Settle();
  AckPatiently(s, 2, 2);
  const std::vector<Message> asked =
      s.Step({.type = MessageType::kReadIndex, .from = 2, .entries = {MakeEntry(0, 0, "read")}});
  const std::vector<Message> round = OfType(asked, MessageType::kHeartbeat);
  ASSERT_THAT(round, SizeIs(2));
  const std::vector<Message> answered = s.Step(
      {.type = MessageType::kHeartbeatResp, .from = 2, .term = s.core().term(), .context = round[0].context});
  EXPECT_THAT(OfType(answered, MessageType::kReadIndexResp), SizeIs(1));
  const std::vector<Message> told = AppsToTwo(answered);
  ASSERT_THAT(told, SizeIs(1));
  EXPECT_EQ(told[0].commit, 2);
}

// A member that is removed is not spoken to any more once that is applied here.
TEST(Flow, PatientFollower_HearsOfAChangeOfTheMembershipAtOnce) {
  Solo s = Led();
  LeadAndSettle(s);
  (void)s.Propose("a");
  s.Settle();
  AckPatiently(s, 2, 2);
  EXPECT_EQ(s.core().ProposeConfChange(ConfChange{.type = ConfChangeType::kRemoveNode, .node = 2}),
            ProposeResult::kOk);
  s.Settle();
  const std::vector<Message> told = AppsToTwo(AckPatiently(s, 2, 3));
  ASSERT_THAT(told, SizeIs(1));
  EXPECT_EQ(told[0].commit, 3);
}

TEST(Flow, Follower_SaysThatItIsPatient) {
  for (bool patient : {false, true}) {
    Solo s;
    s.core().SetPatient(patient);
    const std::vector<Message> answer =
        OfType(s.Step({.type = MessageType::kApp, .from = 2, .term = 1, .entries = {MakeEntry(1, 1, "a")}}),
               MessageType::kAppResp);
    ASSERT_THAT(answer, SizeIs(1));
    EXPECT_EQ(answer[0].context, patient ? kPatient : std::string_view());
  }
}

TEST(Flow, ProbingFollower_GetsOneMessageAtATime) {
  Solo s = Led();
  s.Lead();
  s.Settle();
  (void)s.Propose("a");
  EXPECT_THAT(OfType(s.Settle(), MessageType::kApp), IsEmpty());
  s.Tick();
  EXPECT_THAT(OfType(s.Settle(), MessageType::kApp), IsEmpty());
  auto again = OfType(s.Step({.type = MessageType::kHeartbeatResp, .from = 2, .term = 1}), MessageType::kApp);
  ASSERT_THAT(again, SizeIs(1));
  EXPECT_THAT(again[0].entries, SizeIs(2));
}

TEST(Flow, UnreachableFollower_BackToProbing) {
  Solo s = Led();
  LeadAndSettle(s);
  (void)s.Propose("a");
  s.Settle();
  s.core().ReportUnreachable(2);
  const Status status = s.core().GetStatus();
  EXPECT_EQ(status.peers[1].state, ProgressState::kProbe);
  EXPECT_EQ(status.peers[1].next, 2);
}

TEST(Flow, Acknowledgements_OfOneReadyAreOne) {
  Solo s;
  for (Index i = 1; i <= 3; ++i) {
    (void)s.core().Step({.type = MessageType::kApp,
                         .to = 1,
                         .from = 2,
                         .term = 1,
                         .log_term = i == 1 ? 0ULL : 1ULL,
                         .index = i - 1,
                         .entries = {MakeEntry(i, 1)}});
  }
  std::vector<Message> out;
  const Ready& r = s.node().TakeReady(&out);
  ASSERT_THAT(r.send_after_persist, SizeIs(1));
  EXPECT_EQ(r.send_after_persist[0].index, 3);
}

TEST(Apply, BytesInFlight_Bounded) {
  Solo s({.voters = 1, .config = {.max_apply_bytes = 100, .max_committed_per_ready_bytes = 60}});
  s.Lead(0);
  for (int i = 0; i < 10; ++i) (void)s.Propose("0123456789");
  std::vector<Message> out;
  size_t handed = 0;
  while (s.node().CanTakeReady()) {
    handed += s.node().TakeReady(&out).committed.size();
    s.node().Persist(&out);
  }
  EXPECT_EQ(handed, 3);  // 34 bytes each: one at a time, until 100 are reached
  s.node().Apply();
  ASSERT_TRUE(s.node().CanTakeReady());
  s.Settle();
  EXPECT_THAT(s.node().Applied(), SizeIs(10));
}

TEST(Quorum, Leader_StepsDownWithoutOne_LearnersDoNotHelp) {
  Solo s({.voters = 3, .learners = {4}});
  LeadAndSettle(s);
  for (int i = 0; i < 21; ++i) {
    s.Tick();
    s.Step({.type = MessageType::kHeartbeatResp, .from = 4, .term = 1});
  }
  EXPECT_EQ(s.core().role(), Role::kFollower);
  EXPECT_EQ(s.core().leader(), kNoNode);
  EXPECT_EQ(s.core().term(), 1);
}

TEST(Quorum, Leader_StaysWithOne) {
  Solo s = Led();
  LeadAndSettle(s);
  for (int i = 0; i < 50; ++i) {
    s.Tick();
    s.Step({.type = MessageType::kHeartbeatResp, .from = 2, .term = 1});
  }
  EXPECT_EQ(s.core().role(), Role::kLeader);
}

TEST(Lease, Voter_IgnoresCampaignsWhileItHearsTheLeader) {
  Solo s;
  s.Step({.type = MessageType::kHeartbeat, .from = 2, .term = 1});
  for (MessageType type : {MessageType::kPreVote, MessageType::kVote}) {
    EXPECT_THAT(s.Step({.type = type, .from = 3, .term = 5}), IsEmpty());
    EXPECT_EQ(s.core().term(), 1);
  }
  // Unless the leader wants it.
  auto out = s.Step({.type = MessageType::kVote, .from = 3, .term = 5, .context = "CampaignTransfer"});
  ASSERT_THAT(out, SizeIs(1));
  EXPECT_FALSE(out[0].reject);
}

TEST(Lease, Voter_FreeAgainAfterAnElectionTimeout) {
  Solo s({.voters = 3});
  s.Step({.type = MessageType::kHeartbeat, .from = 2, .term = 1});
  s.Tick(s.node().config().election_ticks);
  auto out = OfType(s.Step({.type = MessageType::kPreVote, .from = 3, .term = 2}), MessageType::kPreVoteResp);
  ASSERT_THAT(out, SizeIs(1));
  EXPECT_FALSE(out[0].reject);
  EXPECT_EQ(out[0].term, 2);
}

TEST(Learner, NeverCampaigns_ButFollowsAndVotes) {
  TestCluster c(ConfState{.voters = {1, 2}, .learners = {3}}, Config{});
  c.Tick(3, 100);
  EXPECT_EQ(c.core(3).role(), Role::kFollower);
  c.Elect(1);
  (void)c.Propose(1, "x");
  c.Stabilize();
  EXPECT_THAT(c[3].Applied(), ElementsAre("x"));
  ASSERT_EQ(c.core(1).ProposeConfChange(ConfChange{.type = ConfChangeType::kAddNode, .node = 3}),
            ProposeResult::kOk);
  c.Stabilize();
  EXPECT_EQ(c.core(1).TransferLeadership(3), TransferResult::kStarted);
  c.Stabilize();
  EXPECT_EQ(c.core(3).role(), Role::kLeader);
}

TEST(Learner, DoesNotCountForCommit) {
  Solo s({.voters = 3, .learners = {4}});
  LeadAndSettle(s);
  (void)s.Propose("x");
  s.Settle();
  s.Ack(4, 2);
  EXPECT_EQ(s.core().commit(), 1);
  s.Ack(2, 2);
  EXPECT_EQ(s.core().commit(), 2);
}

TEST(Restart, ContinuesFromDisk) {
  TestCluster c(3);
  c.Elect(1);
  (void)c.Propose(1, "a");
  c.Stabilize();
  const HardState before = c[2].disk().hard;
  c.Restart(2);
  EXPECT_EQ(c.core(2).term(), before.term);
  EXPECT_EQ(c.core(2).role(), Role::kFollower);
  c.Stabilize();
  EXPECT_THAT(c[2].Applied(), ElementsAre("a"));
  (void)c.Propose(1, "b");
  c.Tick(1);
  c.Stabilize();
  EXPECT_THAT(c[2].Applied(), ElementsAre("a", "b"));
}

// The commit index is not synced; the state machine may be ahead of the one that is found.
TEST(Restart, AppliedAheadOfTheRecordedCommit) {
  TestCluster c(ConfState{}, Config{});
  const ConfState conf{.voters = {1}};
  TestNode& node =
      c.Add(1, conf, {.hard = {1, 1, 1}, .snapshot = {}, .log = LogOf({1, 1, 1})}, {2, 1, conf, {}});
  EXPECT_EQ(node.core().commit(), 2);
  c.Elect(1);
  EXPECT_EQ(node.core().applied(), 4);
}

TEST(Restart, UnappliedConfChange_NoCampaignBeforeItIsApplied) {
  const ConfChange change{.type = ConfChangeType::kAddNode, .node = 4};
  Entry e{.term = 1,
          .index = 1,
          .type = EntryType::kConfChange,
          .data = base::SharedBytes(EncodeConfChange(change))};
  Solo s({.log = {e}, .hard = {.term = 1, .vote = 0, .commit = 1}});
  s.core().Campaign();
  EXPECT_EQ(s.core().role(), Role::kFollower);
  s.Settle();
  s.core().Campaign();
  EXPECT_EQ(s.core().role(), Role::kPreCandidate);
}

TEST(Step, LocalMessagesAndStrangers_Ignored) {
  Solo s = Led();
  LeadAndSettle(s);
  for (MessageType type :
       {MessageType::kHup, MessageType::kBeat, MessageType::kUnreachable, MessageType::kSnapStatus,
        MessageType::kCheckQuorum, MessageType::kStorageAppendResp}) {
    EXPECT_EQ(s.core().Step({.type = type, .to = 1, .from = 2, .term = 1}), StepResult::kIgnored);
  }
  EXPECT_EQ(s.core().Step({.type = MessageType::kAppResp, .to = 1, .from = 9, .term = 1}),
            StepResult::kIgnored);
  EXPECT_EQ(s.core().Step({.type = MessageType::kHeartbeatResp, .to = 2, .from = 3, .term = 1}),
            StepResult::kIgnored);
  EXPECT_EQ(s.core().role(), Role::kLeader);
}

TEST(Snapshot, Member_NotInIt_Ignores) {
  Solo s;
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->meta = {10, 2, ConfState{.voters = {2, 3}}};
  auto out = s.Step({.type = MessageType::kSnap, .from = 2, .term = 2, .snapshot = snapshot});
  ASSERT_THAT(out, SizeIs(1));
  EXPECT_EQ(out[0].index, 0);
  EXPECT_EQ(s.core().last_index(), 0);
}

TEST(Snapshot, LogHoldsIt_CommitMovesOn) {
  Solo s({.log = LogOf({1, 1, 1}), .hard = {.term = 1}});
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->meta = {2, 1, ConfState{.voters = {1, 2, 3}}};
  auto out = s.Step({.type = MessageType::kSnap, .from = 2, .term = 2, .snapshot = snapshot});
  EXPECT_EQ(s.core().commit(), 2);
  EXPECT_EQ(s.core().last_index(), 3);
  ASSERT_THAT(out, SizeIs(1));
  EXPECT_EQ(out[0].index, 2);
}

TEST(Snapshot, UntilItIsWritten_NoCampaign) {
  Solo s;
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->meta = {10, 2, ConfState{.voters = {1, 2, 3}}};
  (void)s.core().Step({.type = MessageType::kSnap, .to = 1, .from = 2, .term = 2, .snapshot = snapshot});
  s.node().fetch_snapshot = [](const SnapshotMeta& m) {
    return TestMachine{m.index, m.term, m.conf_state, {}};
  };
  s.Tick(40);
  EXPECT_EQ(s.core().role(), Role::kFollower);
  s.Settle();
  EXPECT_EQ(s.core().applied(), 10);
  s.Tick(40);
  EXPECT_EQ(s.core().role(), Role::kPreCandidate);
}

TEST(Snapshot, NotForAFollowerThatIsNotThere_NorWhileThereIsNone) {
  Solo s;
  LeadAndSettle(s);
  for (int i = 0; i < 4; ++i) (void)s.Propose("x");
  s.Settle();
  s.Ack(2, 5);
  s.node().Compact();
  s.Tick(s.node().config().election_ticks);  // 3 has not been heard of since the last check
  s.Step({.type = MessageType::kHeartbeatResp, .from = 2, .term = 1});
  s.core().ReportUnreachable(3);
  EXPECT_THAT(OfType(s.Settle(), MessageType::kSnap), IsEmpty());
  s.node().log().SetSnapshotToSend(std::nullopt);
  EXPECT_THAT(OfType(s.Step({.type = MessageType::kHeartbeatResp, .from = 3, .term = 1}), MessageType::kSnap),
              IsEmpty());
  s.node().log().SetSnapshotToSend(SnapshotMeta{5, 1, s.core().conf_state()});
  EXPECT_THAT(OfType(s.Settle(), MessageType::kSnap), SizeIs(1));
}

}  // namespace
}  // namespace kvd::raft
