// Clusters of whole members under a seeded schedule.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "sim_cluster.h"

namespace kvd::server {
namespace {

using sim::SimCluster;

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(NodeCluster, SingleMember_ElectsItself_AndServes) {
  SimCluster cluster({.members = 1, .seed = 7});
  ASSERT_TRUE(cluster.WaitForLeader());
  auto put = cluster.Put(0, "a", "1");
  ASSERT_TRUE(cluster.RunUntil([&] { return put->finished; }));
  EXPECT_EQ(put->outcome.error, Error::kOk);
  EXPECT_EQ(put->outcome.revision, 2);
  auto get = cluster.Get(0, "a");
  ASSERT_TRUE(cluster.RunUntil([&] { return get->finished; }));
  EXPECT_EQ(get->value, "1");
}

TEST(NodeCluster, ThreeMembers_AnswerOnLeaderAndFollowers) {
  SimCluster cluster({.members = 3, .seed = 11});
  ASSERT_TRUE(cluster.WaitForLeader());
  for (size_t i = 0; i < 3; ++i) {
    auto put = cluster.Put(i, "k" + std::to_string(i), "v");
    ASSERT_TRUE(cluster.RunUntil([&] { return put->finished; }));
    ASSERT_EQ(put->outcome.error, Error::kOk);
    EXPECT_EQ(put->outcome.revision, static_cast<int64_t>(2 + i));
    for (size_t k = 0; k < 3; ++k) {
      auto get = cluster.Get(k, "k" + std::to_string(i));
      ASSERT_TRUE(cluster.RunUntil([&] { return get->finished; }));
      EXPECT_TRUE(get->found) << "a write that was answered is read on every member";
    }
  }
  ASSERT_TRUE(cluster.RunUntil([&] { return cluster.Converged(); }));
  // Every member has told its name, and the cluster has a version.
  ASSERT_TRUE(cluster.RunUntil([&] {
    auto view = cluster.node(0).cluster().View();
    return view->version && std::all_of(view->members.begin(), view->members.end(),
                                        [](const auto& m) { return m.second.IsStarted(); });
  }));
  EXPECT_TRUE(cluster.node(0).ready());
}

class NoSink final : public WatchSink {
 public:
  void Send(ResponseBatch) override {}
  size_t queued_bytes() override { return 0; }
  void Finish(absl::StatusCode, std::string_view) override {}
};

// How often a follower applies something while the leader takes 200 puts within 100 ms.
size_t BatchesOfAFollower(SimCluster& cluster, size_t follower) {
  const size_t leader = *cluster.Leader();
  size_t batches = 0;
  raft::Index before = cluster.node(follower).applier().applied_index();
  for (int i = 0; i < 200; ++i) {
    cluster.Put(leader, "k", "v");
    for (int k = 0; k < 5; ++k) {
      cluster.RunFor(std::chrono::microseconds(100));
      if (const raft::Index now = cluster.node(follower).applier().applied_index(); now != before) {
        before = now;
        ++batches;
      }
    }
  }
  return batches;
}

TEST(NodeCluster, FollowerWhereNobodyWaits_AppliesAtIntervals) {
  SimCluster cluster({.members = 3, .seed = 12, .max_delay = std::chrono::microseconds(100)});
  ASSERT_TRUE(cluster.WaitForLeader());
  ASSERT_TRUE(cluster.RunUntil([&] { return cluster.Converged() && cluster.node(0).ready(); }));
  cluster.RunFor(seconds(2));
  const size_t follower = (*cluster.Leader() + 1) % 3;
  EXPECT_LE(BatchesOfAFollower(cluster, follower), 40u);
  // Before the next heartbeat has all of it.
  cluster.RunFor(milliseconds(12));
  EXPECT_TRUE(cluster.Converged());
  // A client that watches there is not kept waiting.
  auto stream = cluster.node(follower).watch_hub().Open(std::make_shared<NoSink>());
  EXPECT_GE(BatchesOfAFollower(cluster, follower), 80u);
}

TEST(NodeCluster, FollowersRead_DoesNotWaitForTheInterval) {
  SimCluster cluster({.members = 3, .seed = 14, .max_delay = std::chrono::microseconds(100)});
  ASSERT_TRUE(cluster.WaitForLeader());
  ASSERT_TRUE(cluster.RunUntil([&] { return cluster.Converged() && cluster.node(0).ready(); }));
  cluster.RunFor(seconds(2));
  const size_t leader = *cluster.Leader();
  for (int i = 0; i < 20; ++i) {
    auto put = cluster.Put(leader, "k", std::to_string(i));
    ASSERT_TRUE(cluster.RunUntil([&] { return put->finished; }));
    auto get = cluster.Get((leader + 1) % 3, "k");
    EXPECT_TRUE(cluster.RunUntil([&] { return get->finished; }, std::chrono::microseconds(1500)));
    EXPECT_EQ(get->value, std::to_string(i));
  }
}

TEST(NodeCluster, LeaderGone_OthersGoOn) {
  SimCluster cluster({.members = 3, .seed = 13});
  ASSERT_TRUE(cluster.WaitForLeader());
  size_t old = *cluster.Leader();
  cluster.Kill(old);
  ASSERT_TRUE(cluster.WaitForLeader());
  size_t other = (old + 1) % 3;
  auto put = cluster.Put(other, "after", "x");
  ASSERT_TRUE(cluster.RunUntil([&] { return put->finished; }));
  EXPECT_EQ(put->outcome.error, Error::kOk);
  cluster.Restart(old);
  ASSERT_TRUE(cluster.RunUntil([&] { return cluster.Converged(); }));
  std::string record;
  EXPECT_TRUE(cluster.node(old).store().GetAt("after", 0, &record));
}

TEST(NodeCluster, NoQuorum_RequestsTimeOut_SerializableStateStays) {
  SimCluster cluster({.members = 3, .seed = 17});
  ASSERT_TRUE(cluster.WaitForLeader());
  size_t leader = *cluster.Leader();
  cluster.Isolate(leader, true);
  auto put = cluster.Put(leader, "lost", "x");
  auto get = cluster.Get(leader, "lost");
  ASSERT_TRUE(cluster.RunUntil([&] { return put->finished && get->finished; }));
  EXPECT_NE(put->outcome.error, Error::kOk);
  EXPECT_NE(get->error, Error::kOk);
  EXPECT_EQ(ErrorCode(put->outcome.error), 14) << "UNAVAILABLE";
  EXPECT_FALSE(cluster.node(leader).is_leader()) << "it stepped down without a quorum";
}

TEST(NodeCluster, Lease_ExpiresWithItsKeys_OnEveryMember) {
  SimCluster cluster({.members = 3, .seed = 19});
  ASSERT_TRUE(cluster.WaitForLeader());
  std::string grant;
  AppendInt64Field(grant, 1, 5);
  AppendInt64Field(grant, 2, 77);
  auto granted = cluster.Propose(0, RequestField::kLeaseGrant, grant);
  ASSERT_TRUE(cluster.RunUntil([&] { return granted->finished; }));
  ASSERT_EQ(granted->outcome.error, Error::kOk);
  auto put = cluster.Put(1, "leased", "x", 77);
  ASSERT_TRUE(cluster.RunUntil([&] { return put->finished; }));
  ASSERT_EQ(put->outcome.error, Error::kOk);
  cluster.RunFor(seconds(3));
  std::string record;
  EXPECT_TRUE(cluster.node(0).store().GetAt("leased", 0, &record)) << "it has not expired yet";
  // Renewed through a follower, it lives on.
  size_t follower = (*cluster.Leader() + 1) % 3;
  int64_t ttl = 0;
  cluster.node(follower).RenewLease(77, [&](Error, int64_t t) { ttl = t; });
  ASSERT_TRUE(cluster.RunUntil([&] { return ttl == 5; }));
  cluster.RunFor(seconds(4));
  EXPECT_TRUE(cluster.node(0).store().GetAt("leased", 0, &record));
  ASSERT_TRUE(cluster.RunUntil([&] { return !cluster.node(0).store().GetAt("leased", 0, &record); }));
  ASSERT_TRUE(cluster.RunUntil([&] { return cluster.Converged(); }));
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(cluster.node(i).lessor().size(), 0u);
}

// Whoever takes over does not know yet that the log has cleared an old checkpoint when it becomes leader; the
// renewal that was answered counts all the same.
TEST(NodeCluster, RenewalOfACheckpointedLease_OutlivesItsLeader) {
  SimCluster::Options options{.members = 3, .seed = 59};
  options.node.lease_checkpoints = true;
  options.node.limits.lease_checkpoint_interval = milliseconds(500);
  SimCluster cluster(options);
  ASSERT_TRUE(cluster.WaitForLeader());
  std::string grant;
  AppendInt64Field(grant, 1, 20);
  AppendInt64Field(grant, 2, 77);
  auto granted = cluster.Propose(0, RequestField::kLeaseGrant, grant);
  ASSERT_TRUE(cluster.RunUntil([&] { return granted->finished; }));
  cluster.RunFor(seconds(16));  // 4 seconds are left, and recorded
  const size_t old = *cluster.Leader();
  int64_t ttl = 0;
  cluster.node(old).RenewLease(77, [&](Error, int64_t t) { ttl = t; });
  ASSERT_TRUE(cluster.RunUntil([&] { return ttl == 20; }));
  cluster.Isolate(old, true);
  cluster.RunFor(seconds(16));
  EXPECT_EQ(cluster.node((old + 1) % 3).lessor().size(), 1u);
  ASSERT_TRUE(cluster.RunUntil([&] { return cluster.node((old + 1) % 3).lessor().size() == 0; }));
}

TEST(NodeCluster, LeadershipMoves) {
  SimCluster cluster({.members = 3, .seed = 23});
  ASSERT_TRUE(cluster.WaitForLeader());
  size_t from = *cluster.Leader();
  size_t to = (from + 1) % 3;
  std::optional<Error> result;
  cluster.node(from).MoveLeader(cluster.node(to).member_id(), [&](Error error) { result = error; });
  ASSERT_TRUE(cluster.RunUntil([&] { return result.has_value(); }));
  EXPECT_EQ(*result, Error::kOk);
  EXPECT_TRUE(cluster.RunUntil([&] { return cluster.node(to).is_leader(); }));
  result.reset();
  cluster.node(from).MoveLeader(cluster.node(to).member_id(), [&](Error error) { result = error; });
  EXPECT_EQ(result, Error::kNotLeader);
}

// A member that was away while the others cut their logs comes back by snapshot, and then by log.
TEST(NodeCluster, MemberFarBehind_CatchesUpBySnapshot) {
  SimCluster cluster({.members = 3, .seed = 29});
  ASSERT_TRUE(cluster.WaitForLeader());
  size_t away = (*cluster.Leader() + 1) % 3;
  cluster.Isolate(away, true);
  size_t leader = *cluster.Leader();
  for (int i = 0; i < 3000; ++i) {
    auto put = cluster.Put(leader, "k" + std::to_string(i % 100), std::to_string(i));
    ASSERT_TRUE(cluster.RunUntil([&] { return put->finished; }));
    ASSERT_EQ(put->outcome.error, Error::kOk);
  }
  cluster.Isolate(away, false);
  ASSERT_TRUE(cluster.RunUntil([&] { return cluster.Converged(); }, seconds(60)));
  auto put = cluster.Put(away, "after", "snapshot");
  ASSERT_TRUE(cluster.RunUntil([&] { return put->finished; }));
  EXPECT_EQ(put->outcome.error, Error::kOk);
  // What it got by snapshot survives a crash.
  cluster.Crash(away);
  cluster.Restart(away);
  ASSERT_TRUE(cluster.RunUntil([&] { return cluster.Converged(); }, seconds(60)));
}

// A received snapshot takes effect only once the log knows of it: a member that dies while its disk stalls
// comes back with a log that reaches what its state machine holds.
TEST(NodeCluster, KilledBetweenSnapshotAndLog_StartsAgain) {
  SimCluster cluster({.members = 3, .seed = 31});
  ASSERT_TRUE(cluster.WaitForLeader());
  size_t away = (*cluster.Leader() + 1) % 3;
  cluster.Isolate(away, true);
  size_t leader = *cluster.Leader();
  for (int i = 0; i < 3000; ++i) {
    auto put = cluster.Put(leader, "k" + std::to_string(i % 100), std::to_string(i));
    ASSERT_TRUE(cluster.RunUntil([&] { return put->finished; }));
  }
  cluster.SetLogLatency(away, {.max = seconds(20), .stall_chance = 0, .max_stall = {}});
  cluster.Isolate(away, false);
  cluster.RunFor(seconds(5));
  cluster.Kill(away);
  cluster.SetLogLatency(away, {});
  ASSERT_TRUE(cluster.TryRestart(away).ok());
  ASSERT_TRUE(cluster.RunUntil([&] { return cluster.Converged(); }, seconds(60)));
}

// A leader whose disk does not answer gives up the leadership for somebody whose disk does; what was written
// meanwhile is answered.
TEST(NodeCluster, LeaderWithAStalledDisk_HandsOver) {
  SimCluster cluster({.members = 3, .seed = 37});
  ASSERT_TRUE(cluster.WaitForLeader());
  size_t old = *cluster.Leader();
  EXPECT_FALSE(cluster.node(old).log_stalled());
  cluster.SetLogLatency(old, {.max = seconds(600), .stall_chance = 0, .max_stall = {}});
  auto put = cluster.Put((old + 1) % 3, "a", "1");
  ASSERT_TRUE(cluster.RunUntil([&] { return cluster.node(old).log_stalled(); }, seconds(10)));
  ASSERT_TRUE(cluster.RunUntil([&] { return !cluster.node(old).is_leader(); }, seconds(10)));
  ASSERT_TRUE(cluster.WaitForLeader());
  EXPECT_NE(*cluster.Leader(), old);
  ASSERT_TRUE(cluster.RunUntil([&] { return put->finished; }));
  EXPECT_EQ(put->outcome.error, Error::kOk);
  auto again = cluster.Put((old + 1) % 3, "b", "2");
  ASSERT_TRUE(cluster.RunUntil([&] { return again->finished; }));
  EXPECT_EQ(again->outcome.error, Error::kOk);
  cluster.RunFor(seconds(20));
  EXPECT_FALSE(cluster.node(old).is_leader()) << "it must not take over again while its disk stalls";
}

// Where nobody's disk is better, the leader stays: it can still serve reads.
TEST(NodeCluster, AllDisksStalled_TheLeaderStays) {
  SimCluster cluster({.members = 3, .seed = 41});
  ASSERT_TRUE(cluster.WaitForLeader());
  size_t leader = *cluster.Leader();
  for (size_t i = 0; i < 3; ++i) {
    cluster.SetLogLatency(i, {.max = seconds(6000), .stall_chance = 0, .max_stall = {}});
  }
  auto put = cluster.Put(leader, "a", "1");
  cluster.RunFor(seconds(5));
  EXPECT_TRUE(cluster.node(leader).log_stalled());
  EXPECT_TRUE(cluster.node(leader).is_leader());
  auto get = cluster.Get(leader, "a");
  ASSERT_TRUE(cluster.RunUntil([&] { return get->finished; }, seconds(5)));
  EXPECT_EQ(get->error, Error::kOk);
}

// Changes of the membership that come at once are made one after the other.
TEST(NodeCluster, ChangesOfTheMembership_WaitForOneAnother) {
  SimCluster cluster({.members = 3, .spare = 2, .seed = 43});
  ASSERT_TRUE(cluster.WaitForLeader());
  cluster.RunFor(seconds(6));
  size_t leader = *cluster.Leader();
  std::vector<Error> results;
  auto done = [&](Error error, const std::vector<Member>&) { results.push_back(error); };
  Member learner = cluster.Joining(3, true);
  cluster.node(leader).AddMember(learner, done);
  cluster.node(leader).RemoveMember(learner.id, done);
  cluster.node(leader).RemoveMember(12345, done);
  ASSERT_TRUE(cluster.RunUntil([&] { return results.size() == 3; }));
  EXPECT_THAT(results, ::testing::UnorderedElementsAre(Error::kOk, Error::kOk, Error::kMemberNotFound));
  EXPECT_EQ(cluster.node(leader).cluster().View()->members.size(), 3u);
}

TEST(NodeCluster, Promotion_SaysWhyNotYet) {
  SimCluster cluster({.members = 3, .spare = 1, .seed = 47});
  ASSERT_TRUE(cluster.WaitForLeader());
  cluster.RunFor(seconds(6));
  std::optional<Error> added;
  Member learner = cluster.Joining(3, true);
  cluster.node(0).AddMember(learner, [&](Error error, const std::vector<Member>&) { added = error; });
  ASSERT_TRUE(cluster.RunUntil([&] { return added.has_value(); }));
  ASSERT_EQ(*added, Error::kOk);
  for (size_t on : {*cluster.Leader(), (*cluster.Leader() + 1) % 3}) {
    std::optional<Error> result;
    std::string reason;
    cluster.node(on).PromoteMember(learner.id,
                                   [&](Error error, const std::string& why, const std::vector<Member>&) {
                                     result = error;
                                     reason = why;
                                   });
    ASSERT_TRUE(cluster.RunUntil([&] { return result.has_value(); }));
    EXPECT_EQ(*result, Error::kLearnerNotReady);
    EXPECT_THAT(reason, ::testing::HasSubstr("has not started"));
  }
}

// The leader that is to go hands over before it is removed, so that somebody leads all the time.
TEST(NodeCluster, RemovedLeader_HandsOverFirst) {
  for (bool through_leader : {true, false}) {
    SimCluster cluster({.members = 3, .seed = 53});
    ASSERT_TRUE(cluster.WaitForLeader());
    cluster.RunFor(seconds(6));
    size_t old = *cluster.Leader();
    size_t other = (old + 1) % 3;
    std::optional<Error> removed;
    bool led_when_removed = false;
    cluster.node(through_leader ? old : other)
        .RemoveMember(cluster.id(old), [&](Error error, const std::vector<Member>&) { removed = error; });
    ASSERT_TRUE(cluster.RunUntil([&] {
      if (!cluster.node(other).cluster().View()->removed.contains(cluster.id(old))) return false;
      led_when_removed = cluster.alive(old) && cluster.node(old).is_leader();
      return true;
    }));
    EXPECT_FALSE(led_when_removed);
    ASSERT_TRUE(cluster.RunUntil([&] { return removed.has_value(); }));
    EXPECT_EQ(*removed, Error::kOk);
    ASSERT_TRUE(cluster.WaitForLeader());
    EXPECT_NE(*cluster.Leader(), old);
  }
}

// Members crash and are cut off at random under load; in the end every answered write is there, on all
// members.
class NodeClusterFaults : public ::testing::TestWithParam<uint64_t> {};

TEST_P(NodeClusterFaults, AnsweredWritesSurvive) {
  SimCluster cluster({.members = 3, .seed = GetParam(), .loss = 0.02});
  ASSERT_TRUE(cluster.WaitForLeader());
  base::Random& random = cluster.random();
  struct Write {
    std::string key, value;
    std::shared_ptr<SimCluster::Result> result;
  };
  std::vector<Write> writes;
  std::optional<size_t> down;
  for (int round = 0; round < 60; ++round) {
    for (int k = 0; k < 5; ++k) {
      size_t on = random.Below(3);
      if (!cluster.alive(on)) continue;
      std::string key = "k" + std::to_string(writes.size());
      writes.push_back({key, "v" + key, cluster.Put(on, key, "v" + key)});
    }
    cluster.RunFor(milliseconds(random.Below(400)));
    if (down && random.Chance(0.5)) {
      if (cluster.alive(*down)) {
        cluster.Isolate(*down, false);
      } else {
        cluster.Restart(*down);
      }
      down.reset();
    } else if (!down && random.Chance(0.5)) {
      down = random.Below(3);
      if (random.Chance(0.7)) {
        cluster.Crash(*down);
      } else {
        cluster.Isolate(*down, true);
      }
    }
  }
  if (down) cluster.alive(*down) ? cluster.Isolate(*down, false) : cluster.Restart(*down);
  ASSERT_TRUE(cluster.WaitForLeader());
  cluster.RunFor(seconds(10));
  ASSERT_TRUE(cluster.RunUntil([&] { return cluster.Converged(); })) << "seed " << GetParam();
  size_t answered = 0;
  for (const Write& write : writes) {
    if (!write.result->finished || write.result->outcome.error != Error::kOk) continue;
    ++answered;
    for (size_t i = 0; i < 3; ++i) {
      std::string record;
      ASSERT_TRUE(cluster.node(i).store().GetAt(write.key, 0, &record))
          << "seed " << GetParam() << ": member " << i << " lost " << write.key;
    }
  }
  EXPECT_GT(answered, 50u) << "seed " << GetParam();
}

INSTANTIATE_TEST_SUITE_P(Seeds, NodeClusterFaults, ::testing::Range<uint64_t>(1, 21));

}  // namespace
}  // namespace kvd::server
