#include "srv_lookup.h"

#include "base/strings.h"
#include "net/dns/dns_client.h"

namespace kvd::ctl {

absl::StatusOr<std::vector<std::string>> LookUpEndpoints(const SrvQuestion& question, bool insecure) {
  auto dns = net::DnsClient::Create({.servers = question.servers});
  if (!dns.ok()) return dns.status();
  const std::string suffix = question.name.empty() ? "" : base::StrCat("-", question.name);
  std::vector<std::string> endpoints;
  std::string failures;
  auto ask = [&](const std::string& service, const std::string& scheme) {
    auto records = (*dns)->Services(base::StrCat("_", service, suffix, "._tcp.", question.domain));
    if (!records.ok()) {
      base::StrAppend(&failures, failures.empty() ? "" : " and ", records.status().message());
      return;
    }
    for (const net::SrvRecord& record : *records) {
      endpoints.push_back(base::StrCat(scheme, "://", record.target, ":", record.port));
    }
  };
  ask("etcd-client-ssl", "https");
  if (insecure) ask("etcd-client", "http");
  if (endpoints.empty()) return absl::NotFoundError(base::StrCat("dns lookup errors: ", failures));
  return endpoints;
}

}  // namespace kvd::ctl
