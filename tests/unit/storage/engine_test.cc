#include "storage/engine.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "base/random.h"
#include "storage_test_util.h"

namespace kvd::storage {
namespace {

// Both engines must pass the same tests.
class EngineTest : public ::testing::TestWithParam<EngineKind> {
 protected:
  void SetUp() override { Open(); }
  void Open() { engine_ = home_.Open(); }
  void Put(std::string_view key, std::string_view value) {
    auto batch = engine_->NewBatch();
    batch->Put(key, value);
    engine_->Write(*batch);
  }
  std::string All(const IteratorOptions& options = {}) {
    std::string out;
    for (auto it = engine_->NewIterator(options); it->Valid(); it->Next()) {
      out.append(it->key()).append("=").append(it->value()).append(" ");
    }
    return out;
  }

  EngineHome home_{GetParam()};
  std::unique_ptr<Engine> engine_;
};

TEST_P(EngineTest, Batch_AppliesWhole_LaterChangesWin) {
  auto batch = engine_->NewBatch();
  batch->Put("a", "1");
  batch->Put("b", "1");
  batch->Put("a", "2");
  batch->Delete("b");
  EXPECT_EQ(batch->count(), 4u);
  EXPECT_EQ(All(), "");
  engine_->Write(*batch);
  EXPECT_EQ(All(), "a=2 ");
  std::string value;
  EXPECT_TRUE(engine_->Get("a", &value));
  EXPECT_EQ(value, "2");
  EXPECT_FALSE(engine_->Get("b", &value));
}

TEST_P(EngineTest, SnapshotAndIterator_DoNotMove) {
  Put("a", "1");
  Put("c", "1");
  auto snapshot = engine_->TakeSnapshot();
  auto it = engine_->NewIterator({});
  Put("a", "2");
  Put("b", "2");
  auto batch = engine_->NewBatch();
  batch->Delete("c");
  engine_->Write(*batch);
  EXPECT_EQ(All(), "a=2 b=2 ");
  EXPECT_EQ(All({.lower = "", .upper = "", .snapshot = snapshot.get()}), "a=1 c=1 ");
  std::string value;
  EXPECT_TRUE(engine_->Get("c", &value, snapshot.get()));
  EXPECT_FALSE(engine_->Get("b", &value, snapshot.get()));
  EXPECT_EQ(it->key(), "a");
  EXPECT_EQ(it->value(), "1");
  it->Next();
  EXPECT_EQ(it->key(), "c");
}

TEST_P(EngineTest, Iterator_KeepsItsBounds) {
  for (const char* key : {"a", "b", "c", "d"}) Put(key, "1");
  EXPECT_EQ(All({.lower = "b", .upper = "d"}), "b=1 c=1 ");
  auto it = engine_->NewIterator({.lower = "b", .upper = "d"});
  it->Seek("a");
  EXPECT_EQ(it->key(), "b");
  it->Seek("bb");
  EXPECT_EQ(it->key(), "c");
  it->Seek("d");
  EXPECT_FALSE(it->Valid());
}

TEST_P(EngineTest, Iterator_NotAtTheStart_StandsAtTheStateWhenItWasMade) {
  for (const char* key : {"a", "b", "c", "d"}) Put(key, "1");
  auto it = engine_->NewIterator({.lower = "b", .upper = "d", .at_start = false});
  Put("b", "2");
  Put("bb", "2");
  EXPECT_FALSE(it->Valid());
  it->Seek("a");
  ASSERT_TRUE(it->Valid());
  EXPECT_EQ(it->key(), "b");
  EXPECT_EQ(it->value(), "1");
  it->Next();
  EXPECT_EQ(it->key(), "c");
}

TEST_P(EngineTest, GetPersisted_SeesOnlyWhatWasFlushed) {
  std::string value;
  Put("a", "1");
  EXPECT_FALSE(engine_->GetPersisted("a", &value));
  engine_->Flush();
  EXPECT_TRUE(engine_->GetPersisted("a", &value));
  Put("a", "2");
  EXPECT_TRUE(engine_->GetPersisted("a", &value));
  EXPECT_EQ(value, "1");
}

TEST_P(EngineTest, Crash_LeavesTheStateOfTheLastFlush) {
  Put("a", "1");
  Put("b", "1");
  engine_->Flush();
  Put("a", "2");
  auto batch = engine_->NewBatch();
  batch->Delete("b");
  batch->Put("c", "2");
  engine_->Write(*batch);
  home_.Crash(&engine_);
  Open();
  EXPECT_EQ(All(), "a=1 b=1 ");
  Put("a", "3");
  engine_->Flush();
  home_.Crash(&engine_);
  Open();
  EXPECT_EQ(All(), "a=3 b=1 ");
}

TEST_P(EngineTest, CompactRange_ChangesNothingThatCanBeRead) {
  for (int i = 0; i < 500; ++i) Put("k" + std::to_string(i % 50), std::to_string(i));
  engine_->Flush();
  std::string before = All();
  engine_->CompactRange({}, {});
  EXPECT_EQ(All(), before);
}

INSTANTIATE_TEST_SUITE_P(Engines, EngineTest, ::testing::Values(EngineKind::kModel, EngineKind::kRocks),
                         [](const auto& kind) {
                           return kind.param == EngineKind::kModel ? "Model" : "Rocks";
                         });

// Values that stand apart from their keys, in files of some ten of them.
class SeparateValuesTest : public ::testing::Test {
 protected:
  static constexpr int kValues = 600;
  void SetUp() override {
    base::Random random(7);
    for (int i = 0; i < kValues; ++i) {
      std::string& value = values_[Key(i)];
      while (value.size() < 5000) value.push_back(static_cast<char>(random.Below(256)));
    }
    Write([this](WriteBatch& batch) {
      for (const auto& [key, value] : values_) batch.Put(key, value);
    });
    engine_->Flush();
  }
  static std::string Key(int i) { return "V" + std::to_string(1000 + i); }
  void Write(absl::FunctionRef<void(WriteBatch&)> changes) {
    auto batch = engine_->NewBatch();
    changes(*batch);
    engine_->Write(*batch);
  }
  // All but one in ten.
  void DeleteMost() {
    Write([this](WriteBatch& batch) {
      for (int i = 0; i < kValues; ++i) {
        if (i % 10 == 0) continue;
        batch.Delete(Key(i));
        values_.erase(Key(i));
      }
    });
    engine_->Flush();
    engine_->CompactRange({}, {});
  }
  void ExpectAllThere() {
    auto it = engine_->NewIterator({});
    for (const auto& [key, value] : values_) {
      ASSERT_TRUE(it->Valid());
      EXPECT_EQ(it->key(), key);
      EXPECT_EQ(it->value(), value) << key;
      it->Next();
    }
    EXPECT_FALSE(it->Valid());
  }
  std::set<std::string> FilesOfValues() {
    std::set<std::string> names;
    for (const auto& file : std::filesystem::directory_iterator(home_.path())) {
      if (file.path().extension() == ".blob") names.insert(file.path().filename());
    }
    return names;
  }

  EngineHome home_{EngineKind::kRocksTiny};
  std::unique_ptr<Engine> engine_ = home_.Open();
  std::map<std::string, std::string> values_;
};

TEST_F(SeparateValuesTest, StayWhereTheyAreWhileTheirKeysMove) {
  const std::set<std::string> files = FilesOfValues();
  ASSERT_GE(files.size(), 10u);
  EXPECT_GE(engine_->Sizes().separate_bytes, uint64_t{kValues} * 5000);
  for (int round = 0; round < 3; ++round) {
    Write([](WriteBatch& batch) {
      for (int i = 0; i < 1000; ++i) batch.Put("L" + std::to_string(i), "small");
    });
    engine_->Flush();
    engine_->CompactRange({}, {});
  }
  EXPECT_EQ(FilesOfValues(), files);
  EXPECT_EQ(engine_->Sizes().garbage_bytes, 0u);
}

TEST_F(SeparateValuesTest, WhatIsDeletedIsGarbage_UntilItIsCollected) {
  DeleteMost();
  EngineSizes before = engine_->Sizes();
  EXPECT_GT(before.garbage_bytes, before.separate_bytes / 2);
  EXPECT_GE(before.disk_bytes, before.separate_bytes);
  EXPECT_LT(before.live_bytes, before.disk_bytes / 2);
  engine_->CollectGarbage(0.95);  // there is less
  EXPECT_EQ(engine_->Sizes().garbage_bytes, before.garbage_bytes);
  engine_->CollectGarbage(0.2);
  EngineSizes after = engine_->Sizes();
  EXPECT_LE(after.garbage_bytes, after.separate_bytes / 5 + 1);
  EXPECT_LT(after.disk_bytes, before.disk_bytes / 3);
  ExpectAllThere();
  engine_.reset();
  engine_ = home_.Open();
  ExpectAllThere();
}

TEST_F(SeparateValuesTest, AllDeleted_GoWithoutCollection) {
  Write([this](WriteBatch& batch) {
    for (const auto& [key, value] : values_) batch.Delete(key);
  });
  values_.clear();
  engine_->Flush();
  engine_->CompactRange({}, {});
  EXPECT_TRUE(FilesOfValues().empty());
  ExpectAllThere();
}

TEST_F(SeparateValuesTest, ASnapshotKeepsThem_AndTheOthersAreCollected) {
  auto snapshot = engine_->TakeSnapshot();
  const std::map<std::string, std::string> all = values_;
  DeleteMost();
  engine_->CollectGarbage(0);
  for (const auto& [key, value] : all) {
    std::string found;
    ASSERT_TRUE(engine_->Get(key, &found, snapshot.get())) << key;
    EXPECT_EQ(found, value);
  }
  snapshot.reset();
  ExpectAllThere();
}

TEST_F(SeparateValuesTest, StoppedCompacting_NothingIsCollected) {
  DeleteMost();
  const uint64_t garbage = engine_->Sizes().garbage_bytes;
  engine_->StopCompacting();
  engine_->CollectGarbage(0);
  engine_->CompactRange({}, {});
  EXPECT_EQ(engine_->Sizes().garbage_bytes, garbage);
  ExpectAllThere();
}

TEST(RocksEngineTest, SecondOpener_IsRefused) {
  EngineHome home(EngineKind::kRocks);
  auto first = home.Open();
  auto second = OpenRocksEngine(home.path(), {});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition) << second.status();
}

TEST(RocksEngineTest, Checkpoint_IsAWholeCopy) {
  EngineHome home(EngineKind::kRocks);
  auto engine = home.Open();
  auto batch = engine->NewBatch();
  batch->Put("a", "1");
  engine->Write(*batch);
  std::string copy = home.path() + "-copy";
  ASSERT_TRUE(engine->Checkpoint(copy).ok());
  auto opened = OpenRocksEngine(copy, {.create_if_missing = false});
  ASSERT_TRUE(opened.ok()) << opened.status();
  std::string value;
  EXPECT_TRUE((*opened)->Get("a", &value));
  opened->reset();
  std::filesystem::remove_all(copy);
}

TEST(RocksEngineTest, NewDatabase_IsNoErrorInTheLog) {
  EngineHome home(EngineKind::kRocks);
  ::testing::internal::CaptureStderr();
  auto engine = home.Open();
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST(RocksEngineTest, MissingDatabase_IsNotMadeUnasked) {
  auto engine = OpenRocksEngine(::testing::TempDir() + "/no-such-db", {.create_if_missing = false});
  ASSERT_FALSE(engine.ok());
  EXPECT_EQ(engine.status().code(), absl::StatusCode::kNotFound) << engine.status();
}

TEST(RocksEngineTest, CleanClose_KeepsEverything) {
  EngineHome home(EngineKind::kRocks);
  auto engine = home.Open();
  auto batch = engine->NewBatch();
  batch->Put("a", "1");
  engine->Write(*batch);
  engine.reset();
  engine = home.Open();
  std::string value;
  EXPECT_TRUE(engine->Get("a", &value));
}

}  // namespace
}  // namespace kvd::storage
