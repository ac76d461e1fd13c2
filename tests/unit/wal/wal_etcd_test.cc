// The log of a real etcd, read by this reader, and appended to.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/file_system.h"
#include "base/strings.h"
#include "wal/wal.h"

namespace kvd::wal {
namespace {

constexpr char kEtcd[] = "/usr/bin/etcd";
constexpr char kEtcdctl[] = "/usr/bin/etcdctl";

int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  socklen_t length = sizeof address;
  EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length), 0);
  close(fd);
  return ntohs(address.sin_port);
}

pid_t Start(const std::vector<std::string>& arguments, const std::string& output) {
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  std::string api = "ETCDCTL_API=3", path = "PATH=/usr/bin:/bin";
  char* environment[] = {api.data(), path.data(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  pid_t pid = -1;
  EXPECT_EQ(posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environment), 0);
  posix_spawn_file_actions_destroy(&actions);
  return pid;
}

int Wait(pid_t pid) {
  int status = -1;
  waitpid(pid, &status, 0);
  return status;
}

class WalEtcdTest : public testing::Test {
 protected:
  void SetUp() override {
    if (access(kEtcd, X_OK) != 0 || access(kEtcdctl, X_OK) != 0) GTEST_SKIP() << "no etcd on this machine";
    std::string name = testing::TempDir() + "kvd-wal-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    dir_ = name;
    client_ = base::StrCat("http://127.0.0.1:", FreePort());
    peer_ = base::StrCat("http://127.0.0.1:", FreePort());
  }
  void TearDown() override {
    StopEtcd();
    if (dir_.empty()) return;
    EXPECT_TRUE(base::PosixFileSystem().RemoveAll(dir_).ok());
  }

  void StartEtcd() {
    etcd_ = Start({kEtcd, "--name", "default", "--data-dir", base::JoinPath(dir_, "data"),
                   "--listen-client-urls", client_, "--advertise-client-urls", client_, "--listen-peer-urls",
                   peer_, "--initial-advertise-peer-urls", peer_, "--initial-cluster", "default=" + peer_},
                  base::JoinPath(dir_, "log"));
    for (int i = 0; i < 100; ++i) {
      if (Etcdctl({"endpoint", "health"})) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    FAIL() << "etcd did not start: "
           << base::ReadFile(base::PosixFileSystem(), base::JoinPath(dir_, "log")).value();
  }
  void StopEtcd() {
    if (etcd_ <= 0) return;
    kill(etcd_, SIGKILL);  // no orderly shutdown: the log ends as it stands
    Wait(etcd_);
    etcd_ = -1;
  }
  bool Etcdctl(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {kEtcdctl, "--endpoints", client_});
    return Wait(Start(arguments, base::JoinPath(dir_, "ctl"))) == 0;
  }
  std::string WalDir() const { return base::JoinPath(dir_, "data/member/wal"); }

  std::string dir_, client_, peer_;
  pid_t etcd_ = -1;
};

TEST_F(WalEtcdTest, LogOfEtcd_ReadsWhole) {
  StartEtcd();
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(Etcdctl({"put", base::StrCat("key", i), std::string(100, 'v')}));
  StopEtcd();

  auto read = Wal::Read(base::PosixFileSystem(), WalDir(), {});
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_FALSE(read->repair);
  EXPECT_FALSE(read->metadata.empty());
  EXPECT_GE(read->hard_state.term, 1u);
  EXPECT_NE(read->hard_state.vote, 0u);
  ASSERT_GE(read->entries.size(), 21u);
  EXPECT_GE(read->hard_state.commit, 20u);
  int puts = 0;
  for (size_t i = 0; i < read->entries.size(); ++i) {
    EXPECT_EQ(read->entries[i].index, i + 1);
    puts += read->entries[i].data.view().find(std::string(100, 'v')) != std::string_view::npos;
  }
  EXPECT_EQ(puts, 20);
  EXPECT_EQ(read->snapshots.size(), 1u);
}

TEST_F(WalEtcdTest, LogOfEtcd_AppendedToHere_IsReadByEtcd) {
  StartEtcd();
  ASSERT_TRUE(Etcdctl({"put", "before", "1"}));
  StopEtcd();
  Entry copy;
  {
    auto opened = Wal::Open(base::PosixFileSystem(), WalDir(), {}, {});
    ASSERT_TRUE(opened.ok()) << opened.status();
    // The put again, under the next index: etcd has to find and apply it.
    const std::vector<Entry>& entries = opened->contents.entries;
    for (const Entry& e : entries) {
      if (e.data.view().find("before") != std::string_view::npos) copy = e;
    }
    ASSERT_NE(copy.index, 0u);
    std::string data(copy.data.view());
    data.replace(data.find("before"), 6, "behind");
    copy = {entries.back().index + 1, opened->contents.hard_state.term, 0,
            base::SharedBytes(std::move(data))};
    HardState state = opened->contents.hard_state;
    state.commit = copy.index;
    ASSERT_TRUE(opened->wal->Append(&state, {copy}).ok());
    ASSERT_TRUE(opened->wal->Sync().ok());
  }
  StartEtcd();
  ASSERT_TRUE(Etcdctl({"get", "behind"}));
  auto printed = base::ReadFile(base::PosixFileSystem(), base::JoinPath(dir_, "ctl"));
  ASSERT_TRUE(printed.ok());
  EXPECT_NE(printed->find("behind\n1\n"), std::string::npos) << *printed;
}

TEST_F(WalEtcdTest, LogOfManySegmentsWrittenHere_IsTheSameThroughEtcdsEyes) {
  // etcd cuts at 64 MB only, so the segments are cut small here and etcd reads across them.
  StartEtcd();
  ASSERT_TRUE(Etcdctl({"put", "before", "1"}));
  StopEtcd();
  uint64_t last = 0;
  {
    auto opened = Wal::Open(base::PosixFileSystem(), WalDir(), {}, {.segment_bytes = 4096});
    ASSERT_TRUE(opened.ok()) << opened.status();
    std::string request;
    for (const Entry& e : opened->contents.entries) {
      if (e.data.view().find("before") != std::string_view::npos) request = std::string(e.data.view());
    }
    ASSERT_FALSE(request.empty());
    last = opened->contents.entries.back().index;
    HardState state = opened->contents.hard_state;
    for (int i = 0; i < 300; ++i) {
      std::string data = request;
      data.replace(data.find("before"), 6, base::StrCat("k", 10'000 + i));
      state.commit = ++last;
      ASSERT_TRUE(opened->wal->Append(&state, {{last, state.term, 0, base::SharedBytes(data)}}).ok());
      ASSERT_TRUE(opened->wal->Sync().ok());
    }
  }
  ASSERT_GT(base::PosixFileSystem().List(WalDir())->size(), 4u);
  StartEtcd();
  ASSERT_TRUE(Etcdctl({"get", "k", "--prefix", "--keys-only", "--write-out=fields"}));
  auto printed = base::ReadFile(base::PosixFileSystem(), base::JoinPath(dir_, "ctl"));
  ASSERT_TRUE(printed.ok());
  EXPECT_NE(printed->find("\"Count\" : 300"), std::string::npos) << *printed;
}

}  // namespace
}  // namespace kvd::wal
