#include "server/bootstrap/member_tls.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "base/file_system.h"
#include "base/strings.h"

namespace kvd::server {
namespace {

using net::TlsContext;
using net::TlsOptions;

bool MakesItsOwn(const TlsConfig& tls) {
  return tls.auto_tls && tls.cert_file.empty();
}

std::string OwnDir(const Config& config, std::string_view side) {
  return base::JoinPath(base::JoinPath(config.data_dir, "fixtures"), side);
}

absl::StatusOr<TlsOptions> OptionsOf(const Config& config, const TlsConfig& tls, std::string_view side) {
  TlsOptions options;
  options.cert_file = tls.cert_file;
  options.key_file = tls.key_file;
  if (MakesItsOwn(tls)) {
    const std::string cert = base::JoinPath(OwnDir(config, side), "cert.pem");
    auto made = base::PosixFileSystem().Exists(cert);
    if (!made.ok()) return made.status();
    if (*made) {
      options.cert_file = cert;
      options.key_file = base::JoinPath(OwnDir(config, side), "key.pem");
    }
    // Nobody signs for such a certificate.
    options.skip_verify = true;
  }
  options.client_cert_file = tls.client_cert_file;
  options.client_key_file = tls.client_key_file;
  options.trusted_ca_file = tls.trusted_ca_file;
  options.crl_file = tls.crl_file;
  options.client_cert_auth = tls.client_cert_auth;
  options.allowed_cns = tls.allowed_cns;
  options.allowed_hostnames = tls.allowed_hostnames;
  options.cipher_suites = config.cipher_suites;
  options.min_version = config.tls_min_version;
  options.max_version = config.tls_max_version;
  return options;
}

absl::StatusOr<std::shared_ptr<const TlsContext>> Create(std::string_view what,
                                                         absl::StatusOr<TlsOptions> options) {
  if (!options.ok()) return options.status();
  auto context = TlsContext::Create(*std::move(options));
  if (context.ok()) return context;
  return absl::InvalidArgumentError(base::StrCat(what, ": ", context.status().message()));
}

std::vector<std::string> HostsOf(absl::Span<const Urls* const> lists) {
  std::vector<std::string> hosts;
  for (const Urls* urls : lists) {
    for (const Url& url : *urls) {
      if (url.IsUnix()) continue;
      const std::string host = url.Hostname();
      if (std::find(hosts.begin(), hosts.end(), host) == hosts.end()) hosts.push_back(host);
    }
  }
  return hosts;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const TlsContext>> ClientTls(const Config& config) {
  if (!config.ServesClientsWithTls()) return std::shared_ptr<const TlsContext>();
  return Create("TLS for clients", OptionsOf(config, config.client_tls, "client"));
}

absl::StatusOr<std::shared_ptr<const TlsContext>> PeerTls(const Config& config) {
  auto options = OptionsOf(config, config.peer_tls, "peer");
  // Certificates of members that DNS names are for its domain, where no authority of their own vouches for
  // them.
  if (options.ok() && !config.discovery_srv.empty() && config.peer_tls.trusted_ca_file.empty()) {
    options->server_name = config.discovery_srv;
  }
  return Create("TLS for peers", std::move(options));
}

absl::StatusOr<std::shared_ptr<const TlsContext>> DiscoveryTls(const Config& config) {
  TlsOptions options;
  options.client_cert_file = config.discovery.cert;
  options.client_key_file = config.discovery.key;
  options.trusted_ca_file = config.discovery.cacert;
  options.skip_verify = config.discovery.insecure_skip_tls_verify;
  return Create("TLS for the discovery service (--discovery-cert, --discovery-key, --discovery-cacert)",
                options);
}

absl::Status MakeOwnCertificates(const Config& config) {
  const uint64_t years = config.self_signed_cert_validity_years;
  if (MakesItsOwn(config.client_tls)) {
    absl::Status made =
        net::MakeSelfSignedCertificate(OwnDir(config, "client"), HostsOf(config.ListenClientLists()), years);
    if (!made.ok()) return made;
  }
  if (MakesItsOwn(config.peer_tls)) {
    return net::MakeSelfSignedCertificate(OwnDir(config, "peer"), HostsOf({&config.listen_peer_urls}), years);
  }
  return absl::OkStatus();
}

}  // namespace kvd::server
