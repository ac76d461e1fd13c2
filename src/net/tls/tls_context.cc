#include "net/tls/tls_context.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>

#include <cerrno>
#include <fstream>
#include <iterator>
#include <utility>

#include "base/log.h"
#include "base/strings.h"
#include "net/tls/tls_internal.h"

namespace kvd::net {

using tls_internal::BioPtr;
using tls_internal::CrlPtr;
using tls_internal::Loaded;
using tls_internal::TakeSslError;

namespace {

constexpr const char* kCiphers = "ECDHE+AESGCM:ECDHE+CHACHA20";

absl::Status Invalid(std::string_view text) {
  return absl::InvalidArgumentError(base::ToAbsl(text));
}

// In Go's words where the file cannot be opened.
absl::Status CheckReadable(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (file && file.peek() != std::ifstream::traits_type::eof()) return absl::OkStatus();
  if (file.is_open()) return Invalid(base::StrCat(path, ": the file is empty or cannot be read"));
  const char* why = errno == ENOENT ? "no such file or directory" : strerror(errno);
  return Invalid(base::StrCat("open ", path, ": ", why));
}

int ToVersion(const std::string& text, int standard) {
  if (text == "TLS1.2") return TLS1_2_VERSION;
  if (text == "TLS1.3") return TLS1_3_VERSION;
  return standard;
}

// Nobody is there to type one.
int NoPassphrase(char*, int, int, void*) {
  return 0;
}

absl::Status UsePair(SSL_CTX* context, const std::string& cert, const std::string& key) {
  for (const std::string* path : {&cert, &key}) {
    if (absl::Status readable = CheckReadable(*path); !readable.ok()) return readable;
  }
  if (SSL_CTX_use_certificate_chain_file(context, cert.c_str()) != 1) {
    return Invalid(base::StrCat(cert, ": no certificate in PEM form (", TakeSslError(), ")"));
  }
  if (SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context) != 1) {
    return Invalid(base::StrCat(key, ": no key of the certificate in ", cert, " (", TakeSslError(), ")"));
  }
  return absl::OkStatus();
}

absl::Status SetLimits(const TlsOptions& options, SSL_CTX* context) {
  SSL_CTX_set_min_proto_version(context, ToVersion(options.min_version, TLS1_2_VERSION));
  SSL_CTX_set_max_proto_version(context, ToVersion(options.max_version, 0));
  if (options.cipher_suites.empty()) {
    SSL_CTX_set_cipher_list(context, kCiphers);
    return absl::OkStatus();
  }
  auto lists = tls_internal::ToCipherLists(options.cipher_suites);
  if (!lists.ok()) return lists.status();
  if (lists->tls12.empty()) {
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  } else if (SSL_CTX_set_cipher_list(context, lists->tls12.c_str()) != 1) {
    return Invalid(base::StrCat("the TLS cipher suites cannot be used: ", TakeSslError()));
  }
  return absl::OkStatus();
}

}  // namespace

std::string tls_internal::TakeSslError() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) return "unknown error";
  const char* reason = ERR_reason_error_string(code);
  if (reason != nullptr) return reason;
  char text[256];
  ERR_error_string_n(code, text, sizeof text);
  return text;
}

bool TlsContext::Impl::FileState::operator==(const FileState& other) const {
  auto same = [](const timespec& a, const timespec& b) {
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
  };
  return there == other.there && device == other.device && inode == other.inode && size == other.size &&
         same(modified, other.modified) && same(changed, other.changed);
}

TlsContext::Impl::FileState TlsContext::Impl::Look(const std::string& path) {
  FileState state;
  struct stat found {};
  if (::stat(path.c_str(), &found) != 0) return state;
  state.there = true;
  state.device = found.st_dev;
  state.inode = found.st_ino;
  state.size = found.st_size;
  state.modified = found.st_mtim;
  state.changed = found.st_ctim;
  return state;
}

TlsContext::Impl::Pair TlsContext::Impl::OwnPair(Side side) const {
  if (side == Side::kClient && !options.client_cert_file.empty()) {
    return {options.client_cert_file, options.client_key_file};
  }
  return {options.cert_file, options.key_file};
}

std::vector<std::string> TlsContext::Impl::Files(Side side) const {
  std::vector<std::string> files;
  const Pair own = OwnPair(side);
  for (const std::string* path : {&own.cert, &own.key, &options.trusted_ca_file, &options.crl_file}) {
    if (!path->empty()) files.push_back(*path);
  }
  return files;
}

absl::StatusOr<std::shared_ptr<const Loaded>> TlsContext::Impl::Current(Side side) {
  std::lock_guard lock(mutex_);
  std::optional<State>& state = side == Side::kServer ? server_ : client_;
  std::vector<FileState> files;
  for (const std::string& path : Files(side)) files.push_back(Look(path));
  if (state && state->files == files) return state->loaded;
  auto loaded = Load(side);
  if (!state) {
    if (!loaded.ok()) return loaded.status();
    state.emplace();
  }
  state->files = std::move(files);
  if (loaded.ok()) {
    state->loaded = *std::move(loaded);
  } else {
    KVD_LOG(kWarn, "changed TLS files cannot be used; those read before stay in force",
            {"error", loaded.status()});
  }
  return state->loaded;
}

absl::StatusOr<std::shared_ptr<const Loaded>> TlsContext::Impl::Load(Side side) const {
  ERR_clear_error();
  auto loaded = std::make_shared<Loaded>();
  SSL_CTX* context = SSL_CTX_new(side == Side::kServer ? TLS_server_method() : TLS_client_method());
  if (context == nullptr) return absl::InternalError(base::ToAbsl(TakeSslError()));
  loaded->context = context;
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_default_passwd_cb(context, NoPassphrase);
  if (side == Side::kServer) SSL_CTX_set_alpn_select_cb(context, tls_internal::SelectProtocol, nullptr);
  absl::Status status = SetLimits(options, context);
  if (status.ok()) status = LoadOwn(side, context);
  if (status.ok()) status = LoadTrust(side, context);
  if (status.ok()) status = LoadRevoked(*loaded);
  if (!status.ok()) return status;
  return loaded;
}

absl::Status TlsContext::Impl::LoadOwn(Side side, SSL_CTX* context) const {
  const Pair own = OwnPair(side);
  return own.cert.empty() ? absl::OkStatus() : UsePair(context, own.cert, own.key);
}

absl::Status TlsContext::Impl::LoadTrust(Side side, SSL_CTX* context) const {
  if (side == Side::kServer ? !options.DemandsCertificate() : options.skip_verify) return absl::OkStatus();
  const std::string& path = options.trusted_ca_file;
  if (path.empty()) {
    if (SSL_CTX_set_default_verify_paths(context) != 1) return absl::InternalError("no system authorities");
  } else {
    if (absl::Status readable = CheckReadable(path); !readable.ok()) return readable;
    if (SSL_CTX_load_verify_locations(context, path.c_str(), nullptr) != 1) {
      return Invalid(base::StrCat(path, ": no certificates in PEM form (", TakeSslError(), ")"));
    }
    // Who connects is told which authorities will do.
    if (side == Side::kServer) SSL_CTX_set_client_CA_list(context, SSL_load_client_CA_file(path.c_str()));
  }
  // A certificate that is trusted ends the chain, whether or not it signs itself, as in Go.
  X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context), X509_V_FLAG_PARTIAL_CHAIN);
  return absl::OkStatus();
}

absl::Status TlsContext::Impl::LoadRevoked(Loaded& loaded) const {
  const std::string& path = options.crl_file;
  if (path.empty()) return absl::OkStatus();
  if (absl::Status readable = CheckReadable(path); !readable.ok()) return readable;
  BioPtr pem(BIO_new_file(path.c_str(), "rb"));
  while (X509_CRL* crl = PEM_read_bio_X509_CRL(pem.get(), nullptr, nullptr, nullptr)) {
    loaded.revoked.emplace_back(crl);
  }
  ERR_clear_error();
  if (!loaded.revoked.empty()) return absl::OkStatus();
  BioPtr der(BIO_new_file(path.c_str(), "rb"));
  CrlPtr crl(d2i_X509_CRL_bio(der.get(), nullptr));
  if (crl == nullptr) {
    return Invalid(base::StrCat(path, ": no revocation list in PEM or DER form (", TakeSslError(), ")"));
  }
  loaded.revoked.push_back(std::move(crl));
  return absl::OkStatus();
}

TlsContext::~TlsContext() = default;

const TlsOptions& TlsContext::options() const {
  return impl_->options;
}

absl::StatusOr<std::shared_ptr<const TlsContext>> TlsContext::Create(TlsOptions options) {
  if (options.cert_file.empty() != options.key_file.empty()) {
    return Invalid(base::StrCat("KeyFile and CertFile must both be present[key: ", options.key_file,
                                ", cert: ", options.cert_file, "]"));
  }
  if (options.client_cert_file.empty() != options.client_key_file.empty()) {
    return Invalid(base::StrCat("ClientKeyFile and ClientCertFile must both be present or both absent: key: ",
                                options.client_key_file, ", cert: ", options.client_cert_file));
  }
  if (!options.allowed_cns.empty() && !options.allowed_hostnames.empty()) {
    return Invalid("AllowedCNs and AllowedHostnames are mutually exclusive");
  }
  auto impl = std::make_shared<Impl>(std::move(options));
  if (!impl->options.cert_file.empty()) {
    if (auto loaded = impl->Current(Impl::Side::kServer); !loaded.ok()) return loaded.status();
  }
  // The system's authorities are many, and not read before they are needed.
  const bool own = !impl->options.trusted_ca_file.empty() || !impl->options.client_cert_file.empty();
  if (own) {
    if (auto loaded = impl->Current(Impl::Side::kClient); !loaded.ok()) return loaded.status();
  }
  return std::shared_ptr<const TlsContext>(new TlsContext(std::move(impl)));
}

}  // namespace kvd::net
