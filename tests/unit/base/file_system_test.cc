#include "base/file_system.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/mem_file_system.h"

namespace kvd::base {
namespace {

using Mode = FileSystem::Mode;

// The same contract for the machine's file system and for the model.
class FileSystemTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (GetParam()) {
      std::string name = testing::TempDir() + "kvd-fs-XXXXXX";
      ASSERT_NE(mkdtemp(name.data()), nullptr);
      dir_ = name;
      fs_ = &PosixFileSystem();
    } else {
      memory_ = std::make_unique<MemFileSystem>();
      fs_ = memory_.get();
      dir_ = "/data";
      ASSERT_TRUE(fs_->CreateDirs(dir_).ok());
    }
  }
  void TearDown() override { EXPECT_TRUE(fs_->RemoveAll(dir_).ok()); }

  std::string Path(std::string_view name) const { return JoinPath(dir_, name); }
  std::unique_ptr<File> MustOpen(std::string_view name, Mode mode) {
    auto file = fs_->Open(Path(name), mode);
    EXPECT_TRUE(file.ok()) << file.status();
    return file.ok() ? *std::move(file) : nullptr;
  }
  std::string Contents(std::string_view name) {
    auto data = ReadFile(*fs_, Path(name));
    return data.ok() ? *data : "error: " + data.status().ToString();
  }

  std::unique_ptr<MemFileSystem> memory_;
  FileSystem* fs_ = nullptr;
  std::string dir_;
};

TEST_P(FileSystemTest, WriteAndRead_AtOffsets) {
  auto file = MustOpen("f", Mode::kCreate);
  EXPECT_TRUE(file->WriteAt(0, "hello").ok());
  EXPECT_TRUE(file->WriteAt(10, "world").ok());
  EXPECT_TRUE(file->WriteAt(3, {"L", "O", "", "!"}).ok());
  EXPECT_EQ(*file->Size(), 15u);
  EXPECT_EQ(Contents("f"), std::string("helLO!\0\0\0\0world", 15));
  std::string out;
  EXPECT_TRUE(file->ReadAt(12, 100, &out).ok());
  EXPECT_EQ(out, "rld");
  EXPECT_TRUE(file->ReadAt(100, 10, &out).ok());
  EXPECT_EQ(out, "");
  EXPECT_TRUE(file->Sync().ok());
}

TEST_P(FileSystemTest, Write_ManyPieces) {
  auto file = MustOpen("f", Mode::kCreate);
  std::vector<std::string> pieces;
  std::string whole;
  for (int i = 0; i < 3000; ++i) {
    pieces.push_back(std::string(static_cast<size_t>(i % 7), static_cast<char>('a' + i % 26)));
    whole += pieces.back();
  }
  std::vector<std::string_view> views(pieces.begin(), pieces.end());
  EXPECT_TRUE(file->WriteAt(0, views).ok());
  EXPECT_EQ(Contents("f"), whole);
}

TEST_P(FileSystemTest, OpenModes) {
  EXPECT_TRUE(absl::IsNotFound(fs_->Open(Path("f"), Mode::kRead).status()));
  EXPECT_TRUE(absl::IsNotFound(fs_->Open(Path("f"), Mode::kReadWrite).status()));
  EXPECT_TRUE(absl::IsNotFound(fs_->Open(Path("no/f"), Mode::kCreate).status()));
  EXPECT_TRUE(fs_->Open(Path("f"), Mode::kCreateNew).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(fs_->Open(Path("f"), Mode::kCreateNew).status()));
  EXPECT_TRUE(MustOpen("f", Mode::kCreate)->WriteAt(0, "x").ok());
  EXPECT_FALSE(MustOpen("f", Mode::kRead)->WriteAt(0, "y").ok());
  EXPECT_EQ(Contents("f"), "x");
}

TEST_P(FileSystemTest, TruncateAndPreallocate_LeaveZeros) {
  auto file = MustOpen("f", Mode::kCreate);
  EXPECT_TRUE(file->WriteAt(0, std::string(9000, 'x')).ok());
  EXPECT_TRUE(file->Truncate(5000).ok());
  EXPECT_TRUE(file->Preallocate(10000).ok());
  EXPECT_EQ(*file->Size(), 10000u);
  EXPECT_EQ(Contents("f"), std::string(5000, 'x') + std::string(5000, '\0'));
  EXPECT_TRUE(file->Preallocate(100).ok());
  EXPECT_EQ(*file->Size(), 10000u);
}

TEST_P(FileSystemTest, RenameRemoveList) {
  EXPECT_TRUE(fs_->CreateDirs(Path("a/b")).ok());
  EXPECT_TRUE(fs_->CreateDirs(Path("a/b")).ok());
  EXPECT_TRUE(MustOpen("a/b/two", Mode::kCreate)->WriteAt(0, "2").ok());
  EXPECT_TRUE(MustOpen("a/b/one", Mode::kCreate)->WriteAt(0, "1").ok());
  EXPECT_EQ(*fs_->List(Path("a/b")), (std::vector<std::string>{"one", "two"}));
  EXPECT_TRUE(fs_->Rename(Path("a/b/one"), Path("a/b/two")).ok());
  EXPECT_EQ(Contents("a/b/two"), "1");
  EXPECT_TRUE(fs_->Rename(Path("a/b"), Path("c")).ok());
  EXPECT_EQ(Contents("c/two"), "1");
  EXPECT_FALSE(*fs_->Exists(Path("a/b")));
  EXPECT_TRUE(*fs_->Exists(Path("c/two")));
  EXPECT_FALSE(fs_->Remove(Path("c")).ok());
  EXPECT_TRUE(fs_->Remove(Path("c/two")).ok());
  EXPECT_TRUE(fs_->Remove(Path("c")).ok());
  EXPECT_TRUE(absl::IsNotFound(fs_->Remove(Path("c"))));
  EXPECT_TRUE(absl::IsNotFound(fs_->Rename(Path("c"), Path("d"))));
  EXPECT_TRUE(absl::IsNotFound(fs_->List(Path("c")).status()));
  EXPECT_TRUE(fs_->RemoveAll(Path("c")).ok());
  EXPECT_TRUE(fs_->SyncDir(dir_).ok());
}

TEST_P(FileSystemTest, CreateDirs_OverAFile_Fails) {
  MustOpen("f", Mode::kCreate);
  EXPECT_FALSE(fs_->CreateDirs(Path("f")).ok());
  EXPECT_FALSE(fs_->CreateDirs(Path("f/g")).ok());
}

TEST_P(FileSystemTest, Lock_HasOneHolder) {
  auto held = fs_->Lock(Path("lock"));
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_TRUE(absl::IsUnavailable(fs_->Lock(Path("lock")).status()));
  EXPECT_TRUE(fs_->Rename(Path("lock"), Path("moved")).ok());
  EXPECT_TRUE(absl::IsUnavailable(fs_->Lock(Path("moved")).status()));
  held->reset();
  EXPECT_TRUE(fs_->Lock(Path("moved")).ok());
}

TEST_P(FileSystemTest, WriteFileAtomically_Replaces) {
  EXPECT_TRUE(WriteFileAtomically(*fs_, Path("f"), "a long first version").ok());
  EXPECT_TRUE(WriteFileAtomically(*fs_, Path("f"), "second").ok());
  EXPECT_EQ(Contents("f"), "second");
  EXPECT_EQ(fs_->List(dir_)->size(), 1u);
}

TEST_P(FileSystemTest, OpenFile_OutlivesItsName) {
  auto file = MustOpen("f", Mode::kCreate);
  EXPECT_TRUE(file->WriteAt(0, "still here").ok());
  EXPECT_TRUE(fs_->Remove(Path("f")).ok());
  std::string out;
  EXPECT_TRUE(file->ReadAt(0, 10, &out).ok());
  EXPECT_EQ(out, "still here");
}

TEST_P(FileSystemTest, Errors_NameThePath) {
  const absl::Status status = fs_->Open(Path("missing"), Mode::kRead).status();
  EXPECT_NE(status.ToString().find(Path("missing")), std::string::npos) << status;
  EXPECT_NE(status.ToString().find("No such file"), std::string::npos) << status;
  EXPECT_GT(*fs_->FreeBytes(dir_), 0u);
}

INSTANTIATE_TEST_SUITE_P(Machine, FileSystemTest, testing::Values(true));
INSTANTIATE_TEST_SUITE_P(Memory, FileSystemTest, testing::Values(false));

TEST(JoinPath, PutsOneSlashBetween) {
  EXPECT_EQ(JoinPath("a", "b"), "a/b");
  EXPECT_EQ(JoinPath("a/", "b"), "a/b");
  EXPECT_EQ(JoinPath("", "b"), "b");
}

}  // namespace
}  // namespace kvd::base
