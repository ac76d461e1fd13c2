// URLs as members listen on and advertise them: http, https, unix and unixs with a host and a port and
// nothing else. The rules and the texts of the errors are etcd's, since operators and scripts match on them.
//
// Thread-safety: values, thread-compatible.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace kvd::server {

struct Url {
  std::string scheme;  // "http", "https", "unix" or "unixs"
  std::string host;    // "host:port" with brackets around an IPv6 address; for unix sockets what follows "//"
  std::string path;    // only with unix and unixs

  std::string ToString() const;
  // The host without port and brackets, and the port. For http and https only.
  std::string Hostname() const;
  uint16_t Port() const;
  bool IsUnix() const { return scheme == "unix" || scheme == "unixs"; }
  bool IsSecure() const { return scheme == "https" || scheme == "unixs"; }

  friend bool operator==(const Url&, const Url&) = default;
};

using Urls = std::vector<Url>;  // sorted by their text
// A member's name and its URLs, as --initial-cluster gives them.
using UrlsMap = std::map<std::string, Urls>;

// One URL, surrounding blanks dropped. Errors: kInvalidArgument with etcd's text.
absl::StatusOr<Url> ParseUrl(std::string_view text);
// Several, sorted. Errors: kInvalidArgument; an empty list is one ("no valid URLs given").
absl::StatusOr<Urls> ParseUrls(absl::Span<const std::string> texts);
// "a,b,c", sorted, duplicates dropped. An empty text is an empty list.
absl::StatusOr<Urls> ParseUrlList(std::string_view text);
// "name=url,name=url2,other=url3"; a name that is repeated has several URLs.
absl::StatusOr<UrlsMap> ParseInitialCluster(std::string_view text);

std::vector<std::string> ToStrings(const Urls& urls);
// "a,b,c".
std::string Join(const Urls& urls);
// The form that ParseInitialCluster takes, sorted by its entries.
std::string ToString(const UrlsMap& map);

}  // namespace kvd::server
