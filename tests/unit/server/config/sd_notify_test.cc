#include "server/config/sd_notify.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "gtest/gtest.h"

namespace kvd::server {
namespace {

// A service manager's socket under `path`; an abstract name begins with '@'.
class Manager {
 public:
  explicit Manager(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    if (path[0] == '@') address.sun_path[0] = '\0';
    fd_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    socklen_t length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
    bound_ = ::bind(fd_, reinterpret_cast<sockaddr*>(&address), length) == 0;
  }
  ~Manager() { ::close(fd_); }
  bool bound() const { return bound_; }
  std::string Receive() {
    char buffer[64];
    ssize_t n = ::recv(fd_, buffer, sizeof(buffer), 0);
    return n < 0 ? "" : std::string(buffer, static_cast<size_t>(n));
  }

 private:
  int fd_ = -1;
  bool bound_ = false;
};

TEST(SdNotify, SendsTheStateToASocketFile) {
  std::string dir = testing::TempDir() + "/kvd-notify-XXXXXX";
  ASSERT_NE(::mkdtemp(dir.data()), nullptr);
  std::string path = dir + "/socket";
  Manager manager(path);
  ASSERT_TRUE(manager.bound());
  EXPECT_TRUE(SdNotify(path, "READY=1").ok());
  EXPECT_EQ(manager.Receive(), "READY=1");
  ::unlink(path.c_str());
  ::rmdir(dir.c_str());
}

TEST(SdNotify, SendsTheStateToAnAbstractName) {
  std::string name = "@kvd-notify-test-" + std::to_string(::getpid());
  Manager manager(name);
  ASSERT_TRUE(manager.bound());
  EXPECT_TRUE(SdNotify(name, "STOPPING=1").ok());
  EXPECT_EQ(manager.Receive(), "STOPPING=1");
}

TEST(SdNotify, NobodyListensOrNothingIsSet) {
  EXPECT_TRUE(SdNotify("", "READY=1").ok());
  EXPECT_EQ(SdNotify("/nonexistent/kvd/socket", "READY=1").code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(SdNotify("relative", "READY=1").code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(SdNotify("/" + std::string(200, 'x'), "READY=1").code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace kvd::server
