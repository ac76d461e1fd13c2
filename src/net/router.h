// Which handler answers what.
//
// Thread-safety: filled by one thread, then immutable.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/strings.h"
#include "net/grpc_call.h"
#include "net/http_call.h"

namespace kvd::net {

struct GrpcMethod {
  enum class Kind { kUnary, kServerStream, kBidi } kind;
  std::string name;  // "/package.Service/Method"
  UnaryHandler unary;
  ServerStreamHandler server_stream;
  BidiHandler bidi;
};

class Router {
 public:
  void AddGrpc(GrpcMethod method);
  void AddHttp(std::string_view method, std::string_view path, HttpHandler handler);

  // nullptr if there is none.
  const GrpcMethod* FindGrpc(std::string_view path) const {
    auto it = grpc_.find(base::ToAbsl(path));
    return it == grpc_.end() ? nullptr : it->second.get();
  }
  // The error text for a path that FindGrpc does not know.
  std::string UnknownMethod(std::string_view path) const;

  void SetHttpFilter(HttpFilter filter) { http_filter_ = std::move(filter); }
  // Null if there is none.
  const HttpFilter& http_filter() const { return http_filter_; }

  struct HttpMatch {
    const HttpHandler* handler = nullptr;
    std::string allow;  // with no handler: the methods the path takes; "" if the path is unknown
  };
  HttpMatch FindHttp(std::string_view method, std::string_view path) const;

 private:
  struct HttpRoute {
    std::string method;
    std::string path;
    HttpHandler handler;
  };

  absl::flat_hash_map<std::string, std::unique_ptr<GrpcMethod>> grpc_;
  absl::flat_hash_set<std::string> services_;
  HttpFilter http_filter_;
  std::vector<HttpRoute> http_;  // longest path first
};

}  // namespace kvd::net
