// RocksDB on a file system that fills up and is given room again: a small tmpfs in a mount namespace of the
// test's own. Skips where that is not allowed.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <future>
#include <string>

#include "base/executor.h"
#include "storage/engine.h"
#include "storage/store.h"

namespace kvd::storage {
namespace {

using std::chrono::seconds;

void WriteText(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
}

// Mounts are this process's own from here on. Without root, in a user namespace in which it is root.
bool OwnMounts() {
  const std::string uid = std::to_string(getuid()), gid = std::to_string(getgid());
  if (unshare(CLONE_NEWNS) != 0) {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
    WriteText("/proc/self/setgroups", "deny");
    WriteText("/proc/self/uid_map", "0 " + uid + " 1");
    WriteText("/proc/self/gid_map", "0 " + gid + " 1");
  }
  return mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

class FullDiskTest : public testing::Test {
 protected:
  // Before any thread: a process with several cannot leave its user namespace.
  static void SetUpTestSuite() { own_mounts_ = OwnMounts(); }

  void SetUp() override {
    if (!own_mounts_) GTEST_SKIP() << "mount namespaces are not allowed here";
    char path[] = "/tmp/kvd-full-disk-XXXXXX";
    ASSERT_NE(mkdtemp(path), nullptr);
    dir_ = path;
    if (mount("tmpfs", dir_.c_str(), "tmpfs", 0, "size=16m") != 0) {
      rmdir(path);
      dir_.clear();
      GTEST_SKIP() << "a tmpfs cannot be mounted here";
    }
  }
  void TearDown() override {
    if (dir_.empty()) return;
    umount2(dir_.c_str(), MNT_DETACH);
    rmdir(dir_.c_str());
  }

  std::unique_ptr<Engine> Open(uint64_t write_buffer_bytes) {
    RocksOptions options;
    options.write_buffer_bytes = write_buffer_bytes;
    options.block_cache_bytes = 1 << 20;
    auto engine = OpenRocksEngine(dir_ + "/db", options);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }
  // Takes all the room that is left.
  void Fill() {
    const int fd = open((dir_ + "/ballast").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    const std::string block(64 << 10, 'b');
    while (write(fd, block.data(), block.size()) > 0) {
    }
    while (write(fd, block.data(), 1) > 0) {
    }
    close(fd);
  }
  void GiveRoom() { ASSERT_EQ(unlink((dir_ + "/ballast").c_str()), 0); }

  static void Put(Engine& engine, int number, size_t bytes = 1000) {
    auto batch = engine.NewBatch();
    batch->Put(Key(number), std::string(bytes, static_cast<char>('a' + number % 26)));
    engine.Write(*batch);
  }
  static std::string Key(int number) {
    char text[16];
    std::snprintf(text, sizeof text, "R%08d", number);
    return text;
  }

  static bool own_mounts_;
  std::string dir_;
};

bool FullDiskTest::own_mounts_ = false;

TEST_F(FullDiskTest, GoesOnInMemoryAndWritesItOutOnceThereIsRoom) {
  auto engine = Open(4 << 20);
  Put(*engine, 0);
  engine->Flush();
  Fill();
  for (int i = 1; i <= 1000; ++i) Put(*engine, i);
  std::string value;
  EXPECT_TRUE(engine->Get(Key(1000), &value));
  EXPECT_FALSE(engine->GetPersisted(Key(1000), &value));

  // A flush waits.
  auto flushed = std::async(std::launch::async, [&] { engine->Flush(); });
  EXPECT_EQ(flushed.wait_for(seconds(1)), std::future_status::timeout);
  EXPECT_TRUE(engine->Get(Key(1), &value));
  GiveRoom();
  ASSERT_EQ(flushed.wait_for(seconds(60)), std::future_status::ready);
  EXPECT_TRUE(engine->GetPersisted(Key(1000), &value));
  Put(*engine, 1001);
  engine.reset();
  engine = Open(4 << 20);
  for (int i = 0; i <= 1001; ++i) EXPECT_TRUE(engine->Get(Key(i), &value)) << i;
}

TEST_F(FullDiskTest, WritesWaitWhenMemoryIsFullTooAndReadsDoNot) {
  auto engine = Open(256 << 10);
  Put(*engine, 0);
  Fill();
  // Many times what the buffers hold.
  auto written = std::async(std::launch::async, [&] {
    for (int i = 1; i <= 5000; ++i) Put(*engine, i);
  });
  EXPECT_EQ(written.wait_for(seconds(2)), std::future_status::timeout);
  std::string value;
  EXPECT_TRUE(engine->Get(Key(0), &value));
  EXPECT_TRUE(engine->Get(Key(1), &value));
  GiveRoom();
  ASSERT_EQ(written.wait_for(seconds(60)), std::future_status::ready);
  engine->Flush();
  EXPECT_TRUE(engine->GetPersisted(Key(5000), &value)) << "a flush is over when it is done";
  engine.reset();
  engine = Open(256 << 10);
  for (int i = 0; i <= 5000; ++i) ASSERT_TRUE(engine->Get(Key(i), &value)) << i;
}

TEST_F(FullDiskTest, ReadersOfTheStoreDoNotWaitWithItsWriter) {
  base::ThreadExecutor background("background");
  auto opened = Store::Open(Open(256 << 10), background);
  ASSERT_TRUE(opened.ok());
  Store& store = **opened;
  Fill();
  constexpr uint64_t kWrites = 5000;
  auto written = std::async(std::launch::async, [&] {
    for (uint64_t i = 1; i <= kWrites; ++i) {
      ApplyBatch batch = store.BeginApply();
      batch.Put({.key = Key(static_cast<int>(i % 100)), .value = std::string(1000, 'v')});
      batch.Commit({.index = i, .term = 1});
    }
  });
  EXPECT_EQ(written.wait_for(seconds(2)), std::future_status::timeout);
  auto read = std::async(std::launch::async, [&] {
    OpResult result;
    store.Range({.key = Key(1)}, &result);
    return result.count;
  });
  ASSERT_EQ(read.wait_for(seconds(20)), std::future_status::ready);
  EXPECT_EQ(read.get(), 1);
  GiveRoom();
  ASSERT_EQ(written.wait_for(seconds(60)), std::future_status::ready);
  EXPECT_EQ(store.applied().index, kWrites);
  opened->reset();
  background.Stop();
}

TEST_F(FullDiskTest, ClosesWhileItIsFull) {
  auto engine = Open(256 << 10);
  Put(*engine, 0);
  engine->Flush();
  Fill();
  Put(*engine, 1);
  engine.reset();
  GiveRoom();
  engine = Open(256 << 10);
  std::string value;
  EXPECT_TRUE(engine->Get(Key(0), &value));
}

TEST_F(FullDiskTest, ACompactionThatFindsNoRoomIsNotTheEnd) {
  auto engine = Open(256 << 10);
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 3000; ++i) Put(*engine, i);
    engine->Flush();
  }
  Fill();
  // The first finds it out by writing; those after it mostly do not begin.
  for (int i = 0; i < 3; ++i) engine->CompactRange({}, {});
  Put(*engine, 3000);
  GiveRoom();
  engine->Flush();
  engine->CompactRange({}, {});
  std::string value;
  for (int i = 0; i <= 3000; ++i) ASSERT_TRUE(engine->Get(Key(i), &value)) << i;
}

}  // namespace
}  // namespace kvd::storage
