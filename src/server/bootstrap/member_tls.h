// The TLS that the settings ask for: of this member's client port, of its peer port and the members it dials,
// and towards a discovery service.
//
// Thread-safety: functions of their arguments; they read files. Errors: kInvalidArgument with the line that
// the process ends with.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "net/tls/tls_context.h"
#include "server/config/config.h"

namespace kvd::server {

// Null: no URL for clients is one of TLS.
absl::StatusOr<std::shared_ptr<const net::TlsContext>> ClientTls(const Config& config);
// For dialling at least: other members may have URLs of https where this one has none.
absl::StatusOr<std::shared_ptr<const net::TlsContext>> PeerTls(const Config& config);
absl::StatusOr<std::shared_ptr<const net::TlsContext>> DiscoveryTls(const Config& config);

// Makes the certificates of --auto-tls and --peer-auto-tls, where there are none, in the data directory,
// which is there. Before it, ClientTls and PeerTls of such settings have no certificate.
absl::Status MakeOwnCertificates(const Config& config);

}  // namespace kvd::server
