// The leaves below the core: the log in memory, the log with its unwritten tail, the window, the progress.
#include "base/random.h"
#include "cluster.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "raft/inflights.h"
#include "raft/progress.h"
#include "raft/raft_log.h"

namespace kvd::raft {
namespace {

Entry E(Index index, Term term, std::string_view data = "") {
  return {term, index, EntryType::kNormal, Bytes(data)};
}

std::vector<Term> Terms(const LogView& log) {
  std::vector<Term> out;
  for (Index i = log.FirstIndex(); i <= log.LastIndex(); ++i) out.push_back(*log.TermAt(i));
  return out;
}

TEST(MemoryLog, Append_ReplacesFromTheFirstIndexOn) {
  MemoryLog log;
  log.Append({{E(1, 1), E(2, 1), E(3, 1)}});
  log.Append({{E(2, 2)}});
  EXPECT_THAT(Terms(log), testing::ElementsAre(1, 2));
  log.Append({{E(3, 2), E(4, 3)}});
  EXPECT_THAT(Terms(log), testing::ElementsAre(1, 2, 2, 3));
  EXPECT_EQ(log.bytes(), 4 * EntryBytes(E(1, 1)));
}

TEST(MemoryLog, Compact_KeepsTheTermBefore) {
  MemoryLog log;
  log.Append({{E(1, 1), E(2, 1), E(3, 2), E(4, 3)}});
  log.Compact(3);
  EXPECT_EQ(log.FirstIndex(), 4);
  EXPECT_EQ(log.TermAt(3), 2);
  EXPECT_EQ(log.TermAt(2), std::nullopt);
  EXPECT_EQ(log.TermAt(5), std::nullopt);
  log.Compact(2);
  EXPECT_EQ(log.FirstIndex(), 4);
  log.Append({{E(2, 1), E(3, 2), E(4, 4)}});  // what is compacted is skipped
  EXPECT_THAT(Terms(log), testing::ElementsAre(4));
  log.InstallSnapshot({.index = 9, .term = 5});
  EXPECT_EQ(log.FirstIndex(), 10);
  EXPECT_EQ(log.LastIndex(), 9);
  EXPECT_EQ(log.bytes(), 0);
}

TEST(MemoryLog, Entries_BoundedByBytesButNeverNone) {
  MemoryLog log;
  log.Append({{E(1, 1, "aaaa"), E(2, 1, "bbbb"), E(3, 1, "cccc")}});
  const uint64_t one = EntryBytes(E(1, 1, "aaaa"));
  for (auto [limit, n] : std::vector<std::pair<uint64_t, size_t>>{
           {0, 1}, {one, 1}, {2 * one - 1, 1}, {2 * one, 2}, {kNoLimit, 3}}) {
    std::vector<Entry> out;
    log.Entries(1, 4, limit, &out);
    EXPECT_EQ(out.size(), n) << limit;
  }
}

class RaftLogTest : public testing::Test {
 protected:
  Ready Write() {
    Ready r;
    r.number = ++number_;
    log_.TakeUnwritten(&r);
    view_.Append(r.append);
    return r;
  }
  static MemoryLog Filled() {
    MemoryLog log;
    log.Append({{E(1, 1), E(2, 2), E(3, 3)}});
    return log;
  }
  MemoryLog view_ = Filled();
  RaftLog log_{&view_, 0, 0};
  uint64_t number_ = 0;
};

TEST_F(RaftLogTest, AppendFrom_Table) {
  struct Case {
    std::vector<Entry> entries;
    Index dropped;
    Index last;
    Index first_written;
  };
  for (const Case& c : std::vector<Case>{{{}, 0, 3, 0},
                                         {{E(1, 1), E(2, 2)}, 0, 3, 0},
                                         {{E(2, 2), E(3, 3), E(4, 4), E(5, 4)}, 0, 5, 4},
                                         {{E(4, 3)}, 0, 4, 4},
                                         {{E(2, 4)}, 2, 2, 2},
                                         {{E(1, 1), E(2, 4), E(3, 4)}, 2, 3, 2}}) {
    MemoryLog view;
    view.Append({{E(1, 1), E(2, 2), E(3, 3)}});
    RaftLog log(&view, 0, 0);
    EXPECT_EQ(log.AppendFrom(c.entries), c.dropped);
    EXPECT_EQ(log.LastIndex(), c.last);
    Ready r;
    r.number = 1;
    log.TakeUnwritten(&r);
    EXPECT_EQ(r.append.empty() ? 0 : r.append[0].index, c.first_written);
  }
}

TEST_F(RaftLogTest, IsUpToDate_LastTermThenLength) {
  EXPECT_TRUE(log_.IsUpToDate(1, 4));
  EXPECT_TRUE(log_.IsUpToDate(3, 3));
  EXPECT_TRUE(log_.IsUpToDate(4, 3));
  EXPECT_FALSE(log_.IsUpToDate(2, 3));
  EXPECT_FALSE(log_.IsUpToDate(9, 2));
}

TEST_F(RaftLogTest, FindConflictByTerm_SkipsNewerTerms) {
  auto find = [this](Index i, Term t) {
    auto p = log_.FindConflictByTerm(i, t);
    return std::pair(p.index, p.term);
  };
  EXPECT_EQ(find(3, 3), (std::pair<Index, Term>(3, 3)));
  EXPECT_EQ(find(3, 2), (std::pair<Index, Term>(2, 2)));
  EXPECT_EQ(find(3, 0), (std::pair<Index, Term>(0, 0)));
  view_.Compact(2);
  EXPECT_EQ(find(3, 1), (std::pair<Index, Term>(1, 0)));
}

// Entry 4 is written in term 4, replaced in term 5, and put back by a leader that has the first one: when the
// first write ends, the disk is still going to hold the second.
TEST_F(RaftLogTest, Persisted_AbaOfOneEntry_FirstAcknowledgementProvesNothing) {
  log_.AppendFrom({E(4, 4, "a")});
  Ready first = Write();
  EXPECT_EQ(log_.AppendFrom({E(4, 5, "b")}), 4);
  Ready second = Write();
  EXPECT_EQ(log_.AppendFrom({E(4, 4, "a")}), 4);
  Ready third = Write();
  log_.Persisted(first.ack);
  EXPECT_EQ(log_.StableIndex(), 3);
  log_.Persisted(second.ack);
  EXPECT_EQ(log_.StableIndex(), 3);
  log_.Persisted(third.ack);
  EXPECT_EQ(log_.StableIndex(), 4);
}

TEST_F(RaftLogTest, Persisted_PartlyReplacedWrite_TheRestCounts) {
  log_.AppendFrom({E(4, 4), E(5, 4), E(6, 4)});
  Ready first = Write();
  log_.AppendFrom({E(6, 5)});
  Ready second = Write();
  log_.Persisted(first.ack);
  EXPECT_EQ(log_.StableIndex(), 5);
  log_.Persisted(second.ack);
  EXPECT_EQ(log_.StableIndex(), 6);
}

TEST_F(RaftLogTest, Persisted_LaterWriteWithoutEntries_AttestsAllBefore) {
  log_.AppendFrom({E(4, 4)});
  Write();
  Ready empty = Write();
  EXPECT_TRUE(empty.append.empty());
  log_.Persisted(empty.ack);
  EXPECT_EQ(log_.StableIndex(), 4);
}

TEST_F(RaftLogTest, Committed_OnlyWhatIsOnDiskAndWithinTheLimit) {
  log_.AppendFrom({E(4, 4, std::string(100, 'x')), E(5, 4, "y")});
  log_.CommitTo(5);
  std::vector<Entry> out;
  log_.TakeCommitted(kNoLimit, &out);
  EXPECT_EQ(out.back().index, 3);
  EXPECT_FALSE(log_.HasCommitted(kNoLimit));
  log_.Persisted(Write().ack);
  EXPECT_FALSE(log_.HasCommitted(1));  // three entries are still being applied
  log_.AppliedTo(3, false);
  ASSERT_TRUE(log_.HasCommitted(1));
  out.clear();
  log_.TakeCommitted(1, &out);
  EXPECT_EQ(out.size(), 1u);
  EXPECT_FALSE(log_.HasCommitted(100));
  EXPECT_TRUE(log_.HasCommitted(200));
}

TEST_F(RaftLogTest, Restore_NothingToApplyBeforeItIsWritten) {
  log_.AppendFrom({E(4, 4)});
  Ready stale = Write();
  log_.Restore(std::make_shared<Snapshot>(Snapshot{{10, 5, {}}, {}}));
  EXPECT_EQ(log_.LastIndex(), 10);
  EXPECT_EQ(log_.TermAt(10), 5);
  EXPECT_EQ(log_.TermAt(4), std::nullopt);
  log_.AppendFrom({E(11, 5)});
  log_.CommitTo(11);
  Ready r;
  r.number = ++number_;
  log_.TakeUnwritten(&r);
  ASSERT_NE(r.snapshot, nullptr);
  view_.InstallSnapshot(r.snapshot->meta);
  view_.Append(r.append);
  log_.Persisted(stale.ack);
  EXPECT_TRUE(log_.SnapshotPending());
  EXPECT_FALSE(log_.HasCommitted(kNoLimit));
  log_.Persisted(r.ack);
  EXPECT_FALSE(log_.SnapshotPending());
  EXPECT_EQ(log_.applied(), 10);
  std::vector<Entry> out;
  log_.TakeCommitted(kNoLimit, &out);
  EXPECT_EQ(out, std::vector<Entry>{E(11, 5)});
}

TEST(Inflights, BoundedByNumberAndBytes) {
  Inflights in(3, 100);
  in.Add(1, 10);
  in.Add(2, 10);
  EXPECT_FALSE(in.Full());
  in.Add(3, 10);
  EXPECT_TRUE(in.Full());
  in.FreeUpTo(1);
  EXPECT_FALSE(in.Full());
  in.Add(4, 500);
  in.FreeUpTo(3);
  EXPECT_EQ(in.count(), 1);
  EXPECT_TRUE(in.Full());
  in.FreeUpTo(4);
  EXPECT_EQ(in.bytes(), 0);
  EXPECT_FALSE(in.Full());
}

TEST(Inflights, RandomUse_EqualsADeque) {
  base::Random random(3);
  Inflights in(50, kNoLimit);
  std::deque<std::pair<Index, uint64_t>> model;
  Index last = 0;
  for (int i = 0; i < 20000; ++i) {
    if (!in.Full() && random.Chance(0.6)) {
      last += random.Between(1, 3);
      const uint64_t bytes = random.Below(9);
      in.Add(last, bytes);
      model.emplace_back(last, bytes);
    } else if (random.Chance(0.5)) {
      const Index to = last - std::min<Index>(last, random.Below(60));
      in.FreeUpTo(to);
      while (!model.empty() && model.front().first <= to) model.pop_front();
    } else if (random.Chance(0.01)) {
      in.Clear();
      model.clear();
    }
    uint64_t bytes = 0;
    for (const auto& item : model) bytes += item.second;
    ASSERT_EQ(in.count(), model.size());
    ASSERT_EQ(in.bytes(), bytes);
  }
}

TEST(Progress, Rejected_Table) {
  struct Case {
    ProgressState state;
    Index match, next, rejected, hint;
    bool genuine;
    Index next_after;
  };
  for (const Case& c : std::vector<Case>{
           {ProgressState::kReplicate, 5, 10, 5, 5, false, 10},  // older than what is acknowledged
           {ProgressState::kReplicate, 5, 10, 4, 4, false, 10},
           {ProgressState::kReplicate, 5, 10, 9, 9, true, 6},
           {ProgressState::kProbe, 0, 0, 0, 0, false, 0},  // not the probe that is out
           {ProgressState::kProbe, 0, 10, 5, 5, false, 10},
           {ProgressState::kProbe, 0, 10, 9, 9, true, 9},
           {ProgressState::kProbe, 0, 10, 9, 2, true, 3},
           {ProgressState::kProbe, 0, 10, 9, 0, true, 1},
           {ProgressState::kProbe, 4, 10, 9, 2, true, 5}}) {
    Progress p(1, c.next, 8, 100);
    p.match = c.match;
    p.state = c.state;
    EXPECT_EQ(p.Rejected(c.rejected, c.hint), c.genuine);
    EXPECT_EQ(p.next, c.next_after);
  }
}

TEST(Progress, States_PauseAndResume) {
  Progress p(1, 5, 2, kNoLimit);
  p.match = 4;
  EXPECT_FALSE(p.Paused());
  p.SentAppend(1, 10, 4);
  EXPECT_TRUE(p.Paused());  // one probe at a time
  EXPECT_TRUE(p.AckedUpTo(5));
  p.BecomeReplicate();
  p.SentAppend(1, 10, 4);
  EXPECT_FALSE(p.Paused());
  EXPECT_EQ(p.next, 7);
  p.SentAppend(1, 10, 4);
  EXPECT_TRUE(p.Paused());  // the window is full
  p.BecomeSnapshot(20);
  EXPECT_TRUE(p.Paused());
  EXPECT_EQ(p.next, 21);
  p.BecomeProbe();
  EXPECT_EQ(p.next, 21);
  EXPECT_EQ(p.inflights.count(), 0);
}

}  // namespace
}  // namespace kvd::raft
