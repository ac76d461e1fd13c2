// A member's data directory on a real file system, with parts of it lost.
#include "server/node/member_disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "base/executor.h"
#include "base/file_system.h"
#include "storage/store.h"
#include "wal/wal.h"

namespace kvd::server {
namespace {

using ::testing::HasSubstr;

class MemberDiskTest : public ::testing::Test {
 protected:
  MemberDiskTest() : dir_(std::filesystem::path(::testing::TempDir()) / "member_disk_test") {
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directories(dir_ / "member");
  }
  ~MemberDiskTest() override {
    background_.Stop();
    std::filesystem::remove_all(dir_);
  }

  DiskOptions Options() const {
    DiskOptions options;
    options.member_dir = dir_ / "member";
    options.wal_dir = dir_ / "member" / "wal";
    options.snap_dir = dir_ / "member" / "snap";
    options.backend_dir = dir_ / "member" / "rocksdb";
    options.wal_segment_bytes = 1 << 20;
    options.program_version = "1.2.3";
    options.name = "m1";
    return options;
  }
  MemberDisk Disk(bool force = false) {
    DiskOptions options = Options();
    options.force_new_cluster = force;
    return MemberDisk(options, base::PosixFileSystem(), background_);
  }
  std::string VersionFile() {
    return base::ReadFile(base::PosixFileSystem(), dir_ / "member" / "version").value_or("none");
  }
  void Create() {
    MemberDisk disk = Disk();
    ASSERT_TRUE(disk.Create(0xa, 0xc,
                            {{0xa, {"http://a:1"}, false, "m1", {}}, {0xb, {"http://b:1"}, false, "m2", {}}})
                    .ok());
  }
  void Lose(const std::string& part) { std::filesystem::remove_all(dir_ / "member" / part); }

  const std::filesystem::path dir_;
  base::ThreadExecutor background_{"background"};
};

TEST_F(MemberDiskTest, SaysWhoWroteItAndWhoseItIs) {
  Create();
  EXPECT_EQ(VersionFile(), "format 1\nkvd 1.2.3\nmember a\ncluster c\n");
  // A directory of a program that did not say yet.
  Lose("version");
  ASSERT_TRUE(Disk().Open().ok());
  EXPECT_EQ(VersionFile(), "format 1\nkvd 1.2.3\nmember a\ncluster c\n");
}

TEST_F(MemberDiskTest, DataOfALaterProgram_AreRefusedAndLeftAlone) {
  Create();
  const std::string later = "format 2\nkvd 9.0.0\nmember a\ncluster c\n";
  ASSERT_TRUE(base::WriteFileAtomically(base::PosixFileSystem(), dir_ / "member" / "version", later).ok());
  absl::Status status = Disk().Open().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("start kvd 9.0.0 or newer"));
  EXPECT_EQ(VersionFile(), later);
}

TEST_F(MemberDiskTest, TheLogOfAnotherMember_IsRefused) {
  Create();
  ASSERT_TRUE(base::WriteFileAtomically(base::PosixFileSystem(), dir_ / "member" / "version",
                                        "format 1\nkvd 1.2.3\nmember d\ncluster c\n")
                  .ok());
  absl::Status status = Disk().Open().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("is that of member a of cluster c"));
}

TEST_F(MemberDiskTest, LostDatabase_IsBuiltFromAWholeLog) {
  Create();
  Lose("rocksdb");
  MemberDisk disk = Disk();
  absl::StatusOr<MemberDisk::State> state = disk.Open();
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->member_id, 0xau);
  EXPECT_EQ(state->store->applied().index, 0u);
  EXPECT_EQ(state->log->FirstIndex(), 1u);
  EXPECT_EQ(state->log->LastIndex(), 2u);
}

TEST_F(MemberDiskTest, LostDatabaseAndDamagedLog_SaysBoth) {
  Create();
  Lose("rocksdb");
  for (const auto& entry : std::filesystem::directory_iterator(dir_ / "member" / "wal")) {
    if (entry.path().extension() == ".wal") std::filesystem::resize_file(entry.path(), 0);
  }
  absl::Status status = Disk().Open().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("of the backend is missing"));
}

TEST_F(MemberDiskTest, EmptyDatabaseWithoutALog_IsAStartCutShort) {
  Create();
  Lose("wal");
  EXPECT_TRUE(Disk().CheckLogNotLost().ok());
}

TEST_F(MemberDiskTest, ForcedNewCluster_RemovesTheOthersBehindAllThatTheLogHolds) {
  Create();
  {
    MemberDisk disk = Disk(true);
    absl::StatusOr<MemberDisk::State> state = disk.Open();
    ASSERT_TRUE(state.ok()) << state.status();
    EXPECT_EQ(state->log->LastIndex(), 3u) << "two that add the members, one that removes the other";
    EXPECT_EQ(state->hard.commit, 3u);
  }
  // It is in the log for good, and not done twice.
  MemberDisk disk = Disk(true);
  absl::StatusOr<MemberDisk::State> state = disk.Open();
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->log->LastIndex(), 3u);
}

}  // namespace
}  // namespace kvd::server
