// Questions to the domain name system that the system's resolver interface has no good answer for: SRV
// records, and addresses from servers of the caller's choice. On c-ares.
//
// Thread-safety: thread-compatible; every call blocks until it is answered or has failed.
// Errors: kNotFound (no such name, or none of this type), kUnavailable (no server answers, or only with
// failures), kInvalidArgument (a name or a server's address that is none), kCancelled (interrupted).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace kvd::net {

struct SrvRecord {
  std::string target;  // without the final dot
  uint16_t port = 0;
  uint16_t priority = 0;
  uint16_t weight = 0;

  friend bool operator==(const SrvRecord&, const SrvRecord&) = default;
};

struct DnsOptions {
  // "address" or "address:port", asked instead of those in /etc/resolv.conf. /etc/hosts counts all the same.
  std::vector<std::string> servers;
  // A descriptor that, once readable, ends what waits with kCancelled; it is not read. -1: none.
  int interrupt_fd = -1;
};

class DnsClient {
 public:
  static absl::StatusOr<std::unique_ptr<DnsClient>> Create(const DnsOptions& options);
  virtual ~DnsClient() = default;

  // The records of "_service._proto.domain", by priority, then by name and port. Not empty.
  virtual absl::StatusOr<std::vector<SrvRecord>> Services(const std::string& name) = 0;
  // The addresses of a host as text, sorted, each once. Not empty.
  virtual absl::StatusOr<std::vector<std::string>> Addresses(const std::string& host) = 0;
};

}  // namespace kvd::net
