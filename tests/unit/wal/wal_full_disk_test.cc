#include <gtest/gtest.h>

#include "base/random.h"
#include "wal/wal.h"
#include "wal_fixture.h"

namespace kvd::wal {
namespace {

class WalFullDiskTest : public WalFixture {
 protected:
  WalFullDiskTest() { base::SetLogLevel(base::LogLevel::kFatal); }
};

TEST_F(WalFullDiskTest, Append_GoesOnOnceThereIsRoom) {
  auto wal = MustCreate();
  fs_->SetCapacity(16 << 10);
  uint64_t refused = 0;
  for (uint64_t i = 1; i <= 60; ++i) {
    ASSERT_TRUE(wal->Append(nullptr, MakeEntries(i, i, 1, 1000)).ok());
    absl::Status status = wal->Sync();
    while (absl::IsResourceExhausted(status)) {
      ++refused;
      EXPECT_GT(wal->buffered_bytes(), 0u);
      // What is on the disk meanwhile is whole.
      auto read = Wal::Read(*fs_, kDir, {});
      ASSERT_TRUE(read.ok()) << read.status();
      EXPECT_EQ(read->entries, MakeEntries(1, i - 1, 1, 1000));
      fs_->SetCapacity((16 << 10) + refused * 3000);
      status = wal->Sync();
    }
    ASSERT_TRUE(status.ok()) << status;
  }
  EXPECT_GT(refused, 3u);
  wal.reset();
  EXPECT_EQ(MustOpen().contents.entries, MakeEntries(1, 60, 1, 1000));
}

TEST_F(WalFullDiskTest, Cut_WithoutRoom_GoesOnInTheOldSegment) {
  auto wal = MustCreate();
  bool full = true;
  fs_->SetFaultHook([&](base::MemFileSystem::Op op, const std::string&) {
    return full && op == base::MemFileSystem::Op::kPreallocate ? absl::ResourceExhaustedError("injected")
                                                               : absl::OkStatus();
  });
  for (uint64_t i = 1; i <= 40; ++i) MustSave(*wal, {1, 1, i}, {MakeEntry(i, 1, 500)});
  EXPECT_EQ(Segments().size(), 1u);
  full = false;
  for (uint64_t i = 41; i <= 60; ++i) MustSave(*wal, {1, 1, i}, {MakeEntry(i, 1, 500)});
  EXPECT_GT(Segments().size(), 1u);
  wal.reset();
  EXPECT_EQ(MustOpen().contents.entries, MakeEntries(1, 60, 1, 500));
}

TEST_F(WalFullDiskTest, RenameWithoutRoom_GoesOnInTheOldSegment) {
  auto wal = MustCreate();
  int refusals = 3;
  fs_->SetFaultHook([&](base::MemFileSystem::Op op, const std::string&) {
    return op == base::MemFileSystem::Op::kRename && refusals-- > 0 ? absl::ResourceExhaustedError("injected")
                                                                    : absl::OkStatus();
  });
  for (uint64_t i = 1; i <= 60; ++i) MustSave(*wal, {1, 1, i}, {MakeEntry(i, 1, 500)});
  EXPECT_GT(Segments().size(), 1u);
  wal.reset();
  EXPECT_EQ(MustOpen().contents.entries, MakeEntries(1, 60, 1, 500));
}

TEST_F(WalFullDiskTest, FullThenPowerLoss_LosesNothingSynced) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    base::Random random(seed);
    fs_ = std::make_unique<base::MemFileSystem>();
    auto wal = MustCreate();
    fs_->SetCapacity((8 << 10) + random.Below(30'000));
    uint64_t synced = 0;
    for (uint64_t i = 1; i <= 60; ++i) {
      ASSERT_TRUE(wal->Append(nullptr, {MakeEntry(i, 1, 900)}).ok());
      if (random.Chance(0.3)) continue;
      const absl::Status status = wal->Sync();
      if (!status.ok()) {
        ASSERT_TRUE(absl::IsResourceExhausted(status)) << status;
        break;
      }
      synced = i;
    }
    fs_ = fs_->CrashClone(random, {0.5, 0.5, 0.5});
    Wal::Opened opened = MustOpen();  // on a disk still full
    ASSERT_GE(opened.contents.entries.size(), synced) << seed;
    ASSERT_EQ(opened.contents.entries, MakeEntries(1, opened.contents.entries.size(), 1, 900)) << seed;
  }
}

TEST_F(WalFullDiskTest, Create_WithoutRoom_CanBeTriedAgain) {
  fs_->SetCapacity(4096);
  EXPECT_TRUE(absl::IsResourceExhausted(Wal::Create(*fs_, kDir, "metadata", options_).status()));
  EXPECT_FALSE(*Wal::Exists(*fs_, kDir));
  fs_->SetCapacity(1 << 20);
  MustCreate();
}

}  // namespace
}  // namespace kvd::wal
