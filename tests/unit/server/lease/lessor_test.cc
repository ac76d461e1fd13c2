#include "server/lease/lessor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <set>
#include <utility>

#include "base/random.h"
#include "base/sim_executor.h"
#include "storage/engine.h"
#include "storage/store.h"

namespace kvd::server {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

class LessorTest : public testing::Test {
 protected:
  LessorTest() : scheduler_(1), executor_(scheduler_.NewExecutor("lease")) { Make({}); }

  void Make(Lessor::Options options) {
    options.on_expired = [this](const std::vector<int64_t>& ids) {
      batches_.push_back(ids.size());
      for (int64_t id : ids) expired_.push_back(id);
    };
    options.on_checkpoint = [this](const std::vector<LeaseCheckpoint>& points) {
      for (const LeaseCheckpoint& p : points) checkpoints_.push_back({p.id, p.remaining_ttl_s});
    };
    lessor_ = std::make_unique<Lessor>(std::move(options), *executor_);
  }

  // What a renewal answered: its TTL, -1 if the lease was not found, -2 if the member does not lead; nothing
  // yet: 0.
  std::shared_ptr<int64_t> Renew(int64_t id) {
    auto answer = std::make_shared<int64_t>(0);
    lessor_->Renew(id, [answer](absl::StatusOr<int64_t> ttl) {
      ASSERT_EQ(*answer, 0) << "answered twice";
      *answer = ttl.ok() ? *ttl : absl::IsNotFound(ttl.status()) ? -1 : -2;
    });
    return answer;
  }
  int64_t Remaining(int64_t id) { return lessor_->TimeToLive(id, false)->remaining_ttl_s; }

  base::SimScheduler scheduler_;
  std::unique_ptr<base::Executor> executor_;
  std::vector<int64_t> expired_;
  std::vector<size_t> batches_;
  std::vector<std::pair<int64_t, int64_t>> checkpoints_;
  std::unique_ptr<Lessor> lessor_;
};

TEST_F(LessorTest, MinimumTtlIsOneAndAHalfElectionTimeoutsRoundedUp) {
  EXPECT_EQ(MinLeaseTtlSeconds(milliseconds(1000)), 2);
  EXPECT_EQ(MinLeaseTtlSeconds(milliseconds(2000)), 3);
  EXPECT_EQ(MinLeaseTtlSeconds(milliseconds(100)), 1);
  EXPECT_EQ(MinLeaseTtlSeconds(milliseconds(5000)), 8);
}

TEST_F(LessorTest, GrantRaisesShortTtlsAndRefusesBadOnes) {
  EXPECT_EQ(lessor_->Grant(1, 0)->ttl_s, 2);
  EXPECT_EQ(lessor_->Grant(2, -5)->ttl_s, 2);
  EXPECT_EQ(lessor_->Grant(3, 60)->ttl_s, 60);
  EXPECT_EQ(lessor_->Grant(4, kMaxLeaseTtlSeconds)->ttl_s, kMaxLeaseTtlSeconds);
  EXPECT_EQ(lessor_->Grant(1, 60).status(), LeaseExistsError());
  EXPECT_EQ(lessor_->Grant(5, kMaxLeaseTtlSeconds + 1).status(), LeaseTtlTooLargeError());
  EXPECT_EQ(lessor_->Grant(0, 60).status(), LeaseNotFoundError());
  EXPECT_EQ(lessor_->size(), 4u);
}

TEST_F(LessorTest, ErrorsCarryTheWiresTexts) {
  EXPECT_EQ(LeaseNotFoundError().message(), "etcdserver: requested lease not found");
  EXPECT_EQ(LeaseExistsError().message(), "etcdserver: lease already exists");
  EXPECT_EQ(LeaseTtlTooLargeError().message(), "etcdserver: too large lease TTL");
  EXPECT_EQ(LeaseExistsError().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(LeaseTtlTooLargeError().code(), absl::StatusCode::kOutOfRange);
}

TEST_F(LessorTest, RevokeReturnsTheKeysInOrder) {
  ASSERT_TRUE(lessor_->Grant(1, 60).ok());
  ASSERT_TRUE(lessor_->Grant(2, 60).ok());
  storage::LeaseBinder& binder = lessor_->binder();
  for (const char* key : {"c", "a", "d", "b"}) binder.Attach(1, key);
  binder.Attach(2, "d");  // moves
  binder.Detach("b");
  binder.Detach("never seen");
  binder.Attach(2, "e");
  binder.Attach(2, "e");
  EXPECT_THAT(lessor_->KeysOf(2), ElementsAre("d", "e"));
  EXPECT_THAT(*lessor_->Revoke(1), ElementsAre("a", "c"));
  EXPECT_EQ(lessor_->Revoke(1).status(), LeaseNotFoundError());
  EXPECT_FALSE(binder.Exists(1));
  EXPECT_TRUE(binder.Exists(2));
  binder.Detach("a");     // the store deletes the keys after the lease is gone
  binder.Attach(1, "a");  // nothing to hang on
  ASSERT_TRUE(lessor_->Grant(1, 60).ok());
  EXPECT_THAT(lessor_->KeysOf(1), IsEmpty());
}

TEST_F(LessorTest, AttachmentsMatchAModel) {
  base::Random random(7);
  std::map<std::string, int64_t> model;
  for (int64_t id = 1; id <= 8; ++id) ASSERT_TRUE(lessor_->Grant(id, 60).ok());
  for (int step = 0; step < 20'000; ++step) {
    const std::string key = "k" + std::to_string(random.Below(200));
    const int64_t id = static_cast<int64_t>(1 + random.Below(8));
    if (random.Chance(0.6)) {
      lessor_->Attach(id, key);
      model[key] = id;
    } else if (random.Chance(0.95)) {
      lessor_->Detach(key);
      model.erase(key);
    } else {
      std::vector<std::string> want;
      for (const auto& [k, lease] : model) {
        if (lease == id) want.push_back(k);
      }
      EXPECT_EQ(lessor_->TimeToLive(id, true)->keys, want);
      EXPECT_EQ(*lessor_->Revoke(id), want);
      for (const std::string& k : want) model.erase(k);
      ASSERT_TRUE(lessor_->Grant(id, 60).ok());
    }
  }
}

TEST_F(LessorTest, FollowerNeverExpiresAndDoesNotRenew) {
  ASSERT_TRUE(lessor_->Grant(1, 5).ok());
  scheduler_.RunFor(seconds(3600));
  EXPECT_THAT(expired_, IsEmpty());
  EXPECT_EQ(*Renew(1), -2);
  EXPECT_EQ(Remaining(1), 5);
}

TEST_F(LessorTest, PrimaryHandsOutExpiredLeasesAndRepeatsUntilRevoked) {
  lessor_->Promote(seconds(1));
  ASSERT_TRUE(lessor_->Grant(1, 5).ok());
  ASSERT_TRUE(lessor_->Grant(2, 60).ok());
  scheduler_.RunFor(milliseconds(4999));
  EXPECT_THAT(expired_, IsEmpty());
  scheduler_.RunFor(milliseconds(600));
  EXPECT_THAT(expired_, ElementsAre(1));
  EXPECT_TRUE(lessor_->Exists(1));  // only the log takes it away
  scheduler_.RunFor(milliseconds(2000));
  EXPECT_THAT(expired_, ElementsAre(1));
  scheduler_.RunFor(milliseconds(1500));
  EXPECT_THAT(expired_, ElementsAre(1, 1));
  ASSERT_TRUE(lessor_->Revoke(1).ok());
  scheduler_.RunFor(seconds(20));
  EXPECT_THAT(expired_, ElementsAre(1, 1));
}

TEST_F(LessorTest, RenewalKeepsALeaseAlive) {
  lessor_->Promote(seconds(1));
  ASSERT_TRUE(lessor_->Grant(1, 5).ok());
  for (int i = 0; i < 20; ++i) {
    scheduler_.RunFor(seconds(4));
    EXPECT_EQ(Remaining(1), 1);
    EXPECT_EQ(*Renew(1), 5);
    EXPECT_EQ(Remaining(1), 5);
  }
  EXPECT_THAT(expired_, IsEmpty());
  scheduler_.RunFor(seconds(6));
  EXPECT_THAT(expired_, ElementsAre(1));
  EXPECT_EQ(*Renew(99), -1);
}

TEST_F(LessorTest, RenewOfAnExpiredLeaseWaitsForItsRevocation) {
  lessor_->Promote(seconds(1));
  ASSERT_TRUE(lessor_->Grant(1, 5).ok());
  scheduler_.RunFor(seconds(5));
  const auto answer = Renew(1);
  EXPECT_EQ(*answer, 0);
  EXPECT_EQ(lessor_->waiting_renewals(), 1u);
  EXPECT_EQ(Remaining(1), 0);
  ASSERT_TRUE(lessor_->Revoke(1).ok());
  EXPECT_EQ(*answer, -1);
  EXPECT_EQ(lessor_->waiting_renewals(), 0u);
}

TEST_F(LessorTest, DemotionAnswersWaitingRenewals) {
  lessor_->Promote(seconds(1));
  ASSERT_TRUE(lessor_->Grant(1, 5).ok());
  scheduler_.RunFor(seconds(5));
  const auto answer = Renew(1);
  lessor_->Demote();
  EXPECT_EQ(*answer, -2);
  const size_t handed_out = expired_.size();
  scheduler_.RunFor(seconds(60));
  EXPECT_EQ(expired_.size(), handed_out);
}

TEST_F(LessorTest, NewLeaderExtendsEveryLease) {
  ASSERT_TRUE(lessor_->Grant(1, 10).ok());
  ASSERT_TRUE(lessor_->Grant(2, 100).ok());
  ASSERT_TRUE(lessor_->Checkpoint(2, 20).ok());
  scheduler_.RunFor(seconds(1000));
  lessor_->Promote(seconds(3));
  EXPECT_EQ(Remaining(1), 13);
  EXPECT_EQ(Remaining(2), 23);
  EXPECT_THAT(lessor_->Leases(), ElementsAre(1, 2));
  scheduler_.RunFor(milliseconds(12'900));
  EXPECT_THAT(expired_, IsEmpty());
  lessor_->Demote();
  lessor_->Promote(seconds(3));  // led again: the full time again
  scheduler_.RunFor(milliseconds(12'900));
  EXPECT_THAT(expired_, IsEmpty());
  scheduler_.RunFor(milliseconds(700));
  EXPECT_THAT(expired_, ElementsAre(1));
}

TEST_F(LessorTest, LeasesAreOrderedByExpiry) {
  lessor_->Promote(seconds(0));
  ASSERT_TRUE(lessor_->Grant(1, 30).ok());
  ASSERT_TRUE(lessor_->Grant(2, 10).ok());
  ASSERT_TRUE(lessor_->Grant(3, 20).ok());
  EXPECT_THAT(lessor_->Leases(), ElementsAre(2, 3, 1));
  scheduler_.RunFor(seconds(5));
  EXPECT_EQ(*Renew(2), 10);
  EXPECT_EQ(*Renew(1), 30);
  EXPECT_THAT(lessor_->Leases(), ElementsAre(2, 3, 1));
  scheduler_.RunFor(seconds(9));
  EXPECT_EQ(*Renew(2), 10);
  scheduler_.RunFor(seconds(2));
  EXPECT_EQ(*Renew(3), 20);
  EXPECT_THAT(lessor_->Leases(), ElementsAre(2, 1, 3));
}

TEST_F(LessorTest, ExpiryIsHandedOutSomeAtATime_TheNextWhenTheyAreDone) {
  Make({.max_expired_at_once = 10});
  lessor_->Promote(seconds(0));
  for (int64_t id = 1; id <= 35; ++id) ASSERT_TRUE(lessor_->Grant(id, 5).ok());
  scheduler_.RunFor(milliseconds(6600));
  EXPECT_THAT(batches_, ElementsAre(10));
  lessor_->ExpiredDone();
  scheduler_.RunFor(milliseconds(1));
  EXPECT_THAT(batches_, ElementsAre(10, 10));
  for (int i = 0; i < 3; ++i) {
    lessor_->ExpiredDone();
    scheduler_.RunFor(milliseconds(1));
  }
  EXPECT_THAT(batches_, ElementsAre(10, 10, 10, 5));
  std::set<int64_t> once(expired_.begin(), expired_.end());
  EXPECT_EQ(once.size(), 35u);
}

TEST_F(LessorTest, ExpiredThatAreNeverDone_AreHandedOutAgain) {
  Make({.max_expired_at_once = 10});
  lessor_->Promote(seconds(0));
  for (int64_t id = 1; id <= 15; ++id) ASSERT_TRUE(lessor_->Grant(id, 5).ok());
  scheduler_.RunFor(milliseconds(6600));
  EXPECT_THAT(batches_, ElementsAre(10));
  scheduler_.RunFor(seconds(10));
  EXPECT_GE(batches_.size(), 3u);
  EXPECT_EQ(std::set<int64_t>(expired_.begin(), expired_.end()).size(), 15u);
}

TEST_F(LessorTest, PromotionSpreadsLeasesThatWouldExpireTogether) {
  Make({.max_expired_at_once = 10, .revokes_per_second = 20});  // so 15 a second are planned
  for (int64_t id = 1; id <= 150; ++id) ASSERT_TRUE(lessor_->Grant(id, 60).ok());
  lessor_->Promote(seconds(1));
  auto run = [&](seconds length) {
    for (int i = 0; i < length.count() * 10; ++i) {
      scheduler_.RunFor(milliseconds(100));
      lessor_->ExpiredDone();
    }
  };
  // Nobody revokes them here, so some come twice.
  auto expired = [this] { return std::set<int64_t>(expired_.begin(), expired_.end()).size(); };
  run(seconds(61));
  EXPECT_LE(expired(), 10u);
  run(seconds(5));
  EXPECT_GE(expired(), 50u);
  EXPECT_LE(expired(), 100u);
}

TEST_F(LessorTest, ShortLivedLeasesOfALongTtlLeaveNothingBehind) {
  lessor_->Promote(seconds(0));
  for (int64_t id = 1; id <= 20'000; ++id) {
    ASSERT_TRUE(lessor_->Grant(id, kMaxLeaseTtlSeconds).ok());
    ASSERT_TRUE(lessor_->Revoke(id).ok());
  }
  ASSERT_TRUE(lessor_->Grant(1, 5).ok());
  scheduler_.RunFor(seconds(6));
  EXPECT_THAT(expired_, ElementsAre(1));
}

TEST_F(LessorTest, CheckpointsTellWhatIsLeft) {
  Make({.checkpoint_interval = seconds(300)});
  lessor_->Promote(seconds(0));
  ASSERT_TRUE(lessor_->Grant(1, 1000).ok());
  ASSERT_TRUE(lessor_->Grant(2, 200).ok());  // too short to be worth it
  scheduler_.RunFor(milliseconds(301'000));
  ASSERT_EQ(checkpoints_.size(), 1u);
  EXPECT_EQ(checkpoints_[0].first, 1);
  EXPECT_NEAR(checkpoints_[0].second, 700, 1);
  const auto record = lessor_->Checkpoint(1, checkpoints_[0].second);
  EXPECT_EQ(record->ttl_s, 1000);
  EXPECT_EQ(record->remaining_ttl_s, checkpoints_[0].second);
  scheduler_.RunFor(seconds(300));
  ASSERT_EQ(checkpoints_.size(), 2u);
  EXPECT_NEAR(checkpoints_[1].second, 400, 2);
  EXPECT_EQ(lessor_->Checkpoint(99, 5).status(), LeaseNotFoundError());
}

TEST_F(LessorTest, RenewOfACheckpointedLeaseWaitsUntilTheCheckpointIsCleared) {
  Make({.checkpoint_interval = seconds(300)});
  lessor_->Promote(seconds(0));
  ASSERT_TRUE(lessor_->Grant(1, 1000).ok());
  ASSERT_TRUE(lessor_->Checkpoint(1, 700).ok());
  const auto answer = Renew(1);
  EXPECT_EQ(*answer, 0);
  scheduler_.RunFor(milliseconds(1));
  ASSERT_EQ(checkpoints_.size(), 1u);
  EXPECT_EQ(checkpoints_[0], (std::pair<int64_t, int64_t>(1, 0)));
  ASSERT_TRUE(lessor_->Checkpoint(1, 0).ok());
  EXPECT_EQ(*answer, 1000);
  EXPECT_EQ(*Renew(1), 1000);
}

// The checkpoint is proposed but not applied when the renewal comes: it would shorten the lease for the next
// leader, had the renewal been answered before the log forgets it.
TEST_F(LessorTest, RenewalWaitsForACheckpointThatIsUnderWay) {
  Make({.checkpoint_interval = seconds(300)});
  lessor_->Promote(seconds(0));
  ASSERT_TRUE(lessor_->Grant(1, 1000).ok());
  scheduler_.RunFor(milliseconds(301'000));
  ASSERT_EQ(checkpoints_.size(), 1u);
  const auto answer = Renew(1);
  EXPECT_EQ(*answer, 0);
  ASSERT_TRUE(lessor_->Checkpoint(1, checkpoints_[0].second).ok());
  EXPECT_EQ(*answer, 0);
  scheduler_.RunFor(milliseconds(1));
  ASSERT_EQ(checkpoints_.size(), 2u);
  EXPECT_EQ(checkpoints_[1], (std::pair<int64_t, int64_t>(1, 0)));
  ASSERT_TRUE(lessor_->Checkpoint(1, 0).ok());
  EXPECT_EQ(*answer, 1000);
  EXPECT_EQ(*Renew(1), 1000);
}

TEST_F(LessorTest, ClearForgetsEverything) {
  lessor_->Promote(seconds(0));
  ASSERT_TRUE(lessor_->Grant(1, 5).ok());
  lessor_->Attach(1, "a");
  scheduler_.RunFor(seconds(5));
  const auto answer = Renew(1);
  lessor_->Clear();
  EXPECT_EQ(*answer, -2);
  EXPECT_FALSE(lessor_->IsPrimary());
  EXPECT_EQ(lessor_->size(), 0u);
  lessor_->Recover({.id = 1, .ttl_s = 1, .remaining_ttl_s = 0});
  EXPECT_THAT(lessor_->KeysOf(1), IsEmpty());
  EXPECT_EQ(lessor_->TimeToLive(1, false)->granted_ttl_s, 2);
}

TEST_F(LessorTest, DestructionAnswersWaitingRenewals) {
  lessor_->Promote(seconds(0));
  ASSERT_TRUE(lessor_->Grant(1, 5).ok());
  scheduler_.RunFor(seconds(5));
  const auto answer = Renew(1);
  lessor_.reset();
  EXPECT_EQ(*answer, -2);
  scheduler_.RunFor(seconds(5));
  EXPECT_THAT(expired_, UnorderedElementsAre(1));  // from before
}

class LessorStoreTest : public LessorTest {
 protected:
  LessorStoreTest() : background_(scheduler_.NewExecutor("background")), disk_(storage::NewModelDisk()) {
    Open();
  }
  ~LessorStoreTest() override { store_.reset(); }

  void Open() {
    store_.reset();
    store_ = *storage::Store::Open(storage::OpenModelEngine(disk_), *background_);
    store_->SetLeaseBinder(&lessor_->binder());
  }

  std::unique_ptr<base::Executor> background_;
  std::shared_ptr<storage::ModelDisk> disk_;
  std::unique_ptr<storage::Store> store_;
};

TEST_F(LessorStoreTest, LeasesAndTheirKeysComeBackFromTheStore) {
  auto batch = store_->BeginApply();
  for (int64_t id : {7, 8}) {
    const auto record = lessor_->Grant(id, 60);
    batch.PutTable(storage::Table::kLease, EncodeLeaseKey(id), EncodeLeaseRecord(*record));
  }
  batch.PutTable(storage::Table::kLease, EncodeLeaseKey(8), EncodeLeaseRecord(*lessor_->Checkpoint(8, 30)));
  EXPECT_EQ(batch.Put({.key = "x", .value = "v", .lease = 99}).error, storage::StoreError::kLeaseNotFound);
  EXPECT_TRUE(batch.Put({.key = "b", .value = "v", .lease = 7}).ok());
  EXPECT_TRUE(batch.Put({.key = "a", .value = "v", .lease = 7}).ok());
  EXPECT_TRUE(batch.Put({.key = "c", .value = "v", .lease = 7}).ok());
  EXPECT_TRUE(batch.Put({.key = "c", .value = "v", .lease = 8}).ok());  // moves
  EXPECT_TRUE(batch.Put({.key = "d", .value = "v", .lease = 8}).ok());
  EXPECT_TRUE(batch.Put({.key = "d", .value = "v"}).ok());  // detaches
  EXPECT_TRUE(batch.Put({.key = "e", .value = "v", .lease = 8}).ok());
  EXPECT_TRUE(batch.DeleteRange({.key = "e"}).ok());
  batch.Commit({.index = 1, .term = 1});
  EXPECT_THAT(lessor_->KeysOf(7), ElementsAre("a", "b"));
  EXPECT_THAT(lessor_->KeysOf(8), ElementsAre("c"));
  store_->Flush();

  Make({});
  Open();
  store_->ForEachInTable(storage::Table::kLease, [&](std::string_view, std::string_view value) {
    lessor_->Recover(*DecodeLeaseRecord(value));
  });
  store_->ForEachLeasedKey([&](std::string_view key, int64_t lease) { lessor_->Attach(lease, key); });
  EXPECT_THAT(lessor_->KeysOf(7), ElementsAre("a", "b"));
  EXPECT_THAT(lessor_->KeysOf(8), ElementsAre("c"));
  EXPECT_EQ(lessor_->TimeToLive(7, false)->granted_ttl_s, 60);
  lessor_->Promote(seconds(1));
  EXPECT_EQ(Remaining(7), 61);
  EXPECT_EQ(Remaining(8), 31);
}

TEST_F(LessorStoreTest, RevocationDeletesTheKeysInOneRevision) {
  auto batch = store_->BeginApply();
  ASSERT_TRUE(lessor_->Grant(7, 60).ok());
  for (const char* key : {"b", "c", "a"}) batch.Put({.key = key, .value = "v", .lease = 7});
  const auto keys = lessor_->Revoke(7);
  const int64_t before = batch.revision();
  EXPECT_EQ(batch.DeleteKeys(*keys).count, 3);
  EXPECT_EQ(batch.revision(), before + 1);
  batch.Commit({.index = 1, .term = 1});
  EXPECT_EQ(store_->live_keys(), 0);
}

}  // namespace
}  // namespace kvd::server
