// What the settings of TLS and the schemes of the URLs must have to do with each other: etcd's rules and
// texts.

#include <string>

#include "base/strings.h"
#include "net/tls/tls_context.h"
#include "server/config/flag.h"

namespace kvd::server::config_internal {
namespace {

absl::Status Invalid(std::string_view message) {
  return absl::InvalidArgumentError(base::ToAbsl(message));
}

bool HasPair(const TlsConfig& tls) {
  return !tls.cert_file.empty() || !tls.key_file.empty();
}

absl::Status CheckPairs(std::string_view prefix, const TlsConfig& tls) {
  if (tls.cert_file.empty() != tls.key_file.empty()) {
    return Invalid(base::StrCat("--", prefix, "cert-file, --", prefix,
                                "key-file: KeyFile and CertFile must both be present[key: ", tls.key_file,
                                ", cert: ", tls.cert_file, "]"));
  }
  if (tls.client_cert_file.empty() != tls.client_key_file.empty()) {
    return Invalid(
        base::StrCat("--", prefix, "client-cert-file, --", prefix,
                     "client-key-file: ClientKeyFile and ClientCertFile must both be present or both "
                     "absent: key: ",
                     tls.client_key_file, ", cert: ", tls.client_cert_file));
  }
  if (!tls.allowed_cns.empty() && !tls.allowed_hostnames.empty()) {
    return Invalid(base::StrCat("--", prefix.empty() ? "client-" : prefix, "cert-allowed-cn and --",
                                prefix.empty() ? "client-" : prefix,
                                "cert-allowed-hostname are mutually exclusive"));
  }
  return absl::OkStatus();
}

absl::Status CheckUrls(const Config& config) {
  const bool clients = HasPair(config.client_tls) || config.client_tls.auto_tls;
  const std::pair<const char*, const Urls*> lists[] = {
      {"listen-client-urls", &config.listen_client_urls},
      {"listen-client-http-urls", &config.listen_client_http_urls},
      {"listen-metrics-urls", &config.listen_metrics_urls},
  };
  for (const auto& [flag, urls] : lists) {
    for (const Url& url : *urls) {
      if (!url.IsSecure() || clients) continue;
      return Invalid(base::StrCat("--", flag,
                                  ": TLS key/cert (--cert-file, --key-file) must be provided for client url ",
                                  url.ToString(), " with HTTPS scheme"));
    }
  }
  for (const Url& url : config.listen_peer_urls) {
    if (!url.IsSecure() || HasPair(config.peer_tls) || config.peer_tls.auto_tls) continue;
    return Invalid(
        base::StrCat("--listen-peer-urls: cannot listen on TLS for ", url.host,
                     ": KeyFile and CertFile are not presented (--peer-cert-file, --peer-key-file)"));
  }
  return absl::OkStatus();
}

void AdviseOf(const Urls& urls, const TlsConfig& tls, bool peers, std::vector<Notice>& warnings) {
  const char* what = peers ? "scheme is HTTP" : "scheme is http or unix";
  const char* key = peers ? "peer-url" : "client-url";
  for (const Url& url : urls) {
    if (url.IsSecure()) continue;
    if (!tls.Empty()) {
      warnings.push_back(
          {base::StrCat(what, " while key and cert files are present; ignoring key and cert files"),
           {{key, url.ToString()}}});
    }
    if (tls.client_cert_auth) {
      warnings.push_back({base::StrCat(what, " while --", peers ? "peer-" : "",
                                       "client-cert-auth is enabled; ignoring client cert auth for this URL"),
                          {{key, url.ToString()}}});
    }
  }
}

}  // namespace

absl::Status CheckTls(const Config& config) {
  absl::Status status = CheckUrls(config);
  if (config.ServesClientsWithTls()) status.Update(CheckPairs("", config.client_tls));
  status.Update(CheckPairs("peer-", config.peer_tls));
  if (absl::Status suites = net::CheckTlsCipherSuites(config.cipher_suites); !suites.ok()) {
    status.Update(Invalid(base::StrCat("--cipher-suites: ", suites.message())));
  }
  const bool makes = config.client_tls.auto_tls || config.peer_tls.auto_tls;
  if (makes &&
      (config.self_signed_cert_validity_years == 0 || config.self_signed_cert_validity_years > 1000)) {
    status.Update(Invalid(base::StrCat("--self-signed-cert-validity: cannot generate self signed cert: ",
                                       config.self_signed_cert_validity_years,
                                       " is invalid, it should be greater than 0 (and at most 1000)")));
  }
  return status;
}

void AdviseTls(const Config& config, std::vector<Notice>& warnings) {
  if (config.client_tls.auto_tls && HasPair(config.client_tls)) {
    warnings.push_back({"ignoring client auto TLS since certs given", {}});
  }
  if (config.peer_tls.auto_tls && HasPair(config.peer_tls)) {
    warnings.push_back({"ignoring peer auto TLS since certs given", {}});
  }
  AdviseOf(config.listen_peer_urls, config.peer_tls, true, warnings);
  AdviseOf(config.listen_client_urls, config.client_tls, false, warnings);
  AdviseOf(config.listen_client_http_urls, config.client_tls, false, warnings);
}

}  // namespace kvd::server::config_internal
