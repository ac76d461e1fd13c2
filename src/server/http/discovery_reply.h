// The answers of etcd's v2 keys API: {"action":…,"node":{…}} or {"errorCode":…}, with the headers that tell
// the index (ETCD: server/etcdserver/api/v2error and v2store of 3.4).
//
// Thread-safety: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "net/http_call.h"

namespace mvccpb {
class KeyValue;
}

namespace kvd::server::discovery_internal {

enum class V2Error {
  kKeyNotFound = 100,
  kNotFile = 102,
  kNodeExists = 105,
  kInvalidField = 209,
  kRaftInternal = 300,
  kIndexCleared = 401,
};

// Where one answer comes from.
struct Origin {
  uint64_t cluster_id = 0;
  int64_t index = 0;  // the store's revision
};

net::HttpResponse ErrorReply(const Origin& origin, V2Error error, std::string_view cause);
// `node` is one of the texts below; status 201 for "create", 200 for all else.
net::HttpResponse NodeReply(const Origin& origin, std::string_view action, std::string_view node);
// The headers of an answer whose body, a line of NodeBody, comes later.
net::HttpResponse EmptyReply(const Origin& origin);
std::string NodeBody(std::string_view action, std::string_view node);

// A key and its value, as {"key":…,"value":…,"modifiedIndex":…,"createdIndex":…}. Without a value: deleted.
std::string NodeJson(std::string_view path, const mvccpb::KeyValue& kv, bool deleted = false);
// A directory; `nodes` are texts of NodeJson, joined by commas.
std::string DirectoryJson(std::string_view path, std::string_view nodes, int64_t created);

}  // namespace kvd::server::discovery_internal
