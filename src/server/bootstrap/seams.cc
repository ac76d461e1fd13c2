#include <netdb.h>
#include <sys/socket.h>

#include <memory>

#include "base/file_system.h"
#include "base/strings.h"
#include "net/dns/numeric_addresses.h"
#include "net/startup/blocking_loop.h"
#include "server/bootstrap/bootstrap.h"
#include "server/bootstrap/discovery.h"
#include "server/bootstrap/member_tls.h"
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

// Where other members are asked from.
struct Asker {
  net::BlockingLoop& loop;
  std::shared_ptr<const net::TlsContext> tls;
};

absl::StatusOr<net::PeerResponse> Get(const Asker& asker, const std::string& url, const std::string& path,
                                      Duration timeout) {
  net::PeerRequest request;
  request.path = path;
  auto response = asker.loop.Http(url, request, Within(timeout), asker.tls);
  if (response.ok() && response->status != 200) {
    return absl::UnavailableError(base::StrCat(path, ": HTTP status ", response->status));
  }
  return response;
}

absl::StatusOr<RemoteCluster> FetchCluster(const Asker& asker, const std::vector<std::string>& peer_urls,
                                           Duration timeout) {
  absl::Status last = absl::UnavailableError("there is no other member to ask");
  for (const std::string& url : peer_urls) {
    auto response = Get(asker, url, "/members", timeout);
    if (absl::IsCancelled(response.status())) return response.status();
    auto cluster = response.ok() ? ReadCluster(*response) : absl::StatusOr<RemoteCluster>(response.status());
    if (cluster.ok()) return cluster;
    last = absl::UnavailableError(base::StrCat(url, ": ", cluster.status().message()));
  }
  return last;
}

absl::StatusOr<std::optional<Version>> ReadVersion(const net::PeerResponse& response) {
  auto reply = VersionReplyFromJson(response.body);
  if (!reply.ok()) return reply.status();
  if (reply->cluster == "not_decided") return std::nullopt;
  auto version = ParseVersion(reply->cluster);
  if (!version.ok()) return version.status();
  return *version;
}

absl::StatusOr<std::optional<Version>> FetchVersion(const Asker& asker,
                                                    const std::vector<std::string>& peer_urls,
                                                    Duration timeout) {
  absl::Status last = absl::UnavailableError("there is no URL to ask");
  for (const std::string& url : peer_urls) {
    auto response = Get(asker, url, "/version", timeout);
    if (response.ok()) return ReadVersion(*response);
    if (absl::IsCancelled(response.status())) return response.status();
    last = absl::Status(response.status().code(), base::StrCat(url, ": ", response.status().message()));
  }
  return last;
}

absl::StatusOr<std::vector<std::string>> ResolveHost(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &found); error != 0) {
    return absl::UnavailableError(base::StrCat("cannot resolve ", host, ": ", ::gai_strerror(error)));
  }
  std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned(found, &::freeaddrinfo);
  return net::NumericAddresses(owned.get());
}

}  // namespace

absl::StatusOr<BootstrapSeams> SystemBootstrapSeams(const Config& config, int interrupt_fd) {
  auto dns = net::DnsClient::Create({config.discovery_dns_servers, interrupt_fd});
  if (!dns.ok()) {
    return absl::Status(dns.status().code(),
                        base::StrCat("--discovery-dns-servers: ", dns.status().message()));
  }
  std::shared_ptr<net::DnsClient> resolver = *std::move(dns);
  auto loop = std::make_shared<net::BlockingLoop>(interrupt_fd);
  auto tls = PeerTls(config);
  if (!tls.ok()) return tls.status();
  auto discovery_tls = DiscoveryTls(config);
  if (!discovery_tls.ok()) return discovery_tls.status();
  BootstrapSeams seams;
  seams.fs = &base::PosixFileSystem();
  seams.log_exists = [](const std::string& dir) { return wal::Wal::Exists(base::PosixFileSystem(), dir); };
  seams.fetch_cluster = [loop, tls = *tls](const std::vector<std::string>& urls, Duration timeout) {
    return FetchCluster({*loop, tls}, urls, timeout);
  };
  seams.fetch_version = [loop, tls = *tls](const std::vector<std::string>& urls, Duration timeout) {
    return FetchVersion({*loop, tls}, urls, timeout);
  };
  seams.resolve = ResolveHost;
  if (!config.discovery_dns_servers.empty()) {
    seams.resolve = [resolver](const std::string& host) { return resolver->Addresses(host); };
  }
  seams.services = [resolver](const std::string& name) { return resolver->Services(name); };
  seams.discovery = [loop, tls = *discovery_tls](const Config& settings) {
    return NewDiscoveryService(settings, *loop, tls);
  };
  seams.pause = [loop](Duration time) { return loop->Pause(time); };
  return seams;
}

}  // namespace kvd::server
