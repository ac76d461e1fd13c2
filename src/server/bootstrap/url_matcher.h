// Whether two lists of URLs mean the same sockets, by text or because their hosts have an address in common.
// Private to server/bootstrap.
//
// Thread-safety: thread-compatible; blocks on the resolver.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/bootstrap/bootstrap.h"

namespace kvd::server::bootstrap_internal {

class UrlMatcher {
 public:
  // Borrows `seams`.
  explicit UrlMatcher(const BootstrapSeams& seams) : seams_(seams) {}

  // Each of `a` has a partner of its own in `b`, and the other way round.
  bool Same(std::vector<std::string> a, std::vector<std::string> b);
  bool Same(const Url& a, const Url& b);
  // What the resolver said last, if it failed.
  const absl::Status& failure() const { return failure_; }

 private:
  const std::vector<std::string>& Addresses(const std::string& host);

  const BootstrapSeams& seams_;
  std::map<std::string, std::vector<std::string>> known_;
  absl::Status failure_;
};

}  // namespace kvd::server::bootstrap_internal
