// Endpoints from DNS: the SRV records of _etcd-client[-name]._tcp (and of _etcd-client-ssl).
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace kvd::ctl {

struct SrvQuestion {
  std::string domain;
  std::string name;  // suffix of the service's name; empty: none
  // "address" or "address:port" to ask instead of the servers of /etc/resolv.conf.
  std::vector<std::string> servers;
};

// Asks and waits for the answer. Endpoints without TLS are left out unless `insecure`.
// Errors: kNotFound if there is no record; kInvalidArgument for servers that are none.
absl::StatusOr<std::vector<std::string>> LookUpEndpoints(const SrvQuestion& question, bool insecure);

}  // namespace kvd::ctl
