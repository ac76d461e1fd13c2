// One TLS connection over a socket that does not block: the bytes inside it. Where it says that it wants the
// socket to be readable or writable, the same call is to be made again once that is so.
//
// Private to the room. Thread-safety: thread-compatible. Ownership: the socket is the caller's, and outlives
// this.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "net/tls/tls_context.h"

namespace kvd::net {

class TlsSession {
 public:
  // What ALPN agrees on. kNone: it is not used.
  enum class Protocols { kNone, kHttp1, kHttp2, kHttp1AndHttp2 };

  struct Result {
    enum Kind { kDone, kWantRead, kWantWrite, kEnd, kFailed } kind;  // kEnd: the peer has closed in order
    size_t bytes = 0;  // with kDone of Read and Write: at least 1
  };

  // For a socket that was accepted. Errors: kFailedPrecondition without a certificate.
  static absl::StatusOr<std::unique_ptr<TlsSession>> Accept(const TlsContext& context, int fd,
                                                            Protocols protocols);
  // For one that has connected to `host`, a name or an address.
  static absl::StatusOr<std::unique_ptr<TlsSession>> Connect(const TlsContext& context, int fd,
                                                             const std::string& host, Protocols protocols);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // Before anything else, until kDone.
  Result Handshake();
  // Fills `data` as far as there is input: with fewer bytes than `size`, the next call finds none.
  Result Read(char* data, size_t size);
  // With kWantRead or kWantWrite, the next call must bring the same bytes again, at the front.
  Result Write(const iovec* ranges, int count);
  // Tells the peer that no more comes, as far as the socket takes it now.
  void Shutdown();

  // Why something has failed, as a text and as OpenSSL's code (0: not OpenSSL's).
  const absl::Status& error() const;
  unsigned long error_code() const;
  // The handshake ended because the peer went away without a word.
  bool ended_silently() const;
  // If what came first is no TLS but a request in plaintext: answers it as far as the socket takes it now.
  void AnswerPlainHttp();
  // That, and a line in the log: why the connection of `remote` to the "client" or "peer" endpoint is
  // refused.
  void Reject(std::string_view endpoint, std::string_view remote, const absl::Status& why);

  // What the certificate of the peer is for; all empty without one.
  struct Hosts {
    std::vector<std::string> addresses, names;
  };
  Hosts PeerHosts() const;

 private:
  struct Impl;
  explicit TlsSession(std::unique_ptr<Impl> impl);

  // The name that the peer has asked for.
  std::string ServerName() const;

  const std::unique_ptr<Impl> impl_;
};

// The text of one of OpenSSL's error codes.
std::string TlsErrorText(unsigned long code);

}  // namespace kvd::net
