// What the sources of net/tls share: OpenSSL's objects with owners, and the contexts as they are now.
#pragma once

#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "net/tls/tls_context.h"

namespace kvd::net {
namespace tls_internal {

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using SslPtr = std::unique_ptr<SSL, Freer<SSL_free>>;
using X509Ptr = std::unique_ptr<X509, Freer<X509_free>>;
using CrlPtr = std::unique_ptr<X509_CRL, Freer<X509_CRL_free>>;
using BioPtr = std::unique_ptr<BIO, Freer<BIO_free_all>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;

// The first of OpenSSL's queued errors as text; the queue is empty afterwards.
std::string TakeSslError();

struct CipherLists {
  std::string tls12;  // OpenSSL's names; empty: none of the names given is for TLS 1.2
};
absl::StatusOr<CipherLists> ToCipherLists(absl::Span<const std::string> names);

// OpenSSL's callback of a server, for ALPN.
int SelectProtocol(SSL* ssl, const unsigned char** out, unsigned char* out_length,
                   const unsigned char* offered, unsigned offered_length, void*);

// A state of the files, as one handshake uses it.
struct Loaded {
  ~Loaded() { SSL_CTX_free(context); }

  SSL_CTX* context = nullptr;
  std::vector<CrlPtr> revoked;
};

}  // namespace tls_internal

struct TlsContext::Impl {
  enum class Side { kServer, kClient };

  explicit Impl(TlsOptions tls_options) : options(std::move(tls_options)) {}

  // The files as they are now, if they can be used.
  absl::StatusOr<std::shared_ptr<const tls_internal::Loaded>> Current(Side side);

  const TlsOptions options;

 private:
  struct FileState {
    bool there = false;
    dev_t device = 0;
    ino_t inode = 0;
    off_t size = 0;
    timespec modified{}, changed{};

    bool operator==(const FileState& other) const;
  };
  struct State {
    std::vector<FileState> files;  // when `loaded` was tried
    std::shared_ptr<const tls_internal::Loaded> loaded;
  };

  struct Pair {
    const std::string& cert;
    const std::string& key;
  };

  Pair OwnPair(Side side) const;
  std::vector<std::string> Files(Side side) const;
  static FileState Look(const std::string& path);
  absl::StatusOr<std::shared_ptr<const tls_internal::Loaded>> Load(Side side) const;
  absl::Status LoadTrust(Side side, SSL_CTX* context) const;
  absl::Status LoadOwn(Side side, SSL_CTX* context) const;
  absl::Status LoadRevoked(tls_internal::Loaded& loaded) const;

  std::mutex mutex_;
  std::optional<State> server_, client_;  // guarded by mutex_
};

}  // namespace kvd::net
