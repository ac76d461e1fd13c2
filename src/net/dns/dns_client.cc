#include "net/dns/dns_client.h"

#include <ares.h>
#include <arpa/nameser.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <tuple>
#include <utility>

#include "absl/strings/str_join.h"
#include "base/strings.h"
#include "net/dns/numeric_addresses.h"

namespace kvd::net {
namespace {

constexpr int kTimeoutMs = 2000;  // of the first try at a server; c-ares doubles it
constexpr int kTries = 3;

absl::Status ToStatus(int error, const std::string& name) {
  if (error == ARES_SUCCESS) return absl::OkStatus();
  const std::string text = base::StrCat("lookup ", name, ": ", ares_strerror(error));
  switch (error) {
    case ARES_ENOTFOUND:
    case ARES_ENODATA:
      return absl::NotFoundError(base::StrCat("lookup ", name, ": no such host"));
    case ARES_EBADNAME:
    case ARES_EBADSTR:
      return absl::InvalidArgumentError(text);
    case ARES_ECANCELLED:
    case ARES_EDESTRUCTION:
      return absl::CancelledError(text);
    default:
      return absl::UnavailableError(text);
  }
}

absl::StatusOr<std::vector<SrvRecord>> ParseServices(const unsigned char* answer, int length,
                                                     const std::string& name) {
  ares_srv_reply* list = nullptr;
  const int error = ares_parse_srv_reply(answer, length, &list);
  std::unique_ptr<ares_srv_reply, decltype(&ares_free_data)> owned(list, &ares_free_data);
  if (error != ARES_SUCCESS) return ToStatus(error, name);
  std::vector<SrvRecord> records;
  for (const ares_srv_reply* it = list; it != nullptr; it = it->next) {
    std::string target = it->host == nullptr ? "" : it->host;
    while (!target.empty() && target.back() == '.') target.pop_back();
    if (target.empty()) continue;  // ".": the service is decidedly not available here (RFC 2782)
    records.push_back({std::move(target), it->port, it->priority, it->weight});
  }
  if (records.empty()) return ToStatus(ARES_ENODATA, name);
  std::sort(records.begin(), records.end(), [](const SrvRecord& a, const SrvRecord& b) {
    return std::tie(a.priority, a.target, a.port) < std::tie(b.priority, b.target, b.port);
  });
  return records;
}

class CaresClient final : public DnsClient {
 public:
  CaresClient(ares_channel channel, int interrupt_fd) : channel_(channel), interrupt_fd_(interrupt_fd) {}
  ~CaresClient() override { ares_destroy(channel_); }

  absl::StatusOr<std::vector<SrvRecord>> Services(const std::string& name) override;
  absl::StatusOr<std::vector<std::string>> Addresses(const std::string& host) override;

 private:
  template <typename T>
  struct Answer {
    const std::string& name;
    bool done = false;
    absl::StatusOr<T> result = absl::InternalError("the DNS query did not end");
  };

  // Serves the channel's sockets until nothing is under way.
  absl::Status Run(const bool& done);

  const ares_channel channel_;
  const int interrupt_fd_;
};

absl::StatusOr<std::vector<SrvRecord>> CaresClient::Services(const std::string& name) {
  using Result = Answer<std::vector<SrvRecord>>;
  Result answer{name};
  ares_query(
      channel_, name.c_str(), ns_c_in, ns_t_srv,
      [](void* arg, int error, int /*timeouts*/, unsigned char* bytes, int length) {
        auto* out = static_cast<Result*>(arg);
        out->done = true;
        if (error == ARES_SUCCESS) {
          out->result = ParseServices(bytes, length, out->name);
        } else {
          out->result = ToStatus(error, out->name);
        }
      },
      &answer);
  if (absl::Status status = Run(answer.done); !status.ok()) return status;
  return std::move(answer.result);
}

absl::StatusOr<std::vector<std::string>> CaresClient::Addresses(const std::string& host) {
  using Result = Answer<std::vector<std::string>>;
  Result answer{host};
  ares_addrinfo_hints hints{};
  hints.ai_socktype = SOCK_STREAM;
  ares_getaddrinfo(
      channel_, host.c_str(), nullptr, &hints,
      [](void* arg, int error, int /*timeouts*/, ares_addrinfo* info) {
        auto* out = static_cast<Result*>(arg);
        std::unique_ptr<ares_addrinfo, decltype(&ares_freeaddrinfo)> owned(info, &ares_freeaddrinfo);
        out->done = true;
        if (error == ARES_SUCCESS) {
          out->result = NumericAddresses(info->nodes);
          if (out->result->empty()) error = ARES_ENODATA;
        }
        if (error != ARES_SUCCESS) out->result = ToStatus(error, out->name);
      },
      &answer);
  if (absl::Status status = Run(answer.done); !status.ok()) return status;
  return std::move(answer.result);
}

absl::Status CaresClient::Run(const bool& done) {
  while (!done) {
    std::array<ares_socket_t, ARES_GETSOCK_MAXNUM> sockets;
    const int interest = ares_getsock(channel_, sockets.data(), static_cast<int>(sockets.size()));
    std::vector<pollfd> fds;
    for (size_t i = 0; i < sockets.size(); ++i) {
      const int index = static_cast<int>(i);
      short events = 0;
      if (ARES_GETSOCK_READABLE(interest, index)) events |= POLLIN;
      if (ARES_GETSOCK_WRITABLE(interest, index)) events |= POLLOUT;
      if (events != 0) fds.push_back({sockets[i], events, 0});
    }
    if (interrupt_fd_ >= 0) fds.push_back({interrupt_fd_, POLLIN, 0});
    timeval most{1, 0};
    timeval rest{};
    const timeval* wait = ares_timeout(channel_, &most, &rest);
    const int milliseconds = static_cast<int>(wait->tv_sec * 1000 + wait->tv_usec / 1000 + 1);
    const int ready = ::poll(fds.data(), fds.size(), milliseconds);
    if (ready < 0 && errno != EINTR) return absl::UnavailableError("lookup: cannot wait for the servers");
    if (ready > 0 && interrupt_fd_ >= 0 && fds.back().revents != 0) {
      ares_cancel(channel_);  // answers what is under way
      return absl::CancelledError("lookup: interrupted");
    }
    if (interrupt_fd_ >= 0) fds.pop_back();
    if (ready <= 0) ares_process_fd(channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    for (const pollfd& fd : fds) {
      if (ready <= 0 || fd.revents == 0) continue;
      ares_process_fd(channel_, (fd.revents & ~POLLOUT) != 0 ? fd.fd : ARES_SOCKET_BAD,
                      (fd.revents & POLLOUT) != 0 ? fd.fd : ARES_SOCKET_BAD);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<DnsClient>> DnsClient::Create(const DnsOptions& options) {
  static const int library = ares_library_init(ARES_LIB_INIT_ALL);
  if (library != ARES_SUCCESS) return ToStatus(library, "DNS");
  ares_options settings{};
  settings.timeout = kTimeoutMs;
  settings.tries = kTries;
  ares_channel channel = nullptr;
  const int error = ares_init_options(&channel, &settings, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES);
  if (error != ARES_SUCCESS) return ToStatus(error, "DNS");
  auto client = std::make_unique<CaresClient>(channel, options.interrupt_fd);
  if (!options.servers.empty()) {
    const std::string servers = absl::StrJoin(options.servers, ",");
    if (ares_set_servers_ports_csv(channel, servers.c_str()) != ARES_SUCCESS) {
      return absl::InvalidArgumentError(
          base::StrCat("DNS servers \"", servers, "\" are not a list of address or address:port"));
    }
  }
  return client;
}

}  // namespace kvd::net
