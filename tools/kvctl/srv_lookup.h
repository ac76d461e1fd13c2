// Endpoints from DNS: the SRV records of _etcd-client[-name]._tcp (and of _etcd-client-ssl).
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace kvd::ctl {

// Asks the resolver of the system and waits for it. Endpoints without TLS are left out unless `insecure`.
// Errors: kNotFound if there is no record.
absl::StatusOr<std::vector<std::string>> LookUpEndpoints(const std::string& domain, const std::string& name,
                                                         bool insecure);

}  // namespace kvd::ctl
