// The checkers of simulated histories: what is right passes, what is wrong is found, and the two checks of
// linearizability agree on small histories.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/sim_executor.h"
#include "history_checker.h"
#include "storage/store.h"
#include "truth.h"
#include "wgl_checker.h"

namespace kvd::sim {
namespace {

using base::Nanos;
using Kind = Op::Kind;

// One store without any cluster, whose history is made by hand.
class Checkers : public ::testing::Test {
 protected:
  Checkers() {
    std::unique_ptr<storage::Engine> engine = storage::OpenModelEngine(storage::NewModelDisk());
    auto store = storage::Store::Open(truth_.Watch(0, std::move(engine)), *background_);
    store_ = *std::move(store);
  }

  void SetTime(int64_t ms) {
    scheduler_.RunFor(std::chrono::milliseconds(ms) - scheduler_.clock().Monotonic());
  }

  // An operation that takes effect at `at` ms within [from, to]; `to` < 0: it is never answered.
  Op& Put(const std::string& key, int64_t from, int64_t at, int64_t to) {
    Op& op = New(Kind::kPut, from, to);
    op.put.set_key(key);
    op.put.set_value("v" + std::to_string(op.id));
    SetTime(at);
    storage::ApplyBatch batch = store_->BeginApply();
    storage::OpResult result = batch.Put({.key = op.put.key(), .value = op.put.value()});
    batch.Commit({++index_, 1});
    op.revision = result.revision;
    return op;
  }
  Op& Delete(const std::string& key, int64_t from, int64_t at, int64_t to) {
    Op& op = New(Kind::kDelete, from, to);
    op.del.set_key(key);
    SetTime(at);
    storage::ApplyBatch batch = store_->BeginApply();
    storage::OpResult result = batch.DeleteRange({.key = op.del.key()});
    batch.Commit({++index_, 1});
    op.revision = result.revision;
    op.del_answer.ParseFromString(result.body);
    return op;
  }
  Op& Get(const std::string& key, int64_t from, int64_t at, int64_t to) {
    Op& op = New(Kind::kRange, from, to);
    op.range.set_key(key);
    SetTime(at);
    storage::OpResult result;
    store_->Range({.key = op.range.key()}, &result);
    op.revision = result.revision;
    op.range_answer.ParseFromString(result.body);
    return op;
  }

  // The checker that objects; empty: none.
  std::string Judge() {
    Verdict verdict;
    if (truth_verdict_.failed()) return truth_verdict_.checker();
    CheckHistory(ops_, truth_, verdict);
    return verdict.checker();
  }
  WglResult JudgeGenerally() { return CheckLinearizable(*AsRegisterOps(ops_)); }

  base::SimScheduler scheduler_{1};
  std::unique_ptr<base::Executor> background_ = scheduler_.NewExecutor("background");
  Verdict truth_verdict_;
  Truth truth_{scheduler_.clock(), truth_verdict_};
  std::unique_ptr<storage::Store> store_;
  Ops ops_;
  uint64_t index_ = 0;

 private:
  Op& New(Kind kind, int64_t from, int64_t to) {
    Op& op = ops_.emplace_back();
    op.id = ops_.size();
    op.kind = kind;
    op.invoked = std::chrono::milliseconds(from);
    if (to >= 0) op.returned = Nanos(std::chrono::milliseconds(to));
    return op;
  }
};

TEST_F(Checkers, AGoodHistory_Passes) {
  Put("a", 1, 2, 3);
  Get("a", 4, 5, 6);
  Put("b", 4, 7, -1);
  Delete("a", 5, 8, 9);
  Delete("a", 10, 11, 12);  // there is nothing left
  Get("b", 10, 13, 14);
  EXPECT_EQ(Judge(), "");
  EXPECT_EQ(JudgeGenerally(), WglResult::kLinearizable);
}

TEST_F(Checkers, AStaleRead_IsFound) {
  Put("a", 1, 2, 3);
  Op& stale = Get("a", 5, 6, 9);
  Put("a", 7, 8, 9);
  stale.invoked = std::chrono::milliseconds(10);
  stale.returned = Nanos(std::chrono::milliseconds(11));
  EXPECT_EQ(Judge(), "linearizable");
  EXPECT_EQ(JudgeGenerally(), WglResult::kNotLinearizable);
}

TEST_F(Checkers, AWrongValue_IsFound) {
  Put("a", 1, 2, 3);
  Get("a", 4, 5, 6).range_answer.mutable_kvs(0)->set_value("other");
  EXPECT_EQ(Judge(), "answers");
  EXPECT_EQ(JudgeGenerally(), WglResult::kNotLinearizable);
}

TEST_F(Checkers, ALostWrite_IsFound) {
  Put("a", 1, 2, 3);
  Op& lost = ops_.emplace_back(ops_.front());
  lost.id = 2;
  lost.put.set_value("lost");
  lost.revision = 3;
  lost.invoked = std::chrono::milliseconds(4);
  lost.returned = Nanos(std::chrono::milliseconds(5));
  EXPECT_EQ(Judge(), "durability");
  // Without knowing what is there, it could still be; a read that does not see it cannot.
  EXPECT_EQ(JudgeGenerally(), WglResult::kLinearizable);
  Get("a", 6, 7, 8).revision = 3;
  EXPECT_EQ(JudgeGenerally(), WglResult::kNotLinearizable);
}

TEST_F(Checkers, AWriteAppliedTwice_IsFound) {
  Op& op = Put("a", 1, 2, -1);
  storage::ApplyBatch batch = store_->BeginApply();
  batch.Put({.key = op.put.key(), .value = op.put.value()});
  batch.Commit({++index_, 1});
  EXPECT_EQ(Judge(), "causes");
}

TEST_F(Checkers, ARefusedWriteThatIsThere_IsFound) {
  Put("a", 1, 2, 3).error = server::Error::kTooManyRequests;
  EXPECT_EQ(Judge(), "causes");
}

TEST_F(Checkers, ADeletionWithoutCause_IsFound) {
  Put("a", 1, 2, 3);
  Delete("a", 4, 5, 6);
  ops_.pop_back();
  EXPECT_EQ(Judge(), "causes");
}

TEST_F(Checkers, AMemberThatWritesSomethingElse_IsFound) {
  Put("a", 1, 2, 3);
  auto other = truth_.Watch(1, storage::OpenModelEngine(storage::NewModelDisk()));
  auto store = *storage::Store::Open(std::move(other), *background_);
  storage::ApplyBatch batch = store->BeginApply();
  batch.Put({.key = "a", .value = "different"});
  batch.Commit({1, 1});
  EXPECT_EQ(Judge(), "agreement");
}

TEST_F(Checkers, Hashes_MustAgreeAtEqualRevisions) {
  truth_.Hash(0, 5, -1, 77);
  truth_.Hash(1, 5, 3, 78);
  EXPECT_EQ(Judge(), "");
  truth_.Hash(1, 5, -1, 78);
  EXPECT_EQ(Judge(), "hash");
}

// Histories with overlapping operations, some of them spoilt: the fast check and the search say the same.
TEST(CheckersTogether, AgreeOnSmallHistories) {
  class Fixture : public Checkers {
   public:
    void TestBody() override {}
    // True if spoilt in a way that both can see.
    void Fill(base::Random& random) {
      int64_t now = 1;
      for (int i = 0; i < 12; ++i) {
        int64_t at = now + 2;
        int64_t from = at - static_cast<int64_t>(random.Below(6)) - 1;
        int64_t to = at + static_cast<int64_t>(random.Below(6));
        std::string key(1, static_cast<char>('a' + random.Below(2)));
        if (from < 0) from = 0;
        switch (random.Below(3)) {
          case 0:
            Put(key, from, at, to);
            break;
          case 1:
            Delete(key, from, at, to);
            break;
          default:
            Get(key, from, at, to);
            break;
        }
        now = at;
      }
      if (!random.Chance(0.6)) return;
      // An operation moved to another time: right or wrong, as the others allow.
      size_t at = random.Below(ops_.size());
      while (at + 1 < ops_.size() && ops_[at].kind != Kind::kRange) ++at;
      Op& op = ops_[at];
      Nanos shift = std::chrono::milliseconds(random.Below(41)) - std::chrono::milliseconds(20);
      if (op.kind == Kind::kRange && op.invoked + shift >= Nanos(0)) {
        op.invoked += shift;
        op.returned = *op.returned + shift;
      }
    }
    std::pair<bool, bool> Both() { return {Judge().empty(), JudgeGenerally() == WglResult::kLinearizable}; }
  };
  int wrong = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    base::Random random(seed);
    Fixture fixture;
    fixture.Fill(random);
    auto [fast, general] = fixture.Both();
    // The fast check also knows when a revision came to be, so it may object where the search cannot.
    EXPECT_TRUE(!fast || general) << "seed " << seed;
    wrong += general ? 0 : 1;
  }
  EXPECT_GT(wrong, 10);
  EXPECT_LT(wrong, 290);
}

}  // namespace
}  // namespace kvd::sim
