// Versions of members and clusters: "3.7.1".
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace kvd::server {

struct Version {
  int64_t major = 0;
  int64_t minor = 0;
  int64_t patch = 0;

  std::string ToString() const;
  // The version a cluster of such members has: the patch level does not count ("3.7.0").
  Version Cluster() const { return {major, minor, 0}; }
  friend auto operator<=>(const Version&, const Version&) = default;
};

// What follows a '-' or a '+' ("3.6.0-rc.1") is dropped. Errors: kInvalidArgument.
absl::StatusOr<Version> ParseVersion(std::string_view text);

// The version of the API served here (server/config/config.h kEtcdVersion), and the version that a cluster
// has before its leader has decided one.
Version ServerVersion();
inline constexpr Version kMinClusterVersion{3, 0, 0};

}  // namespace kvd::server
