// What one side of TLS needs: certificates, authorities, and the rules for the other side's certificate. It
// is used for the connections that come in and for those that are dialled.
//
// The files are looked at before every handshake, and read again when one of them has changed, so renewed
// certificates, authorities and revocation lists need no restart. Files that cannot be used (a certificate
// and key that do not belong together yet) leave what was read before in force, with one line in the log.
// Sessions are not resumed: each connection goes through all checks.
//
// Thread-safety: thread-safe. Ownership: connections share it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace kvd::net {

struct TlsOptions {
  // This side's certificate, with its chain, and key: PEM files, both or neither. Without them there is no
  // accepting.
  std::string cert_file, key_file;
  // Others to dial with; empty: the same.
  std::string client_cert_file, client_key_file;
  // PEM file of the authorities that the other side's certificate must come from; empty: the system's.
  std::string trusted_ca_file;
  // Certificates that are revoked, PEM or DER; whoever shows one is refused.
  std::string crl_file;
  // Who connects must have a certificate. So it is, too, where trusted_ca_file is set.
  bool client_cert_auth = false;
  bool DemandsCertificate() const { return client_cert_auth || !trusted_ca_file.empty(); }
  // Take any certificate of a server that is dialled.
  bool skip_verify = false;
  // The name that the certificate of a server that is dialled must have; empty: the host that is dialled.
  std::string server_name;
  // Names one of which the other side's certificate must have: as its common name, or as a host it is for.
  std::vector<std::string> allowed_cns, allowed_hostnames;
  std::vector<std::string> cipher_suites;  // by Go's names; empty: what is safe today
  std::string min_version, max_version;    // "TLS1.2" or "TLS1.3"; empty: TLS1.2 and the newest
};

class TlsContext {
 public:
  // Reads the files. Errors: kInvalidArgument with one line that names the file or the setting.
  static absl::StatusOr<std::shared_ptr<const TlsContext>> Create(TlsOptions options);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  const TlsOptions& options() const;

  struct Impl;
  const std::shared_ptr<Impl>& impl() const { return impl_; }

 private:
  explicit TlsContext(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

  const std::shared_ptr<Impl> impl_;
};

// Errors: kInvalidArgument with etcd's text for a name that is none of Go's cipher suites, and for those that
// are too weak to be served.
absl::Status CheckTlsCipherSuites(absl::Span<const std::string> names);

// Makes a certificate that signs itself, for the hosts (addresses and names), and its key: cert.pem and
// key.pem in `dir`, which is created. What is there already is used. Errors: those of the file system.
absl::Status MakeSelfSignedCertificate(const std::string& dir, absl::Span<const std::string> hosts,
                                       uint64_t validity_years);

}  // namespace kvd::net
