// What an HTTP/1.1 exchange consists of, for the peer port's handlers and for HttpClient.
//
// Thread-safety: plain values, thread-compatible.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kvd::net {

// Fields in the order of the wire. Names compare without regard to case.
class HttpFields {
 public:
  using Field = std::pair<std::string, std::string>;

  void Add(std::string_view name, std::string_view value) { fields_.emplace_back(name, value); }
  // The first field of that name; empty if there is none.
  std::string_view Get(std::string_view name) const;
  void Remove(std::string_view name);
  const std::vector<Field>& fields() const { return fields_; }

 private:
  std::vector<Field> fields_;
};

struct PeerRequest {
  std::string method = "GET";
  std::string path = "/";  // decoded, without the query
  std::string query;       // as on the wire, without '?'
  HttpFields headers;
  std::string body;
};

struct PeerResponse {
  int status = 200;
  HttpFields headers;
  std::string body;
};

}  // namespace kvd::net
