#include "server/config/sd_notify.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/strings.h"

namespace kvd::server {

absl::Status SdNotify(std::string_view socket_path, std::string_view state) {
  if (socket_path.empty()) return absl::OkStatus();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if ((socket_path[0] != '/' && socket_path[0] != '@') || socket_path.size() >= sizeof(address.sun_path)) {
    return absl::UnavailableError(base::StrCat("NOTIFY_SOCKET is not a usable address: ", socket_path));
  }
  std::memcpy(address.sun_path, socket_path.data(), socket_path.size());
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';

  auto fail = [&](const char* what) {
    return absl::UnavailableError(base::StrCat(what, " ", socket_path, ": ", std::strerror(errno)));
  };
  int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail("cannot open a socket for");
  socklen_t length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_path.size());
  ssize_t sent =
      ::sendto(fd, state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&address), length);
  absl::Status status;
  if (sent < 0) status = fail("cannot notify");
  ::close(fd);
  return status;
}

absl::Status SdNotify(std::string_view state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  return path == nullptr ? absl::OkStatus() : SdNotify(path, state);
}

}  // namespace kvd::server
