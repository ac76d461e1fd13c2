#include "base/mem_file_system.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>

namespace kvd::base {
namespace {

using Mode = FileSystem::Mode;
using CrashOptions = MemFileSystem::CrashOptions;

constexpr CrashOptions kNothingUnsynced{0, 0, 0};
constexpr CrashOptions kEverything{1, 0, 1};

std::unique_ptr<File> MustOpen(FileSystem& fs, const std::string& path, Mode mode = Mode::kCreate) {
  auto file = fs.Open(path, mode);
  EXPECT_TRUE(file.ok()) << file.status();
  return *std::move(file);
}

std::string Contents(FileSystem& fs, const std::string& path) {
  auto data = ReadFile(fs, path);
  return data.ok() ? *data : data.status().ToString();
}

class MemFileSystemTest : public testing::Test {
 protected:
  MemFileSystemTest() { EXPECT_TRUE(fs_.CreateDirs("/d").ok()); }
  std::unique_ptr<MemFileSystem> Crash(const CrashOptions& options) {
    return fs_.CrashClone(random_, options);
  }

  MemFileSystem fs_;
  Random random_{1};
};

TEST_F(MemFileSystemTest, Crash_KeepsWhatWasSynced) {
  auto file = MustOpen(fs_, "/d/f");
  EXPECT_TRUE(file->WriteAt(0, "synced").ok());
  EXPECT_TRUE(file->Sync().ok());
  EXPECT_TRUE(fs_.SyncDir("/d").ok());
  EXPECT_TRUE(file->WriteAt(6, " and not").ok());
  EXPECT_EQ(Contents(*Crash(kNothingUnsynced), "/d/f"), "synced");
  EXPECT_EQ(Contents(*Crash(kEverything), "/d/f"), "synced and not");
  EXPECT_EQ(Contents(fs_, "/d/f"), "synced and not");
}

TEST_F(MemFileSystemTest, Crash_UndoesNamesWithoutSyncDir) {
  auto file = MustOpen(fs_, "/d/f");
  EXPECT_TRUE(file->WriteAt(0, "x").ok());
  EXPECT_TRUE(file->Sync().ok());
  EXPECT_FALSE(*Crash(kNothingUnsynced)->Exists("/d/f"));
  EXPECT_TRUE(fs_.SyncDir("/d").ok());
  EXPECT_TRUE(*Crash(kNothingUnsynced)->Exists("/d/f"));
  EXPECT_TRUE(fs_.Rename("/d/f", "/d/g").ok());
  EXPECT_EQ(Contents(*Crash(kNothingUnsynced), "/d/f"), "x");
  EXPECT_FALSE(*Crash(kNothingUnsynced)->Exists("/d/g"));
  EXPECT_EQ(Contents(*Crash(kEverything), "/d/g"), "x");
  EXPECT_TRUE(fs_.SyncDir("/d").ok());
  EXPECT_TRUE(fs_.Remove("/d/g").ok());
  EXPECT_EQ(Contents(*Crash(kNothingUnsynced), "/d/g"), "x");
  EXPECT_FALSE(*Crash(kEverything)->Exists("/d/g"));
}

TEST_F(MemFileSystemTest, Crash_KeepsAPrefixOfADirectorysOperations) {
  std::set<size_t> counts;
  for (int i = 0; i < 6; ++i) MustOpen(fs_, "/d/" + std::to_string(i));
  for (int round = 0; round < 200; ++round) {
    auto after = Crash({0, 0, 0.7});
    const auto names = *after->List("/d");
    counts.insert(names.size());
    for (size_t i = 0; i < names.size(); ++i) EXPECT_EQ(names[i], std::to_string(i));
  }
  EXPECT_EQ(counts.size(), 7u);
}

TEST_F(MemFileSystemTest, Crash_RenamedDirectory_KeepsItsFiles) {
  EXPECT_TRUE(fs_.CreateDirs("/d/new.tmp").ok());
  EXPECT_TRUE(WriteFileAtomically(fs_, "/d/new.tmp/f", "x").ok());
  EXPECT_TRUE(fs_.Rename("/d/new.tmp", "/d/new").ok());
  EXPECT_EQ(Contents(*Crash(kNothingUnsynced), "/d/new.tmp/f"), "x");
  EXPECT_TRUE(fs_.SyncDir("/d").ok());
  EXPECT_EQ(Contents(*Crash(kNothingUnsynced), "/d/new/f"), "x");
}

TEST_F(MemFileSystemTest, Crash_TearsBySectorAndNeverHarmsSyncedBytes) {
  auto file = MustOpen(fs_, "/d/f");
  EXPECT_TRUE(file->WriteAt(0, std::string(700, 's')).ok());
  EXPECT_TRUE(file->Sync().ok());
  EXPECT_TRUE(fs_.SyncDir("/d").ok());
  EXPECT_TRUE(file->WriteAt(700, std::string(20'000, 'u')).ok());
  bool torn = false, whole = false, shorter = false;
  for (int round = 0; round < 300; ++round) {
    const std::string after = Contents(*Crash({0.5, 0.5, 1}), "/d/f");
    ASSERT_EQ(after.substr(0, 700), std::string(700, 's'));
    shorter |= after.size() < 20'700;
    for (size_t at = 1024; at + 512 <= after.size(); at += 512) {
      const std::string sector = after.substr(at, 512);
      whole |= sector == std::string(512, 'u');
      torn |= sector != std::string(512, 'u') && sector != std::string(512, '\0');
    }
  }
  EXPECT_TRUE(torn && whole && shorter);
}

TEST_F(MemFileSystemTest, Crash_SameSeed_SameWreck) {
  auto file = MustOpen(fs_, "/d/f");
  EXPECT_TRUE(file->WriteAt(0, std::string(100'000, 'u')).ok());
  Random a(5), b(5);
  EXPECT_EQ(Contents(*fs_.CrashClone(a, {0.5, 0.5, 1}), "/d/f"),
            Contents(*fs_.CrashClone(b, {0.5, 0.5, 1}), "/d/f"));
}

TEST_F(MemFileSystemTest, FailedSync_LosesWhatReadsBack) {
  auto file = MustOpen(fs_, "/d/f");
  EXPECT_TRUE(fs_.SyncDir("/d").ok());
  EXPECT_TRUE(file->WriteAt(0, "lost").ok());
  bool failed = false;
  fs_.SetFaultHook([&](MemFileSystem::Op op, const std::string& path) {
    if (op != MemFileSystem::Op::kSync || failed) return absl::OkStatus();
    EXPECT_EQ(path, "/d/f");
    failed = true;
    return absl::DataLossError("injected");
  });
  EXPECT_TRUE(absl::IsDataLoss(file->Sync()));
  EXPECT_TRUE(file->Sync().ok());
  EXPECT_EQ(Contents(fs_, "/d/f"), "lost");
  EXPECT_EQ(Contents(*Crash(kEverything), "/d/f"), "");
}

TEST_F(MemFileSystemTest, LyingSync_MakesNothingDurable) {
  auto file = MustOpen(fs_, "/d/f");
  fs_.SetLyingSync(true);
  EXPECT_TRUE(file->WriteAt(0, "x").ok());
  EXPECT_TRUE(file->Sync().ok());
  EXPECT_TRUE(fs_.SyncDir("/d").ok());
  EXPECT_FALSE(*Crash(kNothingUnsynced)->Exists("/d/f"));
  fs_.SetLyingSync(false);
  EXPECT_TRUE(file->Sync().ok());
  EXPECT_TRUE(fs_.SyncDir("/d").ok());
  EXPECT_EQ(Contents(*Crash(kNothingUnsynced), "/d/f"), "x");
}

TEST_F(MemFileSystemTest, Capacity_FillsUpAndComesBack) {
  fs_.SetCapacity(100);
  auto file = MustOpen(fs_, "/d/f");
  EXPECT_TRUE(file->WriteAt(0, std::string(60, 'a')).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(file->WriteAt(60, std::string(60, 'b'))));
  EXPECT_EQ(Contents(fs_, "/d/f"), std::string(60, 'a') + std::string(40, 'b'));
  EXPECT_TRUE(file->WriteAt(0, std::string(100, 'c')).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(MustOpen(fs_, "/d/g")->Preallocate(1)));
  EXPECT_EQ(*fs_.FreeBytes("/d"), 0u);
  EXPECT_TRUE(file->Truncate(10).ok());
  EXPECT_EQ(*fs_.FreeBytes("/d"), 90u);
  EXPECT_TRUE(fs_.Remove("/d/f").ok());
  EXPECT_EQ(*fs_.FreeBytes("/d"), 100u);
  fs_.SetCapacity(1000);
  EXPECT_TRUE(MustOpen(fs_, "/d/g")->Preallocate(900).ok());
}

TEST_F(MemFileSystemTest, FlipBit_Sticks) {
  auto file = MustOpen(fs_, "/d/f");
  EXPECT_TRUE(file->WriteAt(0, "abc").ok());
  EXPECT_TRUE(fs_.SyncDir("/d").ok());
  EXPECT_TRUE(fs_.FlipBit("/d/f", 1, 0).ok());
  EXPECT_EQ(Contents(fs_, "/d/f"), "acc");
  EXPECT_TRUE(file->Sync().ok());
  EXPECT_EQ(Contents(*Crash(kNothingUnsynced), "/d/f"), "acc");
  EXPECT_TRUE(fs_.FlipBit("/d/f", 0, 1).ok());
  EXPECT_EQ(Contents(*Crash(kNothingUnsynced), "/d/f"), "ccc");
  EXPECT_FALSE(fs_.FlipBit("/d/f", 3, 0).ok());
}

TEST_F(MemFileSystemTest, FaultHook_RefusesAnOperation) {
  fs_.SetFaultHook([](MemFileSystem::Op op, const std::string&) {
    return op == MemFileSystem::Op::kRename ? absl::ResourceExhaustedError("injected") : absl::OkStatus();
  });
  MustOpen(fs_, "/d/f");
  EXPECT_TRUE(absl::IsResourceExhausted(fs_.Rename("/d/f", "/d/g")));
  EXPECT_TRUE(*fs_.Exists("/d/f"));
  fs_.SetFaultHook(nullptr);
  EXPECT_TRUE(fs_.Rename("/d/f", "/d/g").ok());
}

TEST_F(MemFileSystemTest, WriteFileAtomically_SurvivesAnyCrash) {
  EXPECT_TRUE(WriteFileAtomically(fs_, "/d/f", "old").ok());
  // Crash before each of the operations of the second write.
  for (int stop = 0;; ++stop) {
    Random random(static_cast<uint64_t>(stop));
    auto fs = Crash(kEverything);
    int left = stop;
    std::unique_ptr<MemFileSystem> after;
    fs->SetFaultHook([&](MemFileSystem::Op, const std::string&) {
      if (left-- == 0) after = fs->CrashClone(random, {0.5, 0.5, 0.5});
      return absl::OkStatus();
    });
    ASSERT_TRUE(WriteFileAtomically(*fs, "/d/f", "new").ok());
    if (!after) break;
    const std::string found = Contents(*after, "/d/f");
    EXPECT_TRUE(found == "old" || found == "new") << found;
  }
}

}  // namespace
}  // namespace kvd::base
