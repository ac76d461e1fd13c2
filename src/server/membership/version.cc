#include "server/membership/version.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/check.h"
#include "base/strings.h"
#include "server/config/config.h"

namespace kvd::server {

std::string Version::ToString() const {
  return base::StrCat(major, ".", minor, ".", patch);
}

absl::StatusOr<Version> ParseVersion(std::string_view text) {
  auto bad = [text] { return absl::InvalidArgumentError(base::StrCat(text, " is not a version")); };
  std::string_view plain = text.substr(0, text.find_first_of("-+"));
  std::vector<std::string> parts = absl::StrSplit(base::ToAbsl(plain), '.');
  if (parts.size() != 3) return bad();
  int64_t numbers[3];
  for (size_t i = 0; i < 3; ++i) {
    const bool digits = !parts[i].empty() && parts[i].find_first_not_of("0123456789") == std::string::npos;
    if (!digits || !absl::SimpleAtoi(parts[i], &numbers[i])) return bad();
  }
  return Version{numbers[0], numbers[1], numbers[2]};
}

Version ServerVersion() {
  auto version = ParseVersion(kEtcdVersion);
  KVD_CHECK(version.ok(), "the served version is a version");
  return *version;
}

}  // namespace kvd::server
