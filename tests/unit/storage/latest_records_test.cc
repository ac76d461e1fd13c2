#include "storage/latest_records.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "storage/engine.h"
#include "storage/meta.h"
#include "storage/stored_record.h"

namespace kvd::storage {
namespace {

using Answer = LatestRecords::Answer;

Event MakeEvent(std::string_view key, int64_t revision, std::string_view value, bool deleted = false) {
  std::string record;
  AppendKeyValue(record, {.key = key,
                          .create_revision = deleted ? 0 : revision,
                          .mod_revision = revision,
                          .version = deleted ? 0 : 1,
                          .value = value,
                          .lease = 0});
  Event event;
  event.type = deleted ? Event::Type::kDelete : Event::Type::kPut;
  event.kv = base::SharedBytes(std::move(record));
  KeyValueView kv;
  DecodeKeyValue(event.kv.view(), &kv);
  event.key = kv.key;
  event.revision = {revision, 0};
  return event;
}

// Writes down what a batch is asked for.
class Recorder final : public WriteBatch {
 public:
  void Put(std::string_view key, std::string_view value) override {
    if (key == TableKey(Table::kMeta, kLatestThroughKey)) {
      changes.push_back("through " + std::to_string(base::LoadBigEndian64(value.data())));
      return;
    }
    StoredRecord record;
    EXPECT_TRUE(DecodeStored(value, &record));
    changes.push_back(std::string(key) + "=" +
                      (record.large ? std::to_string(record.record_size) + " bytes at " +
                                          std::to_string(record.revision().main) + "." +
                                          std::to_string(record.revision().sub)
                                    : std::string(record.kv.value)));
  }
  void Delete(std::string_view key) override { changes.push_back("-" + std::string(key)); }
  void Clear() override { changes.clear(); }
  size_t count() const override { return changes.size(); }

  std::vector<std::string> changes;
};

using Changes = std::vector<std::string>;

class LatestRecordsTest : public ::testing::Test {
 protected:
  void Put(std::string_view key, std::string_view value) { Enter(MakeEvent(key, ++revision_, value)); }
  void Delete(std::string_view key) { Enter(MakeEvent(key, ++revision_, {}, true)); }
  void Enter(const Event& event) { latest_->Enter({&event, 1}); }
  std::string Value(std::string_view key) {
    LatestRecords::Found found = latest_->Find(key);
    if (found.answer == Answer::kUnknown) return "?";
    if (found.answer == Answer::kDeleted) return "-";
    KeyValueView kv;
    EXPECT_TRUE(DecodeKeyValue(found.record.view(), &kv));
    EXPECT_EQ(kv.key, key);
    EXPECT_EQ(kv.mod_revision, found.mod_revision);
    return std::string(kv.value);
  }
  // What the next Take appends.
  Changes Taken(size_t changes = 0) {
    Recorder batch;
    const bool taken = latest_->Take(changes, revision_, batch);
    EXPECT_EQ(taken, !batch.changes.empty());
    return batch.changes;
  }
  void Make(const LatestRecords::Options& options) { latest_ = std::make_unique<LatestRecords>(options); }

  std::unique_ptr<LatestRecords> latest_ = std::make_unique<LatestRecords>(LatestRecords::Options());
  int64_t revision_ = 1;
};

TEST_F(LatestRecordsTest, Find_KnowsWhatWasEntered) {
  EXPECT_TRUE(latest_->AllWritten());
  Put("a", "1");
  Put("b", "2");
  Put("a", "3");
  Delete("b");
  EXPECT_FALSE(latest_->AllWritten());
  EXPECT_EQ(Value("a"), "3");
  EXPECT_EQ(Value("b"), "-");
  EXPECT_EQ(Value("c"), "?");
}

TEST_F(LatestRecordsTest, Take_WhenDue_EachKeyOnceInOrderThenTheMark) {
  Make({.due_changes = 6});
  Put("key/b", "1");
  Put("key/a", "2");
  Put("key", "3");
  Put("key/b", "4");
  Delete("key/c");
  EXPECT_EQ(Taken(), Changes());
  Put("key/bb", "5");
  EXPECT_EQ(Taken(), (Changes{"Lkey=3", "Lkey/a=2", "Lkey/b=4", "Lkey/bb=5", "-Lkey/c", "through 7"}));
  latest_->Written();
  EXPECT_TRUE(latest_->AllWritten());
  EXPECT_EQ(Taken(), Changes());
  EXPECT_EQ(Value("key/b"), "4");
  EXPECT_EQ(Value("key/c"), "?");  // the engine knows
}

TEST_F(LatestRecordsTest, Take_ByBytes) {
  Make({.due_bytes = 100'000});
  Put("small", "1");
  EXPECT_EQ(Taken(), Changes());
  Put("large", std::string(100'000, 'v'));
  EXPECT_EQ(Taken().size(), 3u);
}

TEST_F(LatestRecordsTest, Take_InSlices_MarkOnlyWithTheLast) {
  Make({.due_changes = 100});
  for (int i = 100; i < 200; ++i) Put("k" + std::to_string(i), "old");
  Changes first = Taken();
  ASSERT_EQ(first.size(), 64u);
  EXPECT_EQ(first.back(), "Lk163=old");
  latest_->Written();
  // What changes meanwhile: a key that is still to come goes with it, the others wait for the next round.
  Put("k100", "new");
  Put("k199", "new");
  Put("k1", "new");
  Changes second = Taken(3);
  ASSERT_EQ(second.size(), 37u);
  EXPECT_EQ(second.front(), "Lk164=old");
  EXPECT_EQ(second[35], "Lk199=new");
  EXPECT_EQ(second[36], "through 101");
  latest_->Written();
  EXPECT_FALSE(latest_->AllWritten());
  EXPECT_EQ(Taken(), Changes());
  Recorder rest;
  EXPECT_TRUE(latest_->TakeAll(revision_, rest));
  EXPECT_EQ(rest.changes, (Changes{"Lk1=new", "Lk100=new", "through 104"}));
  latest_->Written();
  EXPECT_TRUE(latest_->AllWritten());
  EXPECT_FALSE(latest_->TakeAll(revision_, rest));
}

TEST_F(LatestRecordsTest, TakeSome_UntilAllUpToARevisionIsWritten) {
  Put("a", "1");
  Put("b", "2");
  Put("c", "3");
  const int64_t target = revision_;
  Recorder batch;
  ASSERT_TRUE(latest_->TakeSome(2, revision_, batch));
  EXPECT_EQ(batch.changes, (Changes{"La=1", "Lb=2"}));
  latest_->Written();
  EXPECT_EQ(latest_->unwritten(), 1u);
  EXPECT_FALSE(latest_->WrittenThrough(target));
  Put("a", "4");  // later than the round
  batch.Clear();
  ASSERT_TRUE(latest_->TakeSome(2, revision_, batch));
  EXPECT_EQ(batch.changes, (Changes{"Lc=3", "through 4"}));
  latest_->Written();
  EXPECT_TRUE(latest_->WrittenThrough(target));
  EXPECT_FALSE(latest_->WrittenThrough(revision_));
  EXPECT_FALSE(latest_->AllWritten());
}

TEST_F(LatestRecordsTest, GiveBack_TakesTheSameAgain) {
  Make({.due_changes = 2});
  Put("a", "1");
  Put("b", "2");
  Changes taken = Taken();
  latest_->GiveBack();
  EXPECT_FALSE(latest_->AllWritten());
  EXPECT_EQ(Taken(), taken);
  latest_->GiveBack();
  Put("a", "3");
  Recorder all;
  EXPECT_TRUE(latest_->TakeAll(revision_, all));
  EXPECT_EQ(all.changes, (Changes{"La=3", "Lb=2", "through 4"}));
}

TEST_F(LatestRecordsTest, Remember_UnlessThereWasAChange) {
  LatestRecords::Found unknown = latest_->Find("a");
  latest_->Remember(unknown, MakeEvent("a", 5, "read").kv.view());
  EXPECT_EQ(Value("a"), "read");
  EXPECT_TRUE(latest_->AllWritten());

  // The record that was read is no longer the latest one, and nothing here says so any more.
  unknown = latest_->Find("b");
  Put("b", "new");
  Delete("b");
  Recorder batch;
  ASSERT_TRUE(latest_->TakeAll(revision_, batch));
  latest_->Written();
  latest_->Remember(unknown, MakeEvent("b", 1, "stale").kv.view());
  EXPECT_EQ(Value("b"), "?");
}

TEST_F(LatestRecordsTest, Large_IsWrittenAsAReference_ReadWhole) {
  Event event = MakeEvent("a", ++revision_, "a large value");
  event.revision.sub = 7;
  event.large = true;
  Enter(event);
  EXPECT_EQ(Value("a"), "a large value");
  Recorder batch;
  ASSERT_TRUE(latest_->TakeAll(revision_, batch));
  EXPECT_EQ(batch.changes.front(),
            "La=" + std::to_string(event.kv.size()) + " bytes at " + std::to_string(revision_) + ".7");
}

TEST_F(LatestRecordsTest, Capacity_WrittenOnesGo_UnwrittenAndUsedOnesStay) {
  Make({.capacity_bytes = 64'000, .due_changes = 1'000'000});
  constexpr int kKeys = 2000;
  auto known = [&](int from) {
    int n = 0;
    for (int i = from; i < from + kKeys; ++i) n += Value("k" + std::to_string(i)) == "?" ? 0 : 1;
    return n;
  };
  for (int i = 0; i < kKeys; ++i) Put("k" + std::to_string(i), "v");
  EXPECT_EQ(known(0), kKeys);
  Recorder batch;
  ASSERT_TRUE(latest_->TakeAll(revision_, batch));
  latest_->Written();
  EXPECT_LT(known(0), kKeys);
  for (int i = kKeys; i < 2 * kKeys; ++i) {
    Put("k" + std::to_string(i), "v");
    ASSERT_TRUE(latest_->TakeAll(revision_, batch));
    latest_->Written();
    if (i == kKeys) {
      LatestRecords::Found unknown = latest_->Find("hot");
      latest_->Remember(unknown, MakeEvent("hot", 1, "hot").kv.view());
    }
    EXPECT_EQ(Value("hot"), "hot");
  }
  EXPECT_EQ(known(0), 0);
  EXPECT_GT(known(kKeys), 64'000 / 300 / 2);
  EXPECT_LT(known(kKeys), 64'000 / 192);
}

}  // namespace
}  // namespace kvd::storage
