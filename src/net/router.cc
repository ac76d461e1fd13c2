#include "net/router.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/strings.h"

namespace kvd::net {

void Router::AddGrpc(GrpcMethod method) {
  size_t slash = method.name.rfind('/');
  KVD_CHECK(method.name.size() > 2 && method.name[0] == '/' && slash > 0,
            "a method is /package.Service/Method");
  services_.insert(method.name.substr(1, slash - 1));
  std::string name = method.name;
  bool added = grpc_.emplace(std::move(name), std::make_unique<GrpcMethod>(std::move(method))).second;
  KVD_CHECK(added, "a method is registered once");
}

void Router::AddHttp(std::string_view method, std::string_view path, HttpHandler handler) {
  KVD_CHECK(!path.empty() && path[0] == '/', "an HTTP path starts with /");
  auto place = std::find_if(http_.begin(), http_.end(),
                            [&](const HttpRoute& route) { return route.path.size() < path.size(); });
  http_.insert(place, HttpRoute{std::string(method), std::string(path), std::move(handler)});
}

std::string Router::UnknownMethod(std::string_view path) const {
  if (!path.empty() && path[0] == '/') path.remove_prefix(1);
  size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return base::StrCat("malformed method name: \"", path, "\"");
  std::string_view service = path.substr(0, slash);
  std::string_view method = path.substr(slash + 1);
  if (!services_.contains(base::ToAbsl(service))) return base::StrCat("unknown service ", service);
  return base::StrCat("unknown method ", method, " for service ", service);
}

Router::HttpMatch Router::FindHttp(std::string_view method, std::string_view path) const {
  HttpMatch match;
  std::string_view matched;  // the path of the longest match; only its methods count
  for (const HttpRoute& route : http_) {
    if (!matched.empty() && route.path != matched) break;
    bool below = route.path.back() == '/' && path.substr(0, route.path.size()) == route.path;
    if (!below && path != route.path) continue;
    matched = route.path;
    if (route.method.empty() || route.method == method || (method == "HEAD" && route.method == "GET")) {
      match.handler = &route.handler;
      return match;
    }
    base::StrAppend(&match.allow, match.allow.empty() ? "" : ", ", route.method);
  }
  return match;
}

}  // namespace kvd::net
