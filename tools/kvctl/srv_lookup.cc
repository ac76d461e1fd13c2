#include "srv_lookup.h"

#include <arpa/nameser.h>
#include <netinet/in.h>
#include <resolv.h>

#include "base/strings.h"

namespace kvd::ctl {
namespace {

// HOST:PORT of each record of one service name; none if there is no such name.
std::vector<std::string> Query(const std::string& service) {
  std::vector<unsigned char> answer(65536);
  const int length =
      res_query(service.c_str(), ns_c_in, ns_t_srv, answer.data(), static_cast<int>(answer.size()));
  ns_msg message;
  if (length < 0 || ns_initparse(answer.data(), length, &message) != 0) return {};
  std::vector<std::string> hosts;
  for (int i = 0; i < ns_msg_count(message, ns_s_an); ++i) {
    ns_rr record;
    // The data of an SRV record: priority, weight and port, two bytes each, then the host's name.
    constexpr int kFixedBytes = 6;
    if (ns_parserr(&message, ns_s_an, i, &record) != 0 || ns_rr_type(record) != ns_t_srv ||
        ns_rr_rdlen(record) < kFixedBytes) {
      continue;
    }
    char host[NS_MAXDNAME];
    if (dn_expand(ns_msg_base(message), ns_msg_end(message), ns_rr_rdata(record) + kFixedBytes, host,
                  sizeof(host)) < 0) {
      continue;
    }
    hosts.push_back(base::StrCat(host, ":", ns_get16(ns_rr_rdata(record) + 4)));
  }
  return hosts;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> LookUpEndpoints(const std::string& domain, const std::string& name,
                                                         bool insecure) {
  const std::string suffix = name.empty() ? "" : base::StrCat("-", name);
  std::vector<std::string> endpoints;
  for (const std::string& host : Query(base::StrCat("_etcd-client-ssl", suffix, "._tcp.", domain))) {
    endpoints.push_back(base::StrCat("https://", host));
  }
  if (insecure) {
    for (const std::string& host : Query(base::StrCat("_etcd-client", suffix, "._tcp.", domain))) {
      endpoints.push_back(base::StrCat("http://", host));
    }
  }
  if (endpoints.empty()) {
    return absl::NotFoundError(
        base::StrCat("error querying DNS SRV records for _etcd-client", suffix, " ", domain));
  }
  return endpoints;
}

}  // namespace kvd::ctl
