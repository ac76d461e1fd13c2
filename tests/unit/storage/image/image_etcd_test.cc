// Database files exchanged with etcd's own programs.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/bytes.h"
#include "base/file_system.h"
#include "base/strings.h"
#include "storage/image/image_reader.h"
#include "storage/image/image_writer.h"

namespace kvd::storage::image {
namespace {

using base::StrCat;
using testing::HasSubstr;
using Mode = base::FileSystem::Mode;

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

// protobuf, by hand: a field of bytes, and one of a varint.
std::string BytesField(int field, std::string_view value) {
  std::string out;
  out.push_back(static_cast<char>(field << 3 | 2));
  for (size_t n = value.size();;) {
    out.push_back(static_cast<char>(n < 0x80 ? n : n | 0x80));
    if ((n >>= 7) == 0) break;
  }
  return out.append(value);
}
std::string NumberField(int field, uint64_t n) {
  std::string out;
  out.push_back(static_cast<char>(field << 3));
  for (; n >= 0x80; n >>= 7) out.push_back(static_cast<char>(n | 0x80));
  out.push_back(static_cast<char>(n));
  return out;
}

class ImageEtcdTest : public testing::Test {
 protected:
  void SetUp() override {
    if (access(kEtcd, X_OK) != 0 || access(kEtcdctl, X_OK) != 0) GTEST_SKIP() << "no etcd on this machine";
    std::string name = testing::TempDir() + "kvd-image-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    dir_ = name;
    client_ = StrCat("http://127.0.0.1:", FreePort());
    peer_ = StrCat("http://127.0.0.1:", FreePort());
  }
  void TearDown() override {
    StopEtcd();
    if (dir_.empty()) return;
    EXPECT_TRUE(base::PosixFileSystem().RemoveAll(dir_).ok());
  }

  void StartEtcd() {
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
  void StopEtcd() {
    if (etcd_ <= 0) return;
    kill(etcd_, SIGTERM);
    Wait(etcd_);
    etcd_ = -1;
  }
  bool Etcdctl(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {kEtcdctl, "--endpoints", client_});
    return Wait(Start(arguments, Path("ctl"))) == 0;
  }
  std::string Printed(std::string_view name = "ctl") {
    return base::ReadFile(base::PosixFileSystem(), Path(name)).value_or("");
  }
  std::string Path(std::string_view name) const { return base::JoinPath(dir_, name); }
  std::unique_ptr<base::File> MustOpen(std::string_view name, Mode mode) {
    auto file = base::PosixFileSystem().Open(Path(name), mode);
    EXPECT_TRUE(file.ok()) << file.status();
    return *std::move(file);
  }

  // A database of `puts` puts, as etcd 3.4 would hold it after them.
  void WriteBackup(uint64_t puts, size_t value_bytes) {
    auto file = MustOpen("backup.db", Mode::kCreate);
    ImageWriter writer(*file);
    for (const char* name : {"alarm", "auth", "authRoles", "authUsers", "cluster", "key"}) {
      ASSERT_TRUE(writer.BeginBucket(name).ok());
    }
    for (uint64_t i = 0; i < puts; ++i) {
      std::string key;
      base::AppendBigEndian64(key, i + 2);
      key.push_back('_');
      base::AppendBigEndian64(key, 0);
      const std::string record = BytesField(1, StrCat("key", 1'000'000 + i)) + NumberField(2, i + 2) +
                                 NumberField(3, i + 2) + NumberField(4, 1) +
                                 BytesField(5, std::string(value_bytes, 'v'));
      ASSERT_TRUE(writer.Put(key, record).ok());
    }
    for (const char* name : {"lease", "members", "members_removed", "meta"}) {
      ASSERT_TRUE(writer.BeginBucket(name).ok());
    }
    std::string index;
    base::AppendBigEndian64(index, puts + 4);
    ASSERT_TRUE(writer.Put("consistent_index", index).ok());
    auto size = writer.Finish();
    ASSERT_TRUE(size.ok()) << size.status();
    ASSERT_TRUE(AppendSha256(*file, *size).ok());
  }

  std::string dir_, client_, peer_;
  pid_t etcd_ = -1;
};

TEST_F(ImageEtcdTest, FileWrittenHere_IsRestoredAndServedByEtcd) {
  constexpr uint64_t kPuts = 20'000;
  WriteBackup(kPuts, 200);
  ASSERT_TRUE(Etcdctl({"snapshot", "status", Path("backup.db"), "-w", "json"})) << Printed();
  EXPECT_THAT(Printed(), HasSubstr(StrCat("\"revision\":", kPuts + 1)));
  EXPECT_THAT(Printed(), HasSubstr(StrCat("\"totalKey\":", kPuts + 1)));  // and consistent_index
  ASSERT_TRUE(
      Etcdctl({"snapshot", "restore", Path("backup.db"), "--name", "default", "--data-dir", Path("data"),
               "--initial-cluster", "default=" + peer_, "--initial-advertise-peer-urls", peer_}))
      << Printed();
  StartEtcd();
  ASSERT_TRUE(Etcdctl({"get", "key1012345", "-w", "json"})) << Printed();
  EXPECT_THAT(Printed(), HasSubstr("\"mod_revision\":12347"));
  // etcd goes on writing into the trees that were built here.
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(Etcdctl({"put", StrCat("key10", i), "new"})) << Printed();
  ASSERT_TRUE(Etcdctl({"compaction", StrCat(kPuts)})) << Printed();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));  // it deletes in the background
  ASSERT_TRUE(Etcdctl({"get", "key", "--prefix", "--keys-only", "-w", "fields"})) << Printed();
  EXPECT_THAT(Printed(), HasSubstr(StrCat("\"Count\" : ", kPuts + 5)));
  ASSERT_TRUE(Etcdctl({"defrag"})) << Printed();
  ASSERT_TRUE(Etcdctl({"get", "key1019999"})) << Printed();
  EXPECT_THAT(Printed(), HasSubstr("vvvv"));
}

TEST_F(ImageEtcdTest, FileWithLargeValues_IsRestoredByEtcd) {
  WriteBackup(30, 900'000);
  ASSERT_TRUE(Etcdctl({"snapshot", "status", Path("backup.db"), "-w", "json"})) << Printed();
  EXPECT_THAT(Printed(), HasSubstr("\"revision\":31"));
}

TEST_F(ImageEtcdTest, BackupOfEtcd_IsRead) {
  StartEtcd();
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(Etcdctl({"put", StrCat("key", i), std::string(3000, 'v')}));
  ASSERT_TRUE(Etcdctl({"snapshot", "save", Path("saved.db")})) << Printed();
  ASSERT_TRUE(Etcdctl({"snapshot", "status", Path("saved.db"), "-w", "json"})) << Printed();
  const std::string status = Printed();
  StopEtcd();

  for (const char* name : {"saved.db", "data/member/snap/db"}) {
    auto file = MustOpen(name, Mode::kRead);
    auto trailer = CheckSha256(*file);
    ASSERT_TRUE(trailer.ok()) << trailer.status();
    EXPECT_EQ(*trailer == Sha256Trailer::kMatches, name == std::string("saved.db"));
    auto reader = ImageReader::Open(*file);
    ASSERT_TRUE(reader.ok()) << reader.status();
    auto buckets = (*reader)->Buckets();
    ASSERT_TRUE(buckets.ok()) << buckets.status();
    EXPECT_THAT(*buckets,
                testing::IsSupersetOf({"alarm", "auth", "cluster", "key", "lease", "members", "meta"}));
    uint64_t total = 0, revision = 0;
    for (const std::string& bucket : *buckets) {
      absl::Status s = (*reader)->ForEach(bucket, [&](std::string_view key, std::string_view value) {
        ++total;
        if (bucket == "key") {
          revision = base::LoadBigEndian64(key.data());
          EXPECT_THAT(std::string(value), HasSubstr(std::string(3000, 'v')));
        }
        return absl::OkStatus();
      });
      ASSERT_TRUE(s.ok()) << bucket << ": " << s;
    }
    EXPECT_EQ(revision, 31u);
    if (name == std::string("saved.db")) {
      EXPECT_THAT(status, HasSubstr(StrCat("\"totalKey\":", total)));
      EXPECT_THAT(status, HasSubstr(StrCat("\"totalSize\":", (*reader)->size_bytes())));
    }
  }
}

}  // namespace
}  // namespace kvd::storage::image
