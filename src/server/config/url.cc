#include "server/config/url.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/strings.h"

namespace kvd::server {
namespace {

// Splits "host:port"; the host of an IPv6 address stands in brackets.
bool SplitHostPort(std::string_view text, std::string* host, std::string* port) {
  size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return false;
  std::string_view h = text.substr(0, colon);
  if (!h.empty() && h.front() == '[') {
    if (h.back() != ']') return false;
    h = h.substr(1, h.size() - 2);
  } else if (h.find(':') != std::string_view::npos) {
    return false;
  }
  if (h.find_first_of("[]") != std::string_view::npos) return false;
  *host = std::string(h);
  *port = std::string(text.substr(colon + 1));
  return true;
}

absl::Status NotHostPort(std::string_view text) {
  return absl::InvalidArgumentError(base::StrCat("URL address does not have the form \"host:port\": ", text));
}

}  // namespace

std::string Url::ToString() const {
  return base::StrCat(scheme, "://", host, path);
}

std::string Url::Hostname() const {
  std::string name, port;
  return SplitHostPort(host, &name, &port) ? name : host;
}

uint16_t Url::Port() const {
  std::string name, port;
  uint32_t value = 0;
  if (!SplitHostPort(host, &name, &port) || !absl::SimpleAtoi(port, &value)) return 0;
  return static_cast<uint16_t>(value);
}

absl::StatusOr<Url> ParseUrl(std::string_view raw) {
  std::string_view text = base::FromAbsl(absl::StripAsciiWhitespace(base::ToAbsl(raw)));
  for (char c : text) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c)) || c == ' ') {
      return absl::InvalidArgumentError(base::StrCat("parse \"", text, "\": invalid character in URL"));
    }
  }
  size_t colon = text.find(':');
  std::string scheme;
  if (colon != std::string_view::npos) scheme = absl::AsciiStrToLower(base::ToAbsl(text.substr(0, colon)));
  if (scheme != "http" && scheme != "https" && scheme != "unix" && scheme != "unixs") {
    return absl::InvalidArgumentError(base::StrCat("URL scheme must be http, https, unix, or unixs: ", text));
  }
  Url url;
  url.scheme = scheme;
  std::string_view rest = text.substr(colon + 1);
  bool has_authority = rest.substr(0, 2) == "//";
  if (has_authority) rest.remove_prefix(2);
  if (url.IsUnix()) {
    size_t slash = rest.find('/');
    url.host = std::string(rest.substr(0, slash));
    if (slash != std::string_view::npos) url.path = std::string(rest.substr(slash));
    if (url.host.empty() && url.path.empty()) {
      return absl::InvalidArgumentError(base::StrCat("URL names no socket: ", text));
    }
    return url;
  }
  size_t end = rest.find_first_of("/?#");
  std::string_view authority = has_authority ? rest.substr(0, end) : std::string_view();
  std::string host, port;
  uint32_t number = 0;
  if (!SplitHostPort(authority, &host, &port)) return NotHostPort(text);
  if (!absl::SimpleAtoi(port, &number) || number > 65535 || !absl::ascii_isdigit(port[0])) {
    return NotHostPort(text);
  }
  if (authority.find('@') != std::string_view::npos) return NotHostPort(text);
  if (end != std::string_view::npos) {
    return absl::InvalidArgumentError(base::StrCat("URL must not contain a path: ", text));
  }
  url.host = std::string(authority);
  return url;
}

absl::StatusOr<Urls> ParseUrls(absl::Span<const std::string> texts) {
  if (texts.empty()) return absl::InvalidArgumentError("no valid URLs given");
  Urls urls;
  for (const std::string& text : texts) {
    auto url = ParseUrl(text);
    if (!url.ok()) return url.status();
    urls.push_back(*std::move(url));
  }
  std::sort(urls.begin(), urls.end(), [](const Url& a, const Url& b) { return a.ToString() < b.ToString(); });
  return urls;
}

absl::StatusOr<Urls> ParseUrlList(std::string_view text) {
  if (absl::StripAsciiWhitespace(base::ToAbsl(text)).empty()) return Urls();
  std::vector<std::string> parts = absl::StrSplit(base::ToAbsl(text), ',');
  auto urls = ParseUrls(parts);
  if (urls.ok()) urls->erase(std::unique(urls->begin(), urls->end()), urls->end());
  return urls;
}

absl::StatusOr<UrlsMap> ParseInitialCluster(std::string_view text) {
  std::map<std::string, std::vector<std::string>> texts;
  for (absl::string_view piece : absl::StrSplit(base::ToAbsl(text), ',')) {
    std::string_view entry = base::FromAbsl(piece);
    size_t equal = entry.find('=');
    std::string name(entry.substr(0, equal));
    if (name.empty()) continue;
    if (equal == std::string_view::npos || equal + 1 == entry.size()) {
      return absl::InvalidArgumentError(base::StrCat("empty URL given for \"", name, "\""));
    }
    texts[name].emplace_back(entry.substr(equal + 1));
  }
  UrlsMap map;
  for (const auto& [name, list] : texts) {
    auto urls = ParseUrls(list);
    if (!urls.ok()) return urls.status();
    map[name] = *std::move(urls);
  }
  return map;
}

std::vector<std::string> ToStrings(const Urls& urls) {
  std::vector<std::string> texts;
  texts.reserve(urls.size());
  for (const Url& url : urls) texts.push_back(url.ToString());
  return texts;
}

std::string Join(const Urls& urls) {
  return absl::StrJoin(ToStrings(urls), ",");
}

std::string ToString(const UrlsMap& map) {
  std::vector<std::string> entries;
  for (const auto& [name, urls] : map) {
    for (const Url& url : urls) entries.push_back(base::StrCat(name, "=", url.ToString()));
  }
  std::sort(entries.begin(), entries.end());
  return absl::StrJoin(entries, ",");
}

}  // namespace kvd::server
