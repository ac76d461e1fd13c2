#include "support/real_etcd.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "base/file_system.h"
#include "base/strings.h"

namespace kvd::support {
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

// What it prints replaces the file `output`.
pid_t Start(const std::vector<std::string>& arguments, const std::string& output) {
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  std::string api = "ETCDCTL_API=3", path = "PATH=/usr/bin:/bin";
  char* environment[] = {api.data(), path.data(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
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

}  // namespace

void RealEtcdTest::SetUp() {
  if (access(kEtcd, X_OK) != 0 || access(kEtcdctl, X_OK) != 0) GTEST_SKIP() << "no etcd on this machine";
  std::string name = testing::TempDir() + "kvd-etcd-XXXXXX";
  ASSERT_NE(mkdtemp(name.data()), nullptr);
  dir_ = name;
  client_ = base::StrCat("http://127.0.0.1:", FreePort());
  peer_ = base::StrCat("http://127.0.0.1:", FreePort());
}

void RealEtcdTest::TearDown() {
  StopEtcd(SIGKILL);
  if (dir_.empty()) return;
  EXPECT_TRUE(base::PosixFileSystem().RemoveAll(dir_).ok());
}

void RealEtcdTest::StartEtcd() {
  etcd_ = Start({kEtcd, "--name", "default", "--data-dir", Path("data"), "--listen-client-urls", client_,
                 "--advertise-client-urls", client_, "--listen-peer-urls", peer_,
                 "--initial-advertise-peer-urls", peer_, "--initial-cluster", "default=" + peer_},
                Path("log"));
  for (int i = 0; i < 100; ++i) {
    if (Etcdctl({"endpoint", "health"})) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  FAIL() << "etcd did not start: " << Printed("log");
}

void RealEtcdTest::StopEtcd(int signal) {
  if (etcd_ <= 0) return;
  kill(etcd_, signal);
  Wait(etcd_);
  etcd_ = -1;
}

bool RealEtcdTest::Etcdctl(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {kEtcdctl, "--endpoints", client_});
  return Wait(Start(arguments, Path("ctl"))) == 0;
}

std::string RealEtcdTest::Printed(std::string_view name) const {
  return base::ReadFile(base::PosixFileSystem(), Path(name)).value_or("");
}

std::string RealEtcdTest::Path(std::string_view name) const {
  return base::JoinPath(dir_, name);
}

}  // namespace kvd::support
