#include "net/tls/tls_session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/log.h"
#include "base/strings.h"
#include "net/tls/tls_internal.h"

namespace kvd::net {

using tls_internal::Loaded;
using tls_internal::SslPtr;
using tls_internal::TakeSslError;

namespace {

// What one record carries at most. Smaller pieces are put together, so that each record is as long as it may.
constexpr size_t kRecordBytes = 16384;
// What Go's HTTP server says to a client that does not know that the port speaks TLS.
constexpr std::string_view kPlainAnswer =
    "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
constexpr unsigned kHostFlags = X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT;

bool IsAddress(const std::string& host) {
  unsigned char buffer[sizeof(in6_addr)];
  return inet_pton(AF_INET, host.c_str(), buffer) == 1 || inet_pton(AF_INET6, host.c_str(), buffer) == 1;
}

bool IsForHost(X509* certificate, const std::string& host) {
  if (IsAddress(host)) return X509_check_ip_asc(certificate, host.c_str(), 0) == 1;
  return X509_check_host(certificate, host.data(), host.size(), kHostFlags, nullptr) == 1;
}

std::string CommonName(X509* certificate) {
  char text[256] = {};
  const int length =
      X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, text, sizeof text);
  return length < 0 ? std::string() : std::string(text, static_cast<size_t>(length));
}

std::string SerialHex(X509* certificate) {
  BIGNUM* number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr);
  char* hex = number == nullptr ? nullptr : BN_bn2hex(number);
  std::string text = hex == nullptr ? "" : hex;
  OPENSSL_free(hex);
  BN_free(number);
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return tolower(c); });
  return text;
}

// --- The socket as OpenSSL sees it. OpenSSL's own kind of socket raises SIGPIPE.

int FdOf(BIO* bio) {
  return static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
}

int FinishIo(BIO* bio, ssize_t n, int retry) {
  BIO_clear_retry_flags(bio);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) BIO_set_flags(bio, retry | BIO_FLAGS_SHOULD_RETRY);
  return static_cast<int>(n);
}

int SocketWrite(BIO* bio, const char* data, int size) {
  ssize_t n;
  do {
    n = send(FdOf(bio), data, static_cast<size_t>(size), MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
  return FinishIo(bio, n, BIO_FLAGS_WRITE);
}

int SocketRead(BIO* bio, char* data, int size) {
  ssize_t n;
  do {
    n = recv(FdOf(bio), data, static_cast<size_t>(size), 0);
  } while (n < 0 && errno == EINTR);
  if (n == 0) BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
  return FinishIo(bio, n, BIO_FLAGS_READ);
}

long SocketControl(BIO* bio, int command, long, void*) {
  if (command == BIO_CTRL_FLUSH) return 1;
  if (command == BIO_CTRL_EOF) return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0 ? 1 : 0;
  return 0;
}

BIO_METHOD* SocketMethod() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made =
        BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK | BIO_TYPE_DESCRIPTOR, "kvd socket");
    BIO_meth_set_write(made, SocketWrite);
    BIO_meth_set_read(made, SocketRead);
    BIO_meth_set_ctrl(made, SocketControl);
    return made;
  }();
  return method;
}

BIO* NewSocketBio(int fd) {
  BIO* bio = BIO_new(SocketMethod());
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<intptr_t>(fd)));
  BIO_set_init(bio, 1);
  return bio;
}

// --- ALPN.

using Protocols = TlsSession::Protocols;

// In the form of the wire, the one that is liked best first. "" (which is static, too): none.
const char* ProtocolList(Protocols protocols) {
  switch (protocols) {
    case Protocols::kHttp1:
      return "\x08http/1.1";
    case Protocols::kHttp2:
      return "\x02h2";
    case Protocols::kHttp1AndHttp2:
      return "\x02h2\x08http/1.1";
    case Protocols::kNone:
      break;
  }
  return "";
}

int ListIndex() {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

const unsigned char* Bytes(const char* text) {
  return reinterpret_cast<const unsigned char*>(text);
}

}  // namespace

struct TlsSession::Impl {
  Impl(const TlsContext& context, std::shared_ptr<const Loaded> now, Protocols wanted)
      : tls(context.impl()), loaded(std::move(now)), protocols(wanted), ssl(SSL_new(loaded->context)) {}

  static int ExIndex() {
    static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
    return index;
  }
  static int Verify(int ok, X509_STORE_CTX* store);

  void Begin(int socket, int verify_mode);
  // What the chain must satisfy beside being signed; "" if it does.
  std::string Refusal(X509_STORE_CTX* store) const;
  Result Ended(int returned);
  bool LooksLikeTls();

  const std::shared_ptr<TlsContext::Impl> tls;
  const std::shared_ptr<const Loaded> loaded;
  const Protocols protocols;
  const SslPtr ssl;
  int fd = -1;
  bool server = false;
  bool established = false;
  bool checked_first = false;
  bool plain_http = false;
  bool silent = false;
  std::string refusal;
  absl::Status error;
  unsigned long error_code = 0;
};

std::string TlsSession::Impl::Refusal(X509_STORE_CTX* store) const {
  const TlsOptions& options = tls->options;
  for (const auto& crl : loaded->revoked) {
    STACK_OF(X509)* chain = X509_STORE_CTX_get0_chain(store);
    for (int i = 0; i < sk_X509_num(chain); ++i) {
      X509* certificate = sk_X509_value(chain, i);
      X509_REVOKED* found = nullptr;
      // As etcd does, by the serial number alone.
      auto* serial = const_cast<ASN1_INTEGER*>(X509_get0_serialNumber(certificate));
      if (X509_CRL_get0_by_serial(crl.get(), &found, serial) == 1) {
        return base::StrCat("transport: certificate serial ", SerialHex(certificate), " revoked");
      }
    }
  }
  X509* leaf = X509_STORE_CTX_get0_cert(store);
  if (!options.allowed_cns.empty()) {
    const std::string name = CommonName(leaf);
    if (std::count(options.allowed_cns.begin(), options.allowed_cns.end(), name) == 0) {
      return base::StrCat("CommonName authentication failed (\"", name, "\")");
    }
  }
  const auto& hosts = options.allowed_hostnames;
  if (!hosts.empty() && std::none_of(hosts.begin(), hosts.end(),
                                     [leaf](const std::string& host) { return IsForHost(leaf, host); })) {
    return "client certificate authentication failed";
  }
  return "";
}

int TlsSession::Impl::Verify(int ok, X509_STORE_CTX* store) {
  if (ok != 1 || X509_STORE_CTX_get_error_depth(store) != 0) return ok;
  auto* ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  auto* self = static_cast<Impl*>(SSL_get_ex_data(ssl, ExIndex()));
  self->refusal = self->Refusal(store);
  if (self->refusal.empty()) return 1;
  X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
  return 0;
}

int tls_internal::SelectProtocol(SSL* ssl, const unsigned char** out, unsigned char* out_length,
                                 const unsigned char* offered, unsigned offered_length, void*) {
  const auto* ours = static_cast<const char*>(SSL_get_ex_data(ssl, ListIndex()));
  unsigned char* chosen = nullptr;
  const int outcome = SSL_select_next_proto(&chosen, out_length, Bytes(ours),
                                            static_cast<unsigned>(strlen(ours)), offered, offered_length);
  if (outcome != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_NOACK;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

void TlsSession::Impl::Begin(int socket, int verify_mode) {
  fd = socket;
  SSL_set_ex_data(ssl.get(), ExIndex(), this);
  SSL_set_ex_data(ssl.get(), ListIndex(), const_cast<char*>(ProtocolList(protocols)));
  BIO* bio = NewSocketBio(fd);
  SSL_set_bio(ssl.get(), bio, bio);
  SSL_set_verify(ssl.get(), verify_mode, &Impl::Verify);
}

absl::StatusOr<std::unique_ptr<TlsSession>> TlsSession::Accept(const TlsContext& context, int fd,
                                                               Protocols protocols) {
  const TlsOptions& options = context.options();
  if (options.cert_file.empty())
    return absl::FailedPreconditionError("there is no certificate to serve with");
  auto loaded = context.impl()->Current(TlsContext::Impl::Side::kServer);
  if (!loaded.ok()) return loaded.status();
  auto impl = std::make_unique<Impl>(context, *std::move(loaded), protocols);
  if (impl->ssl == nullptr) return absl::InternalError(base::ToAbsl(TakeSslError()));
  impl->server = true;
  impl->Begin(
      fd, options.DemandsCertificate() ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT : SSL_VERIFY_NONE);
  SSL_set_accept_state(impl->ssl.get());
  return std::unique_ptr<TlsSession>(new TlsSession(std::move(impl)));
}

absl::StatusOr<std::unique_ptr<TlsSession>> TlsSession::Connect(const TlsContext& context, int fd,
                                                                const std::string& host,
                                                                Protocols protocols) {
  const TlsOptions& options = context.options();
  auto loaded = context.impl()->Current(TlsContext::Impl::Side::kClient);
  if (!loaded.ok()) return loaded.status();
  auto impl = std::make_unique<Impl>(context, *std::move(loaded), protocols);
  SSL* ssl = impl->ssl.get();
  if (ssl == nullptr) return absl::InternalError(base::ToAbsl(TakeSslError()));
  impl->Begin(fd, options.skip_verify ? SSL_VERIFY_NONE : SSL_VERIFY_PEER);
  const std::string& name = options.server_name.empty() ? host : options.server_name;
  const bool address = IsAddress(name);
  if (!address) SSL_set_tlsext_host_name(ssl, name.c_str());
  if (!options.skip_verify) {
    SSL_set_hostflags(ssl, kHostFlags);
    const int set = address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name.c_str())
                            : SSL_set1_host(ssl, name.c_str());
    if (set != 1) return absl::InvalidArgumentError(base::StrCat("\"", name, "\" is no host"));
  }
  if (const char* list = ProtocolList(protocols); *list != '\0') {
    SSL_set_alpn_protos(ssl, Bytes(list), static_cast<unsigned>(strlen(list)));
  }
  SSL_set_connect_state(ssl);
  return std::unique_ptr<TlsSession>(new TlsSession(std::move(impl)));
}

TlsSession::TlsSession(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TlsSession::~TlsSession() = default;

// The text of what ended the connection, in the words that etcd's logs and tests know where there are any.
TlsSession::Result TlsSession::Impl::Ended(int returned) {
  const int saved = errno;
  const int kind = SSL_get_error(ssl.get(), returned);
  if (kind == SSL_ERROR_WANT_READ) return {Result::kWantRead, 0};
  if (kind == SSL_ERROR_WANT_WRITE) return {Result::kWantWrite, 0};
  if (kind == SSL_ERROR_ZERO_RETURN) return {Result::kEnd, 0};
  const unsigned long code = ERR_peek_error();
  const int reason = ERR_GET_REASON(code);
  std::string text;
  if (!refusal.empty()) {
    text = refusal;
  } else if (kind == SSL_ERROR_SYSCALL && code == 0) {
    silent = true;
    text = saved == 0 ? "EOF" : strerror(saved);
  } else if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
    silent = true;
    text = "EOF";
  } else if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
    text = base::StrCat("tls: failed to verify certificate: ",
                        X509_verify_cert_error_string(SSL_get_verify_result(ssl.get())));
  } else if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
    text = "tls: client didn't provide a certificate";
  } else {
    text = TlsErrorText(code);
    error_code = code;
  }
  ERR_clear_error();
  error = absl::UnavailableError(base::ToAbsl(text));
  return {Result::kFailed, 0};
}

// A server says at once what it thinks of bytes that are no handshake. True also if nothing has come yet.
bool TlsSession::Impl::LooksLikeTls() {
  constexpr unsigned char kHandshakeRecord = 0x16;
  unsigned char first = 0;
  if (recv(fd, &first, 1, MSG_PEEK) != 1) return true;
  checked_first = true;
  if (first == kHandshakeRecord) return true;
  plain_http = first >= 'A' && first <= 'Z';
  error = absl::UnavailableError("tls: first record does not look like a TLS handshake");
  return false;
}

TlsSession::Result TlsSession::Handshake() {
  if (impl_->established) return {Result::kDone, 0};
  if (impl_->server && !impl_->checked_first && !impl_->LooksLikeTls()) return {Result::kFailed, 0};
  ERR_clear_error();
  errno = 0;
  const int returned = SSL_do_handshake(impl_->ssl.get());
  if (returned != 1) {
    const Result result = impl_->Ended(returned);
    if (result.kind != Result::kEnd) return result;
    impl_->silent = true;
    impl_->error = absl::UnavailableError("EOF");
    return {Result::kFailed, 0};
  }
  impl_->established = true;
  return {Result::kDone, 0};
}

TlsSession::Result TlsSession::Read(char* data, size_t size) {
  size_t filled = 0;
  while (filled < size) {
    size_t n = 0;
    ERR_clear_error();
    errno = 0;
    const int returned = SSL_read_ex(impl_->ssl.get(), data + filled, size - filled, &n);
    if (returned == 1) {
      filled += n;
      continue;
    }
    // An end comes again with the next call.
    if (filled > 0) break;
    return impl_->Ended(returned);
  }
  return {Result::kDone, filled};
}

TlsSession::Result TlsSession::Write(const iovec* ranges, int count) {
  std::array<char, kRecordBytes> together;
  size_t taken = 0;  // in all
  int at = 0;
  size_t skip = 0;  // of ranges[at]
  while (true) {
    while (at < count && skip == ranges[at].iov_len) {
      ++at;
      skip = 0;
    }
    if (at == count) break;
    const char* piece = static_cast<const char*>(ranges[at].iov_base) + skip;
    size_t size = std::min(ranges[at].iov_len - skip, kRecordBytes);
    if (size < kRecordBytes && at + 1 < count) {
      size_t from = skip;
      size = 0;
      for (int i = at; i < count && size < kRecordBytes; ++i) {
        const size_t n = std::min(ranges[i].iov_len - from, kRecordBytes - size);
        // An empty range may have no address.
        if (n > 0) memcpy(together.data() + size, static_cast<const char*>(ranges[i].iov_base) + from, n);
        size += n;
        from = 0;
      }
      piece = together.data();
    }
    size_t n = 0;
    ERR_clear_error();
    errno = 0;
    const int returned = SSL_write_ex(impl_->ssl.get(), piece, size, &n);
    if (returned != 1) {
      if (taken > 0) break;  // the next call brings the rest, and finds the same
      return impl_->Ended(returned);
    }
    taken += n;
    for (size_t left = n; left > 0;) {
      const size_t step = std::min(left, ranges[at].iov_len - skip);
      skip += step;
      left -= step;
      if (skip == ranges[at].iov_len && left > 0) {
        ++at;
        skip = 0;
      }
    }
  }
  return {Result::kDone, taken};
}

void TlsSession::Shutdown() {
  if (!impl_->established || !impl_->error.ok()) return;
  ERR_clear_error();
  SSL_shutdown(impl_->ssl.get());
  ERR_clear_error();
}

const absl::Status& TlsSession::error() const {
  return impl_->error;
}
unsigned long TlsSession::error_code() const {
  return impl_->error_code;
}

bool TlsSession::ended_silently() const {
  return impl_->silent;
}

void TlsSession::Reject(std::string_view endpoint, std::string_view remote, const absl::Status& why) {
  AnswerPlainHttp();
  const std::string message = base::StrCat("rejected connection on ", endpoint, " endpoint");
  // A load balancer that only looks whether the port is open is no news.
  if (impl_->silent) {
    KVD_LOG(kDebug, message, {"remote-addr", remote}, {"server-name", ServerName()}, {"error", why});
  } else {
    KVD_LOG(kWarn, message, {"remote-addr", remote}, {"server-name", ServerName()}, {"error", why});
  }
}

void TlsSession::AnswerPlainHttp() {
  if (!impl_->plain_http) return;
  send(impl_->fd, kPlainAnswer.data(), kPlainAnswer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  shutdown(impl_->fd, SHUT_WR);
  // Closing with unread input would reset the connection and could take the answer with it.
  std::array<char, kRecordBytes> unread;
  recv(impl_->fd, unread.data(), unread.size(), MSG_DONTWAIT);
}

std::string TlsErrorText(unsigned long code) {
  const int reason = ERR_GET_REASON(code);
  if (ERR_GET_LIB(code) == ERR_LIB_SSL && reason >= SSL_AD_REASON_OFFSET &&
      reason < SSL_AD_REASON_OFFSET + 256) {
    return base::StrCat("remote error: tls: ", SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET));
  }
  const char* text = ERR_reason_error_string(code);
  return base::StrCat("tls: ", text == nullptr ? "the connection is broken" : text);
}

std::string TlsSession::ServerName() const {
  const char* name = SSL_get_servername(impl_->ssl.get(), TLSEXT_NAMETYPE_host_name);
  return name == nullptr ? "" : name;
}

TlsSession::Hosts TlsSession::PeerHosts() const {
  Hosts hosts;
  tls_internal::X509Ptr certificate(SSL_get1_peer_certificate(impl_->ssl.get()));
  if (certificate == nullptr) return hosts;
  auto* names = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate.get(), NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    const bool address = name->type == GEN_IPADD;
    if (!address && name->type != GEN_DNS) continue;
    const ASN1_STRING* value = address ? name->d.iPAddress : name->d.dNSName;
    const auto length = static_cast<size_t>(ASN1_STRING_length(value));
    const unsigned char* bytes = ASN1_STRING_get0_data(value);
    if (!address) {
      hosts.names.emplace_back(reinterpret_cast<const char*>(bytes), length);
      continue;
    }
    char text[INET6_ADDRSTRLEN];
    const int family = length == 4 ? AF_INET : AF_INET6;
    if (length != 4 && length != 16) continue;
    if (inet_ntop(family, bytes, text, sizeof text) != nullptr) hosts.addresses.emplace_back(text);
  }
  GENERAL_NAMES_free(names);
  return hosts;
}

}  // namespace kvd::net
