#include "wal/wal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "base/executor.h"
#include "base/sim_executor.h"
#include "wal_fixture.h"

namespace kvd::wal {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class WalTest : public WalFixture {};

TEST_F(WalTest, Reopened_HoldsWhatWasSynced) {
  auto wal = MustCreate();
  const std::vector<Entry> entries = MakeEntries(1, 10, 1);
  MustSave(*wal, {1, 7, 0}, entries);
  MustSave(*wal, {1, 7, 10}, {});
  EXPECT_EQ(wal->last_index(), 10u);
  wal.reset();
  Wal::Opened opened = MustOpen();
  EXPECT_EQ(opened.contents.metadata, "metadata");
  EXPECT_EQ(opened.contents.hard_state, (HardState{1, 7, 10}));
  EXPECT_EQ(opened.contents.entries, entries);
  EXPECT_THAT(opened.contents.snapshots, ElementsAre(SnapshotMarker()));
  EXPECT_FALSE(opened.contents.repair);
  EXPECT_EQ(opened.wal->last_index(), 10u);
}

TEST_F(WalTest, Append_WithoutSync_IsInTheBufferOnly) {
  auto wal = MustCreate();
  ASSERT_TRUE(wal->Append(nullptr, MakeEntries(1, 3, 1)).ok());
  EXPECT_GT(wal->buffered_bytes(), 60u);
  const uint64_t written = wal->written_bytes();
  ASSERT_TRUE(wal->Sync().ok());
  EXPECT_EQ(wal->buffered_bytes(), 0u);
  EXPECT_GT(wal->written_bytes(), written + 60);
  ASSERT_TRUE(wal->Append(nullptr, MakeEntries(4, 5, 1)).ok());
  wal.reset();
  EXPECT_EQ(MustOpen().contents.entries, MakeEntries(1, 3, 1));
}

TEST_F(WalTest, ManyAppends_TakeOneSync) {
  auto wal = MustCreate();
  int syncs = 0;
  fs_->SetFaultHook([&](base::MemFileSystem::Op op, const std::string&) {
    syncs += op == base::MemFileSystem::Op::kSync;
    return absl::OkStatus();
  });
  for (uint64_t i = 1; i <= 20; ++i) ASSERT_TRUE(wal->Append(nullptr, MakeEntries(i, i, 1)).ok());
  ASSERT_TRUE(wal->Sync().ok());
  ASSERT_TRUE(wal->Sync().ok());
  EXPECT_EQ(syncs, 1);
  fs_->SetFaultHook(nullptr);
}

TEST_F(WalTest, LaterEntries_ReplaceEarlierOnes) {
  auto wal = MustCreate();
  MustSave(*wal, {1, 1, 0}, MakeEntries(1, 10, 1));
  MustSave(*wal, {2, 1, 0}, MakeEntries(6, 7, 2));
  wal.reset();
  std::vector<Entry> expected = MakeEntries(1, 5, 1);
  for (const Entry& e : MakeEntries(6, 7, 2)) expected.push_back(e);
  Wal::Opened opened = MustOpen();
  EXPECT_EQ(opened.contents.entries, expected);
  EXPECT_EQ(opened.wal->last_index(), 7u);
}

TEST_F(WalTest, Marker_IsWhereReadingStarts) {
  auto wal = MustCreate();
  MustSave(*wal, {1, 1, 8}, MakeEntries(1, 10, 1));
  const SnapshotMarker marker{5, 1, "conf"};
  ASSERT_TRUE(wal->SaveSnapshot(marker).ok());
  ASSERT_TRUE(wal->SaveSnapshot({9, 1, "beyond the commit"}).ok());
  wal.reset();
  EXPECT_THAT(*Wal::ReadSnapshotMarkers(*fs_, kDir), ElementsAre(SnapshotMarker(), marker));
  EXPECT_EQ(MustOpen(marker).contents.entries, MakeEntries(6, 10, 1));
  EXPECT_TRUE(absl::IsFailedPrecondition(Wal::Open(*fs_, kDir, {5, 2, ""}, options_).status()));
  EXPECT_TRUE(absl::IsNotFound(Wal::Open(*fs_, kDir, {6, 1, ""}, options_).status()));
}

TEST_F(WalTest, MarkerBeyondTheEntries_StartsAnEmptyLog) {
  auto wal = MustCreate();
  MustSave(*wal, {1, 1, 3}, MakeEntries(1, 3, 1));
  ASSERT_TRUE(wal->SaveSnapshot({100, 4, ""}).ok());
  EXPECT_EQ(wal->last_index(), 100u);
  MustSave(*wal, {4, 1, 100}, MakeEntries(101, 102, 4));
  wal.reset();
  EXPECT_EQ(MustOpen({100, 4, ""}).contents.entries, MakeEntries(101, 102, 4));
}

TEST_F(WalTest, EntriesOverwrittenFromBeforeTheMarker_StayOverwritten) {
  auto wal = MustCreate();
  MustSave(*wal, {3, 1, 8}, MakeEntries(1, 12, 3));
  MustSave(*wal, {4, 1, 10}, MakeEntries(10, 10, 4));
  ASSERT_TRUE(wal->SaveSnapshot({10, 4, ""}).ok());
  wal.reset();
  EXPECT_TRUE(MustOpen({10, 4, ""}).contents.entries.empty());
}

TEST_F(WalTest, SnapshotFromElsewhere_ReplacesALogThatDoesNotHoldIt) {
  auto wal = MustCreate();
  MustSave(*wal, {3, 1, 2}, MakeEntries(1, 12, 3));
  ASSERT_TRUE(wal->SaveSnapshot({10, 4, ""}).ok());
  MustSave(*wal, {4, 1, 10}, {});
  ASSERT_TRUE(wal->SaveSnapshot({10, 4, ""}).ok());
  wal.reset();
  Wal::Opened opened = MustOpen({10, 4, ""});
  EXPECT_TRUE(opened.contents.entries.empty());
  MustSave(*opened.wal, {4, 1, 12}, MakeEntries(11, 12, 4));
  opened.wal.reset();
  EXPECT_EQ(MustOpen({10, 4, ""}).contents.entries, MakeEntries(11, 12, 4));
}

TEST_F(WalTest, SnapshotFromElsewhere_MarkedAgain_KeepsWhatCameSince) {
  auto wal = MustCreate();
  MustSave(*wal, {3, 1, 2}, MakeEntries(1, 3, 3));
  ASSERT_TRUE(wal->SaveSnapshot({10, 4, ""}).ok());
  MustSave(*wal, {4, 1, 12}, MakeEntries(11, 12, 4));
  ASSERT_TRUE(wal->SaveSnapshot({10, 4, ""}).ok());
  MustSave(*wal, {4, 1, 14}, MakeEntries(13, 14, 4));
  wal.reset();
  EXPECT_EQ(MustOpen({10, 4, ""}).contents.entries, MakeEntries(11, 14, 4));
}

TEST_F(WalTest, MarkerInAnEarlierSegmentThanItsIndexSays_IsFound) {
  auto wal = MustCreate();
  MustSave(*wal, {1, 1, 5}, MakeEntries(1, 5, 1));
  ASSERT_TRUE(wal->SaveSnapshot({90, 1, ""}).ok());  // received, but then the entries came
  for (uint64_t i = 6; i <= 100; ++i) MustSave(*wal, {1, 1, i}, {MakeEntry(i, 1, 500)});
  wal.reset();
  ASSERT_GT(Segments().size(), 3u);
  EXPECT_EQ(MustOpen({90, 1, ""}).contents.entries, MakeEntries(91, 100, 1, 500));
}

TEST_F(WalTest, Cut_GoesOnInANewSegment) {
  auto wal = MustCreate();
  for (uint64_t i = 1; i <= 100; ++i) MustSave(*wal, {1, 1, i}, {MakeEntry(i, 1, 500)});
  wal.reset();
  const std::vector<std::string> segments = Segments();
  ASSERT_GT(segments.size(), 4u);
  EXPECT_EQ(segments[0], "0000000000000000-0000000000000000.wal");
  EXPECT_THAT(segments[1], testing::StartsWith("0000000000000001-"));
  EXPECT_EQ(ReadSegment(segments.back()).size(), 8192u);  // preallocated
  Wal::Opened opened = MustOpen();
  EXPECT_EQ(opened.contents.entries, MakeEntries(1, 100, 1, 500));
  EXPECT_EQ(opened.contents.hard_state, (HardState{1, 1, 100}));
  MustSave(*opened.wal, {1, 1, 101}, {MakeEntry(101, 1, 500)});
  opened.wal.reset();
  EXPECT_EQ(MustOpen().contents.entries, MakeEntries(1, 101, 1, 500));
}

TEST_F(WalTest, BatchLargerThanASegment_StaysWhole) {
  auto wal = MustCreate();
  MustSave(*wal, {1, 1, 0}, MakeEntries(1, 50, 1, 1000));
  MustSave(*wal, {1, 1, 50}, MakeEntries(51, 51, 1, 1'000'000));
  MustSave(*wal, {1, 1, 51}, MakeEntries(52, 52, 1));
  wal.reset();
  std::vector<Entry> expected = MakeEntries(1, 50, 1, 1000);
  expected.push_back(MakeEntry(51, 1, 1'000'000));
  expected.push_back(MakeEntry(52, 1));
  EXPECT_EQ(MustOpen().contents.entries, expected);
}

TEST_F(WalTest, ReleaseTo_RemovesTheOldestBeyondTheLimit) {
  options_.max_segments = 3;
  auto wal = MustCreate();
  for (uint64_t i = 1; i <= 100; ++i) MustSave(*wal, {1, 1, i}, {MakeEntry(i, 1, 500)});
  const std::vector<std::string> before = Segments();
  ASSERT_GT(before.size(), 5u);
  wal->ReleaseTo(1);
  EXPECT_EQ(Segments(), before);
  ASSERT_TRUE(wal->SaveSnapshot({40, 1, ""}).ok());
  wal->ReleaseTo(40);
  std::vector<std::string> after = Segments();
  EXPECT_LT(after.size(), before.size());
  EXPECT_GT(after.size(), 3u);
  wal.reset();
  Wal::Opened opened = MustOpen({40, 1, ""});
  EXPECT_EQ(opened.contents.entries, MakeEntries(41, 100, 1, 500));
  ASSERT_TRUE(opened.wal->SaveSnapshot({100, 1, ""}).ok());
  opened.wal->ReleaseTo(100);
  EXPECT_EQ(Segments().size(), 3u);
  opened.wal.reset();
  EXPECT_TRUE(MustOpen({100, 1, ""}).contents.entries.empty());
  EXPECT_TRUE(absl::IsNotFound(Wal::Open(*fs_, kDir, {}, options_).status()));
}

TEST_F(WalTest, ReleaseTo_FailedRemoval_IsTriedAgain) {
  options_.max_segments = 1;
  base::SetLogLevel(base::LogLevel::kFatal);
  auto wal = MustCreate();
  for (uint64_t i = 1; i <= 100; ++i) MustSave(*wal, {1, 1, i}, {MakeEntry(i, 1, 500)});
  const size_t before = Segments().size();
  fs_->SetFaultHook([&](base::MemFileSystem::Op op, const std::string&) {
    return op == base::MemFileSystem::Op::kRemove ? absl::PermissionDeniedError("injected")
                                                  : absl::OkStatus();
  });
  wal->ReleaseTo(100);
  EXPECT_EQ(Segments().size(), before);
  fs_->SetFaultHook(nullptr);
  wal->ReleaseTo(100);
  EXPECT_EQ(Segments().size(), 1u);
}

TEST_F(WalTest, Background_PreparesSegmentsAndRemovesThem) {
  base::SimScheduler world(1);
  auto background = world.NewExecutor("background");
  options_.background = background.get();
  options_.max_segments = 2;
  auto wal = MustCreate();
  for (uint64_t i = 1; i <= 100; ++i) {
    MustSave(*wal, {1, 1, i}, {MakeEntry(i, 1, 500)});
    if (i % 3 != 0) world.RunFor(base::Nanos(1));
  }
  const size_t before = Segments().size();
  wal->ReleaseTo(100);
  EXPECT_EQ(Segments().size(), before);
  world.RunFor(base::Nanos(1));
  EXPECT_EQ(Segments().size(), 2u);
  ASSERT_TRUE(wal->SaveSnapshot({100, 1, ""}).ok());
  wal.reset();
  world.RunFor(base::Nanos(1));
  const std::vector<std::string> names = *fs_->List(kDir);
  for (const std::string& name : names) EXPECT_FALSE(name.ends_with(".tmp")) << name;
  options_.background = nullptr;
  MustOpen({100, 1, ""});
}

TEST(WalOnDisk, WithARealThreadInTheBackground) {
  base::SetLogLevel(base::LogLevel::kError);
  std::string dir = testing::TempDir() + "kvd-wal-XXXXXX";
  ASSERT_NE(mkdtemp(dir.data()), nullptr);
  base::FileSystem& fs = base::PosixFileSystem();
  const std::string wal_dir = base::JoinPath(dir, "member/wal");
  base::ThreadExecutor background("background");
  const Options options{.segment_bytes = 16 << 10, .max_segments = 2, .background = &background};
  {
    auto wal = Wal::Create(fs, wal_dir, "metadata", options);
    ASSERT_TRUE(wal.ok()) << wal.status();
    for (uint64_t i = 1; i <= 200; ++i) {
      const HardState state{1, 1, i};
      ASSERT_TRUE((*wal)->Append(&state, {MakeEntry(i, 1, 1000)}).ok());
      ASSERT_TRUE((*wal)->Sync().ok());
      if (i % 50 != 0) continue;
      ASSERT_TRUE((*wal)->SaveSnapshot({i - 10, 1, ""}).ok());
      (*wal)->ReleaseTo(i - 10);
    }
    EXPECT_TRUE(absl::IsUnavailable(Wal::Open(fs, wal_dir, {}, options).status()));
  }
  auto opened = Wal::Open(fs, wal_dir, {190, 1, ""}, options);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(opened->contents.entries, MakeEntries(191, 200, 1, 1000));
  // What the first one had not removed yet when it was closed, goes now.
  opened->wal->ReleaseTo(190);
  for (int i = 0; i < 1000 && ListSegments(fs, wal_dir)->size() > 4; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_LE(ListSegments(fs, wal_dir)->size(), 4u);
  opened->wal.reset();
  background.Stop();
  EXPECT_TRUE(fs.RemoveAll(dir).ok());
  base::SetLogLevel(base::LogLevel::kInfo);
}

TEST_F(WalTest, Locks_KeepASecondWriterOut) {
  auto wal = MustCreate();
  EXPECT_TRUE(absl::IsUnavailable(Wal::Open(*fs_, kDir, {}, options_).status()));
  EXPECT_TRUE(absl::IsUnavailable(Wal::Create(*fs_, kDir, "m", options_).status()));
  EXPECT_TRUE(absl::IsUnavailable(fs_->Lock(PathOf(Segments()[0])).status()));  // as etcd would find it
  EXPECT_TRUE(Wal::Read(*fs_, kDir, {}).ok());
  wal.reset();
  EXPECT_TRUE(absl::IsAlreadyExists(Wal::Create(*fs_, kDir, "m", options_).status()));
  auto etcd = fs_->Lock(PathOf(Segments()[0]));
  EXPECT_TRUE(absl::IsUnavailable(Wal::Open(*fs_, kDir, {}, options_).status()));
  etcd->reset();
  MustOpen();
}

TEST_F(WalTest, Missing_IsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(Wal::Open(*fs_, kDir, {}, options_).status()));
  EXPECT_FALSE(*Wal::Exists(*fs_, kDir));
  ASSERT_TRUE(fs_->CreateDirs(kDir).ok());
  EXPECT_TRUE(absl::IsNotFound(Wal::Open(*fs_, kDir, {}, options_).status()));
  EXPECT_FALSE(*Wal::Exists(*fs_, kDir));
  MustCreate();
  EXPECT_TRUE(*Wal::Exists(*fs_, kDir));
}

TEST_F(WalTest, MissingSegment_IsNamed) {
  auto wal = MustCreate();
  for (uint64_t i = 1; i <= 60; ++i) MustSave(*wal, {1, 1, i}, {MakeEntry(i, 1, 500)});
  wal.reset();
  const std::vector<std::string> segments = Segments();
  ASSERT_GT(segments.size(), 3u);
  ASSERT_TRUE(fs_->Remove(PathOf(segments[1])).ok());
  const absl::Status status = Wal::Open(*fs_, kDir, {}, options_).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(status.ToString(), HasSubstr(segments[2]));
}

TEST_F(WalTest, MissingLastSegment_IsRot) {
  auto wal = MustCreate();
  for (uint64_t i = 1; i <= 60; ++i) MustSave(*wal, {1, 1, i}, {MakeEntry(i, 1, 500)});
  wal.reset();
  ASSERT_TRUE(fs_->Remove(PathOf(Segments().back())).ok());
  EXPECT_TRUE(absl::IsDataLoss(Wal::Open(*fs_, kDir, {}, options_).status()));
}

TEST_F(WalTest, NoFsync_StillWrites) {
  options_.no_fsync = true;
  auto wal = MustCreate();
  for (uint64_t i = 1; i <= 60; ++i) MustSave(*wal, {1, 1, i}, {MakeEntry(i, 1, 500)});
  wal.reset();
  EXPECT_EQ(MustOpen().contents.entries, MakeEntries(1, 60, 1, 500));
}

TEST_F(WalTest, FailedSync_IsFinal) {
  auto wal = MustCreate();
  FailOneSync();
  ASSERT_TRUE(wal->Append(nullptr, MakeEntries(1, 1, 1)).ok());
  EXPECT_TRUE(absl::IsDataLoss(wal->Sync()));
  EXPECT_TRUE(absl::IsDataLoss(wal->Sync()));
  EXPECT_TRUE(absl::IsDataLoss(wal->Append(nullptr, MakeEntries(2, 2, 1))));
  EXPECT_TRUE(absl::IsDataLoss(wal->SaveSnapshot({1, 1, ""})));
}

// After a sync that failed the pages read back and count as clean, so no later sync writes them: whoever
// starts again and believes what it reads has to write it anew.
TEST_F(WalTest, WhatAFailedSyncLeft_IsDurableOnceReopened) {
  auto wal = MustCreate();
  MustSave(*wal, {1, 1, 1}, MakeEntries(1, 1, 1));
  FailOneSync();
  ASSERT_TRUE(wal->Append(nullptr, MakeEntries(2, 2, 1)).ok());
  ASSERT_TRUE(absl::IsDataLoss(wal->Sync()));
  wal.reset();

  Wal::Opened again = MustOpen();
  ASSERT_EQ(again.contents.entries, MakeEntries(1, 2, 1));
  MustSave(*again.wal, {1, 1, 3}, MakeEntries(3, 3, 1));
  again.wal.reset();
  base::Random random(1);
  fs_ = fs_->CrashClone(random, {0, 0, 0});
  EXPECT_EQ(MustOpen().contents.entries, MakeEntries(1, 3, 1));
}

// An append of a new term puts the entries before the hard state, and the power may fail between the two.
TEST_F(WalTest, EntriesOfATermThatWasNeverEntered_AreReadAgainTheSame) {
  auto wal = MustCreate();
  MustSave(*wal, {1, 1, 1}, MakeEntries(1, 1, 1));
  ASSERT_TRUE(wal->Append(nullptr, MakeEntries(2, 3, 5)).ok());
  ASSERT_TRUE(wal->Sync().ok());
  wal.reset();
  // The mark had not come that far.
  ASSERT_TRUE(base::WriteFileAtomically(*fs_, base::JoinPath(kDir, "synced"), "").ok());

  std::vector<Entry> expected = MakeEntries(1, 1, 1);
  for (const Entry& entry : MakeEntries(2, 3, 5)) expected.push_back(entry);
  for (int i = 0; i < 3; ++i) {
    Wal::Opened again = MustOpen();
    EXPECT_EQ(again.contents.entries, expected);
    EXPECT_EQ(again.contents.hard_state, (HardState{5, 0, 1}))
        << "in a term without a state, nobody was voted for";
  }
}

TEST_F(WalTest, WhatAFailedSyncLeft_IsDurableAlsoOnAFullDisk) {
  auto wal = MustCreate();
  MustSave(*wal, {1, 1, 1}, MakeEntries(1, 1, 1));
  FailOneSync();
  ASSERT_TRUE(wal->Append(nullptr, MakeEntries(2, 2, 1)).ok());
  ASSERT_TRUE(absl::IsDataLoss(wal->Sync()));
  wal.reset();
  auto free = fs_->FreeBytes("/");
  ASSERT_TRUE(free.ok());
  fs_->SetCapacity(UINT64_MAX - *free);
  ASSERT_EQ(MustOpen().contents.entries, MakeEntries(1, 2, 1));
  base::Random random(1);
  fs_ = fs_->CrashClone(random, {0, 0, 0});
  EXPECT_EQ(MustOpen().contents.entries, MakeEntries(1, 2, 1));
}

}  // namespace
}  // namespace kvd::wal
