#include "raft/quorum.h"

#include <map>

#include "base/random.h"
#include "gtest/gtest.h"

namespace kvd::raft {
namespace {

Index Committed(std::vector<Index> acked) {
  return MajorityCommitted(absl::MakeSpan(acked));
}

TEST(Quorum, MajorityCommitted_Table_QuorumthLargest) {
  EXPECT_EQ(Committed({}), kNoLimit);
  EXPECT_EQ(Committed({0}), 0);
  EXPECT_EQ(Committed({12}), 12);
  EXPECT_EQ(Committed({12, 0}), 0);
  EXPECT_EQ(Committed({12, 5}), 5);
  EXPECT_EQ(Committed({12, 5, 0}), 5);
  EXPECT_EQ(Committed({12, 5, 6}), 6);
  EXPECT_EQ(Committed({5, 5, 5}), 5);
  EXPECT_EQ(Committed({101, 104, 103, 103}), 103);
  EXPECT_EQ(Committed({101, 104, 102, 103}), 102);
  EXPECT_EQ(Committed({101, 104, 0, 0, 103}), 101);
  EXPECT_EQ(Committed({0, 0, 0, 7, 8}), 0);
}

TEST(Quorum, MajorityVote_Table) {
  EXPECT_EQ(MajorityVote(0, 0, 0), VoteResult::kWon);
  EXPECT_EQ(MajorityVote(1, 0, 0), VoteResult::kPending);
  EXPECT_EQ(MajorityVote(1, 0, 1), VoteResult::kLost);
  EXPECT_EQ(MajorityVote(1, 1, 0), VoteResult::kWon);
  EXPECT_EQ(MajorityVote(2, 1, 0), VoteResult::kPending);
  EXPECT_EQ(MajorityVote(2, 0, 1), VoteResult::kLost);
  EXPECT_EQ(MajorityVote(3, 1, 1), VoteResult::kPending);
  EXPECT_EQ(MajorityVote(3, 2, 0), VoteResult::kWon);
  EXPECT_EQ(MajorityVote(4, 2, 1), VoteResult::kPending);
  EXPECT_EQ(MajorityVote(4, 2, 2), VoteResult::kLost);
  EXPECT_EQ(MajorityVote(7, 3, 3), VoteResult::kPending);
  EXPECT_EQ(MajorityVote(7, 4, 0), VoteResult::kWon);
}

TEST(Quorum, JointVote_Table_LostIfEitherWonIfBoth) {
  const auto kPending = VoteResult::kPending, kLost = VoteResult::kLost, kWon = VoteResult::kWon;
  const VoteResult expected[3][3] = {
      {kPending, kLost, kPending}, {kLost, kLost, kLost}, {kPending, kLost, kWon}};
  for (VoteResult a : {kPending, kLost, kWon}) {
    for (VoteResult b : {kPending, kLost, kWon}) {
      EXPECT_EQ(JointVote(a, b), expected[static_cast<int>(a)][static_cast<int>(b)]);
    }
  }
}

// The definitions, word by word.
Index SlowCommitted(const std::vector<NodeId>& voters, const std::map<NodeId, Index>& acked) {
  if (voters.empty()) return kNoLimit;
  Index best = 0;
  for (const auto& [node, index] : acked) {
    size_t at_least = 0;
    for (NodeId id : voters) at_least += acked.count(id) > 0 && acked.at(id) >= index;
    if (at_least >= voters.size() / 2 + 1) best = std::max(best, index);
  }
  return best;
}

VoteResult SlowVote(const std::vector<NodeId>& voters, const std::map<NodeId, bool>& votes) {
  // Won if the missing votes cannot lose it, lost if they cannot win it.
  auto wins = [&](bool missing) {
    size_t yes = 0;
    for (NodeId id : voters) yes += votes.count(id) > 0 ? votes.at(id) : missing;
    return voters.empty() || yes > voters.size() / 2;
  };
  if (wins(false)) return VoteResult::kWon;
  return wins(true) ? VoteResult::kPending : VoteResult::kLost;
}

TEST(Quorum, RandomJointConfigs_EqualTheDefinition) {
  base::Random random(7);
  for (int i = 0; i < 50000; ++i) {
    ConfState conf;
    std::map<NodeId, Index> acked;
    std::map<NodeId, bool> votes;
    const NodeId n = random.Between(1, random.Chance(0.05) ? 40 : 9);
    for (NodeId id = 1; id <= n; ++id) {
      if (random.Chance(0.6)) conf.voters.push_back(id);
      if (random.Chance(0.3)) conf.voters_outgoing.push_back(id);
      if (random.Chance(0.8)) acked[id] = random.Below(2 * n);
      if (random.Chance(0.7)) votes[id] = random.Chance(0.5);
    }
    auto index = [&](NodeId id) { return acked.count(id) > 0 ? acked[id] : 0; };
    EXPECT_EQ(JointCommittedOf(conf, index),
              std::min(SlowCommitted(conf.voters, acked), SlowCommitted(conf.voters_outgoing, acked)));
    auto vote = [&](NodeId id) -> std::optional<bool> {
      if (votes.count(id) == 0) return std::nullopt;
      return votes[id];
    };
    const VoteResult in = SlowVote(conf.voters, votes);
    const VoteResult out = SlowVote(conf.voters_outgoing, votes);
    const VoteResult joint = in == VoteResult::kLost || out == VoteResult::kLost ? VoteResult::kLost
                             : in == VoteResult::kWon && out == VoteResult::kWon ? VoteResult::kWon
                                                                                 : VoteResult::kPending;
    EXPECT_EQ(JointVoteOf(conf, vote), joint);
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace kvd::raft
