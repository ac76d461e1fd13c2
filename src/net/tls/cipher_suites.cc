// Go's names of cipher suites, which etcd's settings use, and OpenSSL's.

#include <iterator>

#include "base/strings.h"
#include "net/tls/tls_internal.h"

namespace kvd::net {
namespace {

struct Suite {
  std::string_view go;
  std::string_view openssl;  // empty: of TLS 1.3, where all are always on
  bool weak = false;
};

constexpr Suite kSuites[] = {
    {"TLS_AES_128_GCM_SHA256", ""},
    {"TLS_AES_256_GCM_SHA384", ""},
    {"TLS_CHACHA20_POLY1305_SHA256", ""},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"},
    {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"},
    {"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"},
    {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "ECDHE-ECDSA-AES128-SHA"},
    {"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "ECDHE-RSA-AES128-SHA"},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "ECDHE-ECDSA-AES256-SHA"},
    {"TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "ECDHE-RSA-AES256-SHA"},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "ECDHE-ECDSA-AES128-SHA256"},
    {"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", "ECDHE-RSA-AES128-SHA256"},
    {"TLS_RSA_WITH_AES_128_GCM_SHA256", "AES128-GCM-SHA256"},
    {"TLS_RSA_WITH_AES_256_GCM_SHA384", "AES256-GCM-SHA384"},
    {"TLS_RSA_WITH_AES_128_CBC_SHA", "AES128-SHA"},
    {"TLS_RSA_WITH_AES_256_CBC_SHA", "AES256-SHA"},
    {"TLS_RSA_WITH_AES_128_CBC_SHA256", "AES128-SHA256"},
    {"TLS_RSA_WITH_3DES_EDE_CBC_SHA", "", true},
    {"TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", "", true},
    {"TLS_RSA_WITH_RC4_128_SHA", "", true},
    {"TLS_ECDHE_RSA_WITH_RC4_128_SHA", "", true},
    {"TLS_ECDHE_ECDSA_WITH_RC4_128_SHA", "", true},
};

const Suite* Find(std::string_view name) {
  for (const Suite& suite : kSuites) {
    if (suite.go == name) return &suite;
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<tls_internal::CipherLists> tls_internal::ToCipherLists(absl::Span<const std::string> names) {
  CipherLists lists;
  for (const std::string& name : names) {
    const Suite* suite = Find(name);
    if (suite == nullptr) {
      return absl::InvalidArgumentError(base::StrCat("unexpected TLS cipher suite \"", name, "\""));
    }
    if (suite->weak) {
      return absl::InvalidArgumentError(
          base::StrCat("TLS cipher suite \"", name, "\" is too weak for this version of kvd"));
    }
    if (suite->openssl.empty()) continue;
    base::StrAppend(&lists.tls12, lists.tls12.empty() ? "" : ":", suite->openssl);
  }
  return lists;
}

absl::Status CheckTlsCipherSuites(absl::Span<const std::string> names) {
  return tls_internal::ToCipherLists(names).status();
}

}  // namespace kvd::net
