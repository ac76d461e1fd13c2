#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>

#include "base/file_system.h"
#include "base/strings.h"
#include "net/peer/http_client.h"
#include "server/bootstrap/bootstrap.h"
#include "wal/wal.h"

namespace kvd::server {
namespace {

constexpr size_t kMaxReplyBytes = 4 << 20;

net::HttpCallOptions Within(Duration timeout) {
  return {.connect_timeout = timeout, .timeout = timeout, .max_body_bytes = kMaxReplyBytes};
}

absl::StatusOr<RemoteCluster> ReadCluster(const net::PeerResponse& response) {
  auto cluster_id = ParseHexId(response.headers.Get("X-Etcd-Cluster-ID"));
  if (!cluster_id.ok()) return absl::UnavailableError("a peer's answer has no cluster ID");
  auto members = MembersFromJson(response.body);
  if (!members.ok())
    return absl::UnavailableError(base::StrCat("a peer's answer: ", members.status().message()));
  if (members->empty()) return absl::UnavailableError("a peer knows no members yet");
  return RemoteCluster{*cluster_id, *std::move(members)};
}

absl::StatusOr<RemoteCluster> FetchCluster(const std::vector<std::string>& peer_urls, Duration timeout) {
  absl::Status last = absl::UnavailableError("there is no other member to ask");
  for (const std::string& url : peer_urls) {
    auto response = net::HttpGetFromAny({url}, "/members", Within(timeout));
    auto cluster = response.ok() ? ReadCluster(*response) : absl::StatusOr<RemoteCluster>(response.status());
    if (cluster.ok()) return cluster;
    last = absl::UnavailableError(base::StrCat(url, ": ", cluster.status().message()));
  }
  return last;
}

absl::StatusOr<std::optional<Version>> FetchVersion(const std::vector<std::string>& peer_urls,
                                                    Duration timeout) {
  auto response = net::HttpGetFromAny(peer_urls, "/version", Within(timeout));
  if (!response.ok()) return response.status();
  auto reply = VersionReplyFromJson(response->body);
  if (!reply.ok()) return reply.status();
  if (reply->cluster == "not_decided") return std::nullopt;
  auto version = ParseVersion(reply->cluster);
  if (!version.ok()) return version.status();
  return *version;
}

absl::StatusOr<std::vector<std::string>> ResolveHost(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &found); error != 0) {
    return absl::UnavailableError(base::StrCat("cannot resolve ", host, ": ", ::gai_strerror(error)));
  }
  std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned(found, &::freeaddrinfo);
  std::vector<std::string> addresses;
  for (const addrinfo* it = found; it != nullptr; it = it->ai_next) {
    char text[NI_MAXHOST];
    if (::getnameinfo(it->ai_addr, it->ai_addrlen, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) == 0) {
      addresses.emplace_back(text);
    }
  }
  std::sort(addresses.begin(), addresses.end());
  addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
  return addresses;
}

}  // namespace

BootstrapSeams SystemBootstrapSeams() {
  BootstrapSeams seams;
  seams.fs = &base::PosixFileSystem();
  seams.log_exists = [](const std::string& dir) { return wal::Wal::Exists(base::PosixFileSystem(), dir); };
  seams.fetch_cluster = FetchCluster;
  seams.fetch_version = FetchVersion;
  seams.resolve = ResolveHost;
  return seams;
}

}  // namespace kvd::server
