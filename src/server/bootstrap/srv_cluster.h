// The members of a cluster as DNS names them: the SRV records _etcd-server-ssl._tcp and _etcd-server._tcp of
// --discovery-srv, with the suffix of --discovery-srv-name. Private to server/bootstrap.
//
// Thread-safety: a function of its arguments; blocks on the resolver.
#pragma once

#include "absl/status/statusor.h"
#include "server/bootstrap/bootstrap.h"

namespace kvd::server::bootstrap_internal {

// Each record is one member. The one whose host and port are an advertised peer URL's is this member and has
// its name; DNS does not know the names of the others, which are numbered. Errors: kFailedPrecondition with
// the line that the start ends with; kCancelled.
absl::StatusOr<UrlsMap> MembersFromSrv(const Config& config, const BootstrapSeams& seams);

}  // namespace kvd::server::bootstrap_internal
