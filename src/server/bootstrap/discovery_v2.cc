// The v2 protocol: a directory of etcd's v2 keys API, or a service that looks like one.

#include <boost/property_tree/ptree.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "base/strings.h"
#include "net/peer/http_client.h"
#include "net/startup/blocking_loop.h"
#include "server/bootstrap/discovery.h"
#include "server/membership/json.h"

namespace kvd::server {
namespace {

using boost::property_tree::ptree;

constexpr Duration kDialLimit = std::chrono::seconds(5);
constexpr Duration kRequestLimit = std::chrono::seconds(5);
constexpr Duration kWatchLimit = std::chrono::minutes(1);
constexpr size_t kMaxReplyBytes = 1 << 20;
constexpr int kMaxRedirects = 10;

// Of etcd's v2 keys API.
constexpr int kKeyNotFound = 100;
constexpr int kNodeExists = 105;
constexpr int kIndexCleared = 401;

absl::Status BadEndpoint(std::string_view why) {
  return absl::FailedPreconditionError(base::StrCat("discovery: bad discovery endpoint (", why, ")"));
}

// application/x-www-form-urlencoded.
std::string FormEncode(std::string_view text) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (absl::ascii_isalnum(byte) || c == '-' || c == '_' || c == '.' || c == '~') {
      out += c;
    } else {
      out += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return out;
}

std::string BaseName(const std::string& key) {
  return key.substr(key.rfind('/') + 1);
}

struct Answer {
  uint64_t index = 0;
  ptree body;
};

class V2Discovery final : public DiscoveryService {
 public:
  V2Discovery(const Config& config, net::BlockingLoop& loop, DiscoveryTlsPtr tls)
      : url_(config.discovery_url), loop_(loop), tls_(std::move(tls)) {
    const size_t path = url_.find('/', url_.find("://") + 3);
    host_ = url_.substr(0, path);
    path_ = url_.substr(path);
    while (absl::EndsWith(path_, "/")) path_.pop_back();
    if (config.discovery_proxy.empty()) return;
    proxy_ = absl::StrContains(config.discovery_proxy, "://")
                 ? config.discovery_proxy
                 : base::StrCat("http://", config.discovery_proxy);
  }

  std::string Name() const override { return url_; }
  bool Reclaims() const override { return false; }

  absl::StatusOr<std::string> Size() override {
    auto answer = Ask("GET", "/_config/size", "quorum=false&recursive=false&sorted=false", "", kRequestLimit);
    if (!answer.ok()) return answer.status();
    auto value = answer->body.get_optional<std::string>("node.value");
    if (!value) return BadEndpoint("its answer has no size");
    return *value;
  }

  absl::StatusOr<Listing> List() override {
    auto answer = Ask("GET", "", "quorum=false&recursive=false&sorted=false", "", kRequestLimit);
    if (!answer.ok()) return answer.status();
    Listing listing;
    listing.index = answer->index;
    auto nodes = answer->body.get_child_optional("node.nodes");
    if (!nodes) return listing;  // nobody has registered
    for (const auto& [name, node] : *nodes) {
      Entry entry{BaseName(node.get<std::string>("key", "")), node.get<std::string>("value", ""), 0};
      if (entry.id == "_config") continue;
      if (!absl::SimpleAtoi(node.get<std::string>("createdIndex", ""), &entry.created)) {
        return BadEndpoint("its list has a member without createdIndex");
      }
      listing.entries.push_back(std::move(entry));
    }
    return listing;
  }

  absl::Status Register(const std::string& id, const std::string& value) override {
    auto answer = Ask("PUT", base::StrCat("/", id), "prevExist=false",
                      base::StrCat("value=", FormEncode(value)), kRequestLimit);
    return answer.status();
  }

  absl::Status AwaitChange(uint64_t index) override {
    const std::string query = base::StrCat("recursive=true&wait=true&waitIndex=", index + 1);
    auto answer = Ask("GET", "", query, "", kWatchLimit);
    // Nothing for a while, or more than the service remembers: the list tells.
    if (absl::IsDeadlineExceeded(answer.status()) || absl::IsOutOfRange(answer.status())) {
      return absl::OkStatus();
    }
    return answer.status();
  }

 private:
  absl::StatusOr<Answer> Ask(const std::string& method, const std::string& below, const std::string& query,
                             const std::string& form, Duration limit);
  absl::StatusOr<net::PeerResponse> Send(const net::PeerRequest& request, Duration limit);
  absl::StatusOr<Answer> Read(const net::PeerResponse& response, bool may_be_empty);

  const std::string url_;
  net::BlockingLoop& loop_;
  const DiscoveryTlsPtr tls_;
  std::string host_;   // "http://host:port"
  std::string path_;   // "/token"
  std::string proxy_;  // empty: none
};

// Follows redirections. The time limit of a request that is no long poll counts as a lost connection.
absl::StatusOr<net::PeerResponse> V2Discovery::Send(const net::PeerRequest& request, Duration limit) {
  std::string host = host_;
  net::PeerRequest next = request;
  for (int hop = 0; hop <= kMaxRedirects; ++hop) {
    net::PeerRequest sent = next;
    if (!proxy_.empty()) sent.path = base::StrCat(host, next.path);
    auto response =
        loop_.Http(proxy_.empty() ? host : proxy_, sent,
                   {.connect_timeout = kDialLimit, .timeout = limit, .max_body_bytes = kMaxReplyBytes}, tls_);
    if (!response.ok()) return response;
    if (response->status / 100 != 3) return response;
    const std::string location(response->headers.Get("Location"));
    const size_t path = location.find('/', location.find("://") + 3);
    const bool secure = absl::StartsWith(location, "https://");
    const bool known = absl::StartsWith(location, "http://") || (secure && proxy_.empty());
    // Once under TLS, always under TLS.
    const bool worse = absl::StartsWith(host, "https://") && !secure;
    if (!known || worse || path == std::string::npos) {
      return BadEndpoint(base::StrCat("it redirects to \"", location, "\""));
    }
    host = location.substr(0, path);
    const size_t question = std::min(location.find('?'), location.size());
    next.path = location.substr(path, question - path);
    if (question < location.size()) next.query = location.substr(question + 1);
  }
  return BadEndpoint("too many redirects");
}

absl::StatusOr<Answer> V2Discovery::Ask(const std::string& method, const std::string& below,
                                        const std::string& query, const std::string& form, Duration limit) {
  net::PeerRequest request;
  request.method = method;
  request.path = base::StrCat(path_, below);
  request.query = query;
  request.body = form;
  if (!form.empty()) request.headers.Add("Content-Type", "application/x-www-form-urlencoded");
  auto response = Send(request, limit);
  const bool waits = limit == kWatchLimit;
  if (absl::IsDeadlineExceeded(response.status()) && !waits) {
    return absl::UnavailableError(response.status().message());
  }
  if (absl::IsInvalidArgument(response.status()))
    return BadEndpoint(base::FromAbsl(response.status().message()));
  if (absl::IsResourceExhausted(response.status())) return BadEndpoint("its answer is too large");
  if (!response.ok()) return response.status();
  return Read(*response, waits);
}

absl::StatusOr<Answer> V2Discovery::Read(const net::PeerResponse& response, bool may_be_empty) {
  if (response.status / 100 == 5) {
    return absl::UnavailableError(base::StrCat("HTTP status ", response.status));
  }
  const bool good = response.status == 200 || response.status == 201;
  // A service ends a long poll that has nothing to say with an empty body.
  if (good && may_be_empty && response.body.empty()) return Answer();
  auto json = json_internal::Parse(response.body);
  if (!json.ok())
    return BadEndpoint(base::StrCat("HTTP status ", response.status, ", and the body is no JSON"));
  if (!good) {
    const std::string text = json->get<std::string>("message", "no reason given");
    const std::string message = base::StrCat("discovery: ", text, " (", url_, ")");
    switch (json->get<int>("errorCode", 0)) {
      case kKeyNotFound:
        return absl::NotFoundError(message);
      case kNodeExists:
        return absl::AlreadyExistsError(message);
      case kIndexCleared:
        return absl::OutOfRangeError(message);
      default:
        return absl::FailedPreconditionError(message);
    }
  }
  if (!json->get_child_optional("node")) return BadEndpoint("its answer is not of the v2 keys API");
  Answer answer{0, *std::move(json)};
  const std::string index(response.headers.Get("X-Etcd-Index"));
  if (!index.empty() && !absl::SimpleAtoi(index, &answer.index))
    return BadEndpoint("X-Etcd-Index is no number");
  return answer;
}

}  // namespace

std::unique_ptr<DiscoveryService> NewV2Discovery(const Config& config, net::BlockingLoop& loop,
                                                 DiscoveryTlsPtr tls) {
  return std::make_unique<V2Discovery>(config, loop, std::move(tls));
}

}  // namespace kvd::server
