#include <string>

#include "absl/strings/match.h"
#include "base/strings.h"
#include "server/config/flag.h"

namespace kvd::server::config_internal {
namespace {

absl::Status Invalid(std::string_view message) {
  return absl::InvalidArgumentError(base::ToAbsl(message));
}

// The part of a URL before its path, with "http://" put before an address alone; a copy of the text.
std::string WithScheme(const std::string& text) {
  return absl::StrContains(text, "://") ? text : base::StrCat("http://", text);
}

bool HasBlank(const std::string& text) {
  for (char c : text) {
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f) return true;
  }
  return false;
}

absl::Status CheckWays(const Config& config) {
  int ways = 0;
  for (bool given : {!config.initial_cluster.empty(), !config.discovery_url.empty(),
                     !config.discovery_srv.empty(), !config.discovery.endpoints.empty()}) {
    ways += given ? 1 : 0;
  }
  if (ways > 1) {
    return Invalid(
        "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery\", "
        "\"discovery-endpoints\" or \"discovery-srv\"");
  }
  if (config.discovery_srv.empty() && !config.discovery_srv_name.empty()) {
    return Invalid("--discovery-srv-name needs --discovery-srv");
  }
  return absl::OkStatus();
}

absl::Status CheckKeys(const DiscoveryConfig& discovery) {
  if (discovery.token.empty() != discovery.endpoints.empty()) {
    return Invalid("both --discovery-token and --discovery-endpoints must be set");
  }
  for (const std::string& endpoint : discovery.endpoints) {
    if (endpoint.empty()) return Invalid("--discovery-endpoints must not contain empty endpoints");
    auto url = ParseUrl(WithScheme(endpoint));
    if (!url.ok() || url->IsUnix()) {
      return Invalid(base::StrCat("--discovery-endpoints: \"", endpoint,
                                  "\" must be \"host:port\" or \"http(s)://host:port\""));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckUrl(const Config& config) {
  const std::string& url = config.discovery_url;
  if (url.empty()) return absl::OkStatus();
  const bool secure = absl::StartsWith(url, "https://");
  const std::string_view scheme = secure ? "https://" : "http://";
  const size_t path = url.find('/', scheme.size());
  const bool good = absl::StartsWith(url, base::ToAbsl(scheme)) && path != std::string::npos &&
                    path > scheme.size() && path + 1 < url.size() && !HasBlank(url) &&
                    url.find_first_of("?#") == std::string::npos;
  if (!good) {
    return Invalid(base::StrCat("--discovery: discovery: invalid URL: \"", url,
                                "\" must be \"http(s)://host:port/token\""));
  }
  const std::string& proxy = config.discovery_proxy;
  if (proxy.empty()) return absl::OkStatus();
  if (secure) {
    return Invalid(base::StrCat("--discovery-proxy: ", url,
                                " needs TLS, which is not supported through a proxy by this version of kvd"));
  }
  auto parsed = ParseUrl(WithScheme(proxy));
  if (!parsed.ok() || parsed->scheme != "http") {
    return Invalid(base::StrCat("--discovery-proxy: invalid proxy address \"", proxy,
                                "\": it must be \"host:port\" or \"http://host:port\""));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckBootstrap(const Config& config) {
  absl::Status status = CheckWays(config);
  status.Update(CheckKeys(config.discovery));
  status.Update(CheckUrl(config));
  if (!status.ok()) return status;
  auto members = ParseInitialCluster(config.initial_cluster);
  if (members.ok()) return absl::OkStatus();
  return Invalid(base::StrCat("--initial-cluster: ", members.status().message()));
}

}  // namespace kvd::server::config_internal
