// The rules of the Raft paper (Ongaro and Ousterhout, 2014), a test per sentence, numbered by its sections.
#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "solo.h"

namespace kvd::raft {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Into the role asked for, in term 2 or above, without a trace of messages.
void Become(Solo& s, Role role) {
  switch (role) {
    case Role::kFollower:
      s.Step({.type = MessageType::kHeartbeat, .from = 2, .term = 2});
      break;
    case Role::kPreCandidate:
      s.core().Campaign();
      break;
    case Role::kCandidate:
      s.core().Campaign();
      s.Settle();
      s.Step({.type = MessageType::kPreVoteResp, .from = 2, .term = s.core().term() + 1});
      break;
    case Role::kLeader:
      s.Lead();
      break;
  }
  s.Settle();
  ASSERT_EQ(s.core().role(), role);
}

class PaperRoles : public testing::TestWithParam<Role> {};
INSTANTIATE_TEST_SUITE_P(All, PaperRoles,
                         testing::Values(Role::kFollower, Role::kPreCandidate, Role::kCandidate,
                                         Role::kLeader));

// 5.1: if one server's current term is smaller than the other's, it updates; a candidate or leader steps
// back.
TEST_P(PaperRoles, S51_HigherTerm_AdoptedAndFollower) {
  Solo s;
  Become(s, GetParam());
  s.Step({.type = MessageType::kApp, .from = 2, .term = 9});
  EXPECT_EQ(s.core().term(), 9);
  EXPECT_EQ(s.core().role(), Role::kFollower);
  EXPECT_EQ(s.core().leader(), 2);
  EXPECT_EQ(s.node().disk().hard.term, 9);
}

// 5.1: a request with a stale term number is rejected.
TEST_P(PaperRoles, S51_StaleTerm_Rejected) {
  Solo s{{.hard = {.term = 5}}};
  if (GetParam() == Role::kFollower) {
    s.Step({.type = MessageType::kHeartbeat, .from = 2, .term = 5});
  } else {
    Become(s, GetParam());
  }
  const Term term = s.core().term();
  const Role role = s.core().role();
  auto out =
      s.Step({.type = MessageType::kApp, .from = 3, .term = term - 1, .entries = {MakeEntry(1, term - 1)}});
  EXPECT_EQ(s.core().role(), role);
  ASSERT_THAT(OfType(out, MessageType::kAppResp), SizeIs(1));
  EXPECT_EQ(OfType(out, MessageType::kAppResp)[0].term, term);  // so that the sender learns of it
  EXPECT_THAT(s.LogTerms(), testing::Not(testing::Contains(term - 1)));
}

// 5.2: when servers start up, they begin as followers.
TEST(Paper, S52_StartsAsFollower) {
  Solo s;
  EXPECT_EQ(s.core().role(), Role::kFollower);
  EXPECT_EQ(s.core().leader(), kNoNode);
}

// 5.2: leaders send periodic heartbeats to all followers.
TEST(Paper, S52_Leader_SendsHeartbeats) {
  Solo s{{.config = {.election_ticks = 10, .heartbeat_ticks = 3}}};
  s.Lead();
  EXPECT_THAT(OfType(s.Settle(), MessageType::kHeartbeat), IsEmpty());
  s.Tick(2);
  EXPECT_THAT(OfType(s.Settle(), MessageType::kHeartbeat), IsEmpty());
  s.Tick();
  auto beats = OfType(s.Settle(), MessageType::kHeartbeat);
  ASSERT_THAT(beats, SizeIs(2));
  EXPECT_EQ(beats[0].to + beats[1].to, 5);
}

// 5.2: a follower that hears nothing over the election timeout begins an election: here with a question first
// (thesis 9.6), then it increments its term, votes for itself and asks the others in parallel.
TEST(Paper, S52_Timeout_Campaigns) {
  Solo s{{.hard = {.term = 1}}};
  s.Tick(2 * s.node().config().election_ticks);
  EXPECT_EQ(s.core().role(), Role::kPreCandidate);
  EXPECT_EQ(s.core().term(), 1);
  auto pre = OfType(s.Settle(), MessageType::kPreVote);
  ASSERT_THAT(pre, SizeIs(2));
  EXPECT_EQ(pre[0].term, 2);
  auto votes = OfType(s.Step({.type = MessageType::kPreVoteResp, .from = 2, .term = 2}), MessageType::kVote);
  EXPECT_EQ(s.core().role(), Role::kCandidate);
  EXPECT_EQ(s.core().term(), 2);
  EXPECT_EQ(s.node().disk().hard, (HardState{2, 1, 0}));
  ASSERT_THAT(votes, SizeIs(2));
  EXPECT_EQ(votes[0].to, 2);
  EXPECT_EQ(votes[1].to, 3);
}

// 5.2: a candidate wins with the votes of a majority of the full cluster, loses when that is impossible,
// waits else.
TEST(Paper, S52_Election_Table) {
  struct Case {
    size_t size;
    std::map<NodeId, bool> votes;
    Role role;
  };
  for (const Case& c :
       std::vector<Case>{{3, {{2, true}, {3, true}}, Role::kLeader},
                         {3, {{2, true}}, Role::kLeader},
                         {5, {{2, true}, {3, true}}, Role::kLeader},
                         {5, {{2, true}, {3, true}, {4, false}, {5, false}}, Role::kLeader},
                         {3, {{2, false}, {3, false}}, Role::kFollower},
                         {5, {{2, false}, {3, false}, {4, false}}, Role::kFollower},
                         {5, {{2, true}, {3, false}, {4, false}, {5, false}}, Role::kFollower},
                         {3, {}, Role::kCandidate},
                         {3, {{2, false}}, Role::kCandidate},
                         {5, {{2, true}}, Role::kCandidate},
                         {5, {{2, true}, {3, false}, {4, false}}, Role::kCandidate}}) {
    Solo s{{.voters = c.size}};
    s.core().Campaign();
    s.Settle();
    for (NodeId id = 2; id <= c.size / 2 + 1; ++id)
      s.Step({.type = MessageType::kPreVoteResp, .from = id, .term = 1});
    ASSERT_EQ(s.core().role(), Role::kCandidate);
    for (auto [id, yes] : c.votes)
      s.Step({.type = MessageType::kVoteResp, .reject = !yes, .from = id, .term = 1});
    EXPECT_EQ(s.core().role(), c.role);
    EXPECT_EQ(s.core().term(), 1);
  }
}

// 5.2: a lone voter needs nobody.
TEST(Paper, S52_SingleVoter_ElectsItself) {
  Solo s{{.voters = 1}};
  s.core().Campaign();
  s.Settle();
  EXPECT_EQ(s.core().role(), Role::kLeader);
}

// 5.2: each server votes for at most one candidate in a term, first come, first served.
TEST(Paper, S52_Vote_OncePerTerm) {
  struct Case {
    NodeId voted;
    NodeId asks;
    bool reject;
  };
  for (const Case& c : std::vector<Case>{{kNoNode, 2, false},
                                         {kNoNode, 3, false},
                                         {2, 2, false},
                                         {3, 3, false},
                                         {2, 3, true},
                                         {3, 2, true}}) {
    Solo s{{.hard = {.term = 1, .vote = c.voted}}};
    auto out =
        OfType(s.Step({.type = MessageType::kVote, .from = c.asks, .term = 1}), MessageType::kVoteResp);
    ASSERT_THAT(out, SizeIs(1));
    EXPECT_EQ(out[0].reject, c.reject);
    EXPECT_EQ(s.node().disk().hard.vote, c.voted != kNoNode ? c.voted : c.asks);
  }
}

// 5.2: a candidate that hears of a leader with a term at least as large as its own recognises it.
TEST(Paper, S52_Candidate_FallsBack) {
  for (Term ahead : {0, 1}) {
    Solo s;
    Become(s, Role::kCandidate);
    s.Step({.type = MessageType::kApp, .from = 2, .term = s.core().term() + ahead});
    EXPECT_EQ(s.core().role(), Role::kFollower);
    EXPECT_EQ(s.core().leader(), 2);
  }
}

// 5.2: election timeouts are chosen randomly from an interval, again for each election.
TEST(Paper, S52_ElectionTimeout_Randomised) {
  std::map<int, int> seen;
  for (uint64_t seed = 1; seed <= 400; ++seed) {
    Solo s{{.seed = seed}};
    int ticks = 0;
    while (s.core().role() == Role::kFollower) {
      s.Tick();
      ++ticks;
    }
    ++seen[ticks];
  }
  EXPECT_EQ(seen.begin()->first, 10);
  EXPECT_EQ(seen.rbegin()->first, 19);
  EXPECT_THAT(seen, SizeIs(10));
}

// 5.2: so that in most cases only a single server times out.
TEST(Paper, S52_ElectionTimeouts_RarelyCollide) {
  int collisions = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    std::map<int, int> ticks;
    for (uint64_t member = 0; member < 5; ++member) {
      Solo s{{.seed = 1000 * seed + member}};
      int t = 0;
      for (; s.core().role() == Role::kFollower; ++t) s.Tick();
      ++ticks[t];
    }
    collisions += ticks.begin()->second > 1;
  }
  EXPECT_LT(collisions, 150);
}

// 5.3: the leader appends the command to its log and sends it to each of the others, in parallel and before
// its own disk has it (thesis 10.2.1).
TEST(Paper, S53_Leader_StartsReplication) {
  Solo s;
  s.Lead();
  s.Ack(2, 1);
  s.Ack(3, 1);
  s.Settle();
  ASSERT_EQ(s.Propose("data"), ProposeResult::kOk);
  std::vector<Message> out;
  const Ready& r = s.node().TakeReady(&out);
  EXPECT_THAT(r.append, ElementsAre(MakeEntry(2, 1, "data")));
  EXPECT_TRUE(r.must_sync);
  EXPECT_EQ(s.core().commit(), 1);
  auto apps = OfType(out, MessageType::kApp);
  ASSERT_THAT(apps, SizeIs(2));
  for (const Message& m : apps) {
    EXPECT_EQ(m.index, 1);
    EXPECT_EQ(m.log_term, 1);
    EXPECT_EQ(m.commit, 1);
    EXPECT_THAT(m.entries, ElementsAre(MakeEntry(2, 1, "data")));
  }
}

// 5.3: when the entry is safely replicated, the leader applies it, and tells the followers the highest index
// that is.
TEST(Paper, S53_Leader_CommitsAndTells) {
  Solo s;
  s.Lead();
  s.Ack(2, 1);
  s.Settle();
  (void)s.Propose("data");
  s.Settle();
  auto out = s.Ack(2, 2);
  EXPECT_EQ(s.core().commit(), 2);
  EXPECT_THAT(s.node().Applied(), ElementsAre("data"));
  auto apps = OfType(out, MessageType::kApp);
  ASSERT_FALSE(apps.empty());
  EXPECT_EQ(apps[0].commit, 2);
}

// 5.3: an entry is committed once a majority holds it.
TEST(Paper, S53_Commit_NeedsMajority) {
  struct Case {
    size_t size;
    size_t acks;
    bool committed;
  };
  for (const Case& c : std::vector<Case>{{1, 0, true},
                                         {3, 0, false},
                                         {3, 1, true},
                                         {3, 2, true},
                                         {5, 0, false},
                                         {5, 1, false},
                                         {5, 2, true}}) {
    Solo s{{.voters = c.size}};
    s.Lead(c.size / 2);
    (void)s.Propose("data");
    s.Settle();
    for (size_t i = 0; i < c.acks; ++i) s.Ack(2 + i, 2);
    EXPECT_EQ(s.core().commit() == 2, c.committed) << c.size << " " << c.acks;
  }
}

// The leader is one of the majority only once its own disk has the entry.
TEST(Paper, S53_Commit_LeaderCountsItselfAfterItsOwnWrite) {
  Solo s;
  s.Lead();
  s.Ack(2, 1);
  s.Settle();
  (void)s.Propose("data");
  std::vector<Message> out;
  s.node().TakeReady(&out);
  (void)s.core().Step({.type = MessageType::kAppResp, .to = 1, .from = 2, .term = 1, .index = 2});
  EXPECT_EQ(s.core().commit(), 1);
  s.node().Persist(&out);
  EXPECT_EQ(s.core().commit(), 2);
}

// With the others' disks faster than its own, a majority may form without it; it applies nothing it does not
// hold.
TEST(Paper, S53_Commit_WithoutTheLeadersDisk_AppliedAfterIt) {
  Solo s;
  s.Lead();
  s.Ack(2, 1);
  s.Ack(3, 1);
  s.Settle();
  (void)s.Propose("data");
  std::vector<Message> out;
  s.node().TakeReady(&out);
  for (NodeId id : {2, 3}) {
    (void)s.core().Step({.type = MessageType::kAppResp, .to = 1, .from = id, .term = 1, .index = 2});
  }
  EXPECT_EQ(s.core().commit(), 2);
  while (s.node().CanTakeReady()) EXPECT_THAT(s.node().TakeReady(&out).committed, IsEmpty());
  while (s.node().Writing()) s.node().Persist(&out);
  EXPECT_THAT(s.node().TakeReady(&out).committed, ElementsAre(MakeEntry(2, 1, "data")));
}

// 5.3: committing an entry commits all preceding ones, also those of earlier leaders.
TEST(Paper, S53_Commit_TakesPrecedingEntriesAlong) {
  for (const std::vector<Term>& terms : std::vector<std::vector<Term>>{{}, {2}, {1, 2}, {1}}) {
    Solo s{{.log = LogOf(terms), .hard = {.term = 2}}};
    s.Lead();
    (void)s.Propose("data");
    s.Settle();
    s.Ack(2, terms.size() + 2);
    EXPECT_EQ(s.node().Applied().size(), terms.size() + 1);
    EXPECT_EQ(s.node().Applied().back(), "data");
  }
}

// 5.3: once a follower learns that an entry is committed, it applies it, in log order.
TEST(Paper, S53_Follower_AppliesCommitted) {
  for (Index commit = 1; commit <= 3; ++commit) {
    Solo s;
    s.Step({.type = MessageType::kApp,
            .from = 2,
            .term = 1,
            .commit = commit,
            .entries = {MakeEntry(1, 1, "a"), MakeEntry(2, 1, "b"), MakeEntry(3, 1, "c")}});
    const std::vector<std::string> all = {"a", "b", "c"};
    EXPECT_EQ(s.node().Applied(),
              std::vector<std::string>(all.begin(), all.begin() + static_cast<long>(commit)));
  }
}

// A follower commits no further than it is known to agree with its leader.
TEST(Paper, S53_Follower_CommitCutToLastNewEntry) {
  Solo s{{.log = LogOf({1, 1, 1}), .hard = {.term = 1}}};
  s.Step({.type = MessageType::kApp, .from = 2, .term = 2, .log_term = 1, .index = 1, .commit = 3});
  EXPECT_EQ(s.core().commit(), 1);
}

// 5.3: if the follower does not find an entry with the same index and term, it refuses the new entries.
TEST(Paper, S53_Follower_ChecksPreviousEntry) {
  struct Case {
    Term term;
    Index index;
    Index answer;
    bool reject;
    Index hint;
    Term hint_term;
  };
  for (const Case& c : std::vector<Case>{{0, 0, 1, false, 0, 0},    // behind what is committed
                                         {1, 1, 1, false, 0, 0},    // agrees
                                         {2, 2, 2, false, 0, 0},    // agrees
                                         {1, 2, 2, true, 1, 1},     // other term
                                         {4, 4, 4, true, 2, 2},     // not there
                                         {3, 3, 3, true, 2, 2}}) {  // not there
    Solo s{{.log = LogOf({1, 2}), .hard = {.term = 2, .commit = 1}}};
    s.Settle();
    auto out =
        s.Step({.type = MessageType::kApp, .from = 2, .term = 4, .log_term = c.term, .index = c.index});
    ASSERT_THAT(out, SizeIs(1));
    EXPECT_EQ(out[0].index, c.answer);
    EXPECT_EQ(out[0].reject, c.reject);
    EXPECT_EQ(out[0].reject_hint, c.hint);
    EXPECT_EQ(out[0].log_term, c.hint_term);
  }
}

// 5.3: an existing entry that conflicts with a new one is deleted with all that follow; new ones are
// appended.
TEST(Paper, S53_Follower_AppendsAndTruncates) {
  struct Case {
    Index index;
    Term term;
    std::vector<Entry> entries;
    std::vector<Term> log;
    std::vector<Entry> written;
  };
  for (const Case& c : std::vector<Case>{
           {2, 2, {MakeEntry(3, 3)}, {1, 2, 3}, {MakeEntry(3, 3)}},
           {1, 1, {MakeEntry(2, 3), MakeEntry(3, 4)}, {1, 3, 4}, {MakeEntry(2, 3), MakeEntry(3, 4)}},
           {0, 0, {MakeEntry(1, 1, "t1")}, {1, 2}, {}},
           {0, 0, {MakeEntry(1, 3)}, {3}, {MakeEntry(1, 3)}}}) {
    Solo s{{.log = LogOf({1, 2}), .hard = {.term = 2}}};
    (void)s.core().Step({.type = MessageType::kApp,
                         .to = 1,
                         .from = 2,
                         .term = 4,
                         .log_term = c.term,
                         .index = c.index,
                         .entries = c.entries});
    std::vector<Message> out;
    EXPECT_EQ(s.node().TakeReady(&out).append, c.written);
    EXPECT_EQ(s.LogTerms(), c.log);
  }
}

// 5.3, figure 7: the leader brings a follower's log in line with its own, whatever it looks like.
TEST(Paper, S53_Figure7_LogsConverge) {
  const std::vector<Term> leader = {1, 1, 1, 4, 4, 5, 5, 6, 6, 6};
  for (const std::vector<Term>& follower :
       std::vector<std::vector<Term>>{{1, 1, 1, 4, 4, 5, 5, 6, 6},
                                      {1, 1, 1, 4},
                                      {1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6},
                                      {1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7},
                                      {1, 1, 1, 4, 4, 4, 4},
                                      {1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3}}) {
    TestCluster c(ConfState{}, Config{});
    const ConfState conf{.voters = {1, 2, 3}};
    c.Add(1, conf, {.hard = {.term = 8}, .snapshot = {}, .log = LogOf(leader)});
    c.Add(2, conf, {.hard = {.term = follower.back()}, .snapshot = {}, .log = LogOf(follower)});
    c.Add(3, conf);  // its vote, since the follower may refuse its own
    c.Elect(1);
    ASSERT_EQ(c.core(1).role(), Role::kLeader);
    (void)c.Propose(1, "new");
    c.Stabilize();
    EXPECT_EQ(c[2].LogEntries(), c[1].LogEntries());
    EXPECT_EQ(c[3].LogEntries(), c[1].LogEntries());
    EXPECT_EQ(c.core(2).commit(), 12);
  }
}

// 5.4.1: the request for a vote tells about the candidate's log.
TEST(Paper, S541_VoteRequest_NamesLastEntry) {
  for (const std::vector<Term>& terms : std::vector<std::vector<Term>>{{1}, {1, 2}, {}}) {
    Solo s{{.log = LogOf(terms), .hard = {.term = 3}}};
    s.core().Campaign();
    auto out = s.Settle();
    for (const Message& m : s.Step({.type = MessageType::kPreVoteResp, .from = 2, .term = 4}))
      out.push_back(m);
    for (MessageType type : {MessageType::kPreVote, MessageType::kVote}) {
      auto asked = OfType(out, type);
      ASSERT_THAT(asked, SizeIs(2));
      EXPECT_EQ(asked[0].index, terms.size());
      EXPECT_EQ(asked[0].log_term, terms.empty() ? 0 : terms.back());
      EXPECT_EQ(asked[0].term, 4);
    }
  }
}

// 5.4.1: the voter denies its vote if its own log is more up to date.
TEST(Paper, S541_Voter_ComparesLogs) {
  struct Case {
    std::vector<Term> log;
    Term last_term;
    Index last_index;
    bool reject;
  };
  for (const Case& c : std::vector<Case>{{{1}, 1, 1, false},
                                         {{1}, 1, 2, false},
                                         {{1, 1}, 1, 1, true},
                                         {{1}, 2, 1, false},
                                         {{1}, 2, 2, false},
                                         {{1, 1}, 2, 1, false},
                                         {{2}, 1, 1, true},
                                         {{2}, 1, 2, true},
                                         {{2, 1}, 1, 1, true}}) {
    for (MessageType type : {MessageType::kVote, MessageType::kPreVote}) {
      Solo s{{.log = LogOf(c.log), .hard = {.term = 2}}};
      auto out = s.Step({.type = type, .from = 2, .term = 3, .log_term = c.last_term, .index = c.last_index});
      ASSERT_THAT(out, SizeIs(1));
      EXPECT_EQ(out[0].reject, c.reject);
    }
  }
}

// 5.4.2: only entries of the leader's own term are committed by counting.
TEST(Paper, S542_Leader_CountsOnlyItsOwnTerm) {
  for (auto [acked, commit] : std::vector<std::pair<Index, Index>>{{1, 0}, {2, 0}, {3, 3}}) {
    Solo s{{.log = LogOf({1, 2}), .hard = {.term = 2}}};
    s.Lead();
    s.Ack(2, acked);
    EXPECT_EQ(s.core().commit(), commit);
  }
}

// 5.2 with a disk: a vote leaves the voter only after it is written, and so does the request for it.
TEST(Paper, Votes_WaitForTheDisk) {
  Solo s;
  (void)s.core().Step({.type = MessageType::kVote, .to = 1, .from = 2, .term = 1});
  std::vector<Message> out;
  const Ready& r = s.node().TakeReady(&out);
  EXPECT_THAT(out, IsEmpty());
  EXPECT_TRUE(r.must_sync);
  ASSERT_THAT(r.send_after_persist, SizeIs(1));
  EXPECT_EQ(r.send_after_persist[0].type, MessageType::kVoteResp);

  Solo candidate;
  Become(candidate, Role::kFollower);
  candidate.core().ForgetLeader();
  (void)candidate.core().Step({.type = MessageType::kTimeoutNow, .to = 1, .from = 2, .term = 2});
  candidate.node().TakeReady(&out);
  EXPECT_THAT(OfType(out, MessageType::kVote), IsEmpty());
  candidate.node().Persist(&out);
  EXPECT_THAT(OfType(out, MessageType::kVote), SizeIs(2));
}

// The candidate's own vote counts once it is written.
TEST(Paper, OwnVote_WaitsForTheDisk) {
  Solo s;
  s.core().Campaign();
  s.Settle();
  (void)s.core().Step({.type = MessageType::kPreVoteResp, .to = 1, .from = 2, .term = 1});
  std::vector<Message> out;
  s.node().TakeReady(&out);
  (void)s.core().Step({.type = MessageType::kVoteResp, .to = 1, .from = 2, .term = 1});
  EXPECT_EQ(s.core().role(), Role::kCandidate);
  s.node().Persist(&out);
  EXPECT_EQ(s.core().role(), Role::kLeader);
}

}  // namespace
}  // namespace kvd::raft
