// The raft checker finds what it is there for. Members here are nothing but the events that they tell.
#include "raft_checker.h"

#include <gtest/gtest.h>

#include "raft/memory_log.h"

namespace kvd::sim {
namespace {

using raft::Index;
using raft::NodeId;
using raft::Role;
using raft::Term;
namespace trace = raft::trace;

class RaftCheckerTest : public testing::Test {
 protected:
  RaftCheckerTest() {
    for (NodeId id : {1, 2, 3}) Start(id, {});
  }
  bool Start(NodeId id, const raft::HardState& hard, std::vector<raft::Entry> entries = {},
             bool lied = false) {
    raft::MemoryLog log;
    log.Append(entries);
    return checker_.OnStart(id, hard, log, lied);
  }
  static raft::Entry Entry(Index index, Term term, raft::EntryType type = raft::EntryType::kNormal) {
    return {term, index, type, base::SharedBytes(std::string("e"))};
  }
  void Lead(NodeId id, Term term) {
    checker_.OnEvent(id, trace::RoleChanged{Role::kCandidate, Role::kLeader, term, id});
  }
  void Append(NodeId id, Term term, std::vector<raft::Entry> entries) {
    checker_.OnEvent(id, trace::EntriesAppended{term, entries.front().index, entries.back().index, entries});
  }
  void Commit(NodeId id, Index index, Term term) { checker_.OnEvent(id, trace::CommitAdvanced{index, term}); }
  void Answer(NodeId from, raft::MessageType type, Term term, Index index, NodeId to = 1) {
    checker_.OnSend({.type = type, .to = to, .from = from, .term = term, .index = index});
  }

  Verdict verdict_;
  RaftChecker checker_{verdict_};
};

TEST_F(RaftCheckerTest, AGoodTerm_Passes) {
  Lead(1, 2);
  Append(1, 2, {Entry(1, 2), Entry(2, 2)});
  Append(2, 2, {Entry(1, 2), Entry(2, 2)});
  Answer(2, raft::MessageType::kAppResp, 2, 2);
  Commit(1, 2, 2);
  Commit(2, 2, 2);
  EXPECT_TRUE(Start(2, {.term = 2, .commit = 2}, {Entry(1, 2), Entry(2, 2)}));
  Lead(2, 3);
  Append(2, 3, {Entry(3, 3)});
  EXPECT_FALSE(verdict_.failed()) << verdict_.what();
  EXPECT_EQ(checker_.committed(), 2u);
}

TEST_F(RaftCheckerTest, TwoLeadersOfATerm) {
  Lead(1, 2);
  Lead(3, 2);
  EXPECT_EQ(verdict_.checker(), "one leader");
}

TEST_F(RaftCheckerTest, LogsThatDifferAtOneEntry) {
  Append(1, 2, {Entry(1, 2)});
  Append(2, 2, {Entry(1, 2, raft::EntryType::kConfChange)});
  EXPECT_EQ(verdict_.checker(), "log matching");
}

TEST_F(RaftCheckerTest, TwoCommitsOfOneIndex) {
  Append(1, 2, {Entry(1, 2)});
  Append(2, 3, {Entry(1, 3)});
  Commit(1, 1, 2);
  Commit(2, 1, 3);
  EXPECT_EQ(verdict_.checker(), "commit");
}

TEST_F(RaftCheckerTest, ACommittedEntryDropped) {
  Append(1, 2, {Entry(1, 2)});
  Commit(1, 1, 2);
  checker_.OnEvent(1, trace::LogTruncated{1});
  EXPECT_EQ(verdict_.checker(), "commit");
}

TEST_F(RaftCheckerTest, ALeaderWithoutACommittedEntry) {
  Lead(1, 2);
  Append(1, 2, {Entry(1, 2)});
  Append(2, 2, {Entry(1, 2)});
  Commit(1, 1, 2);
  Lead(3, 3);
  EXPECT_EQ(verdict_.checker(), "leader completeness");
}

TEST_F(RaftCheckerTest, AnOldTermCommittedByCounting) {
  Append(1, 2, {Entry(1, 2)});
  Lead(1, 3);
  Commit(1, 1, 3);
  EXPECT_EQ(verdict_.checker(), "own term");
}

TEST_F(RaftCheckerTest, TwoChangesInFlight) {
  Lead(1, 2);
  Append(1, 2, {Entry(1, 2, raft::EntryType::kConfChange)});
  Append(1, 2, {Entry(2, 2, raft::EntryType::kConfChange)});
  EXPECT_EQ(verdict_.checker(), "one change");
}

TEST_F(RaftCheckerTest, TwoVotesInOneTerm) {
  Answer(3, raft::MessageType::kVoteResp, 2, 0, 1);
  Answer(3, raft::MessageType::kVoteResp, 2, 0, 2);
  EXPECT_EQ(verdict_.checker(), "promises");
}

TEST_F(RaftCheckerTest, AForgottenVote) {
  Answer(3, raft::MessageType::kVoteResp, 2, 0, 1);
  EXPECT_FALSE(Start(3, {.term = 2}));
  EXPECT_EQ(verdict_.checker(), "promises");
}

TEST_F(RaftCheckerTest, AnAcknowledgedEntryLost_IsForgivenToADiskThatLies) {
  Append(2, 2, {Entry(1, 2)});
  Answer(2, raft::MessageType::kAppResp, 2, 1);
  EXPECT_FALSE(Start(2, {.term = 2}, {}, /*lied=*/true));
  EXPECT_FALSE(verdict_.failed());
  EXPECT_FALSE(Start(2, {.term = 2}));
  EXPECT_EQ(verdict_.checker(), "promises");
}

}  // namespace
}  // namespace kvd::sim
