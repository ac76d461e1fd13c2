#include "server/bootstrap/url_matcher.h"

#include <algorithm>

#include "absl/strings/match.h"

namespace kvd::server::bootstrap_internal {

const std::vector<std::string>& UrlMatcher::Addresses(const std::string& host) {
  auto known = known_.find(host);
  if (known != known_.end()) return known->second;
  auto addresses = seams_.resolve(host);
  if (!addresses.ok()) failure_ = addresses.status();
  return known_[host] = addresses.ok() ? *std::move(addresses) : std::vector<std::string>();
}

bool UrlMatcher::Same(const Url& a, const Url& b) {
  if (a == b) return true;
  if (a.IsUnix() || b.IsUnix() || a.scheme != b.scheme || a.Port() != b.Port()) return false;
  const std::vector<std::string> of_b = Addresses(b.Hostname());
  for (const std::string& address : Addresses(a.Hostname())) {
    if (std::find(of_b.begin(), of_b.end(), address) != of_b.end()) return true;
  }
  return false;
}

bool UrlMatcher::Same(std::vector<std::string> a, std::vector<std::string> b) {
  if (a.size() != b.size()) return false;
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  if (a == b) return true;
  for (const std::string& text : a) {
    auto url = ParseUrl(text);
    auto partner = std::find_if(b.begin(), b.end(), [&](const std::string& other) {
      auto candidate = ParseUrl(other);
      return text == other || (url.ok() && candidate.ok() && Same(*url, *candidate));
    });
    if (partner == b.end()) return false;
    b.erase(partner);
  }
  return true;
}

}  // namespace kvd::server::bootstrap_internal
