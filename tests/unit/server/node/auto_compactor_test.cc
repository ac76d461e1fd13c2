#include "server/node/auto_compactor.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/sim_executor.h"

namespace kvd::server {
namespace {

using std::chrono::hours;
using std::chrono::minutes;

class AutoCompactorTest : public ::testing::Test {
 protected:
  void Start(AutoCompactor::Options options) {
    AutoCompactor::Hooks hooks;
    hooks.is_leader = [this] { return leads_; };
    hooks.revision = [this] { return revision(); };
    hooks.compact = [this](int64_t target, absl::AnyInvocable<void(Error)> done) {
      asked_.push_back(target);
      done(answer_);
    };
    compactor_ = std::make_shared<AutoCompactor>(options, *executor_, std::move(hooks));
    compactor_->Start();
    world_.RunFor(base::Nanos(1));
  }
  // One revision a minute.
  int64_t revision() { return 1 + world_.clock().Monotonic() / minutes(1) - began_; }

  base::SimScheduler world_{1};
  std::unique_ptr<base::Executor> executor_ = world_.NewExecutor("compactor");
  const int64_t began_ = world_.clock().Monotonic() / minutes(1);
  bool leads_ = true;
  Error answer_ = Error::kOk;
  std::vector<int64_t> asked_;
  std::shared_ptr<AutoCompactor> compactor_;
};

TEST_F(AutoCompactorTest, Periodic_FirstAfterTheWholeTime_ThenHourly) {
  Start({.keep_time = hours(8)});
  world_.RunFor(hours(8) - minutes(1));
  EXPECT_TRUE(asked_.empty());
  world_.RunFor(minutes(2));
  ASSERT_EQ(asked_.size(), 1u);
  EXPECT_EQ(asked_[0], 1);
  world_.RunFor(hours(3));
  ASSERT_EQ(asked_.size(), 4u);
  // Eight hours stay, and nothing much older.
  for (size_t i = 1; i < asked_.size(); ++i) EXPECT_EQ(asked_[i] - asked_[i - 1], 60);
  EXPECT_GE(revision() - asked_.back(), 8 * 60);
  EXPECT_LE(revision() - asked_.back(), 9 * 60);
}

TEST_F(AutoCompactorTest, Periodic_ShortTimesCompactEachOfThem) {
  Start({.keep_time = minutes(30)});
  world_.RunFor(hours(2) + minutes(1));
  EXPECT_EQ(asked_.size(), 4u);
}

TEST_F(AutoCompactorTest, Periodic_AFailureIsTriedAgainSoon) {
  Start({.keep_time = hours(1)});
  answer_ = Error::kTimeout;
  world_.RunFor(hours(1) + minutes(1));
  ASSERT_EQ(asked_.size(), 1u);
  world_.RunFor(minutes(6));
  EXPECT_EQ(asked_.size(), 2u);
  answer_ = Error::kOk;
  world_.RunFor(minutes(6));
  EXPECT_EQ(asked_.size(), 3u);
  world_.RunFor(minutes(50));
  EXPECT_EQ(asked_.size(), 3u);
}

TEST_F(AutoCompactorTest, Revision_KeepsThatMany) {
  Start({.keep_revisions = 20});
  world_.RunFor(minutes(19));
  ASSERT_EQ(asked_.size(), 0u);
  world_.RunFor(minutes(12));
  ASSERT_EQ(asked_.size(), 3u);
  EXPECT_EQ(asked_.back(), 31 - 20);
}

TEST_F(AutoCompactorTest, OnlyTheLeaderCompacts_AndNoOneAfterStop) {
  leads_ = false;
  Start({.keep_revisions = 1});
  world_.RunFor(hours(1));
  EXPECT_TRUE(asked_.empty());
  leads_ = true;
  world_.RunFor(minutes(6));
  EXPECT_EQ(asked_.size(), 1u);
  compactor_->Stop();
  world_.RunFor(hours(1));
  EXPECT_EQ(asked_.size(), 1u);
}

TEST_F(AutoCompactorTest, CompactedBySomebodyElse_CountsAsDone) {
  Start({.keep_time = hours(1)});
  answer_ = Error::kCompacted;
  world_.RunFor(hours(1) + minutes(50));
  EXPECT_EQ(asked_.size(), 1u);
}

}  // namespace
}  // namespace kvd::server
