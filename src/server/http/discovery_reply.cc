#include "server/http/discovery_reply.h"

#include <utility>

#include "base/log.h"
#include "base/strings.h"
#include "mvccpb/kv.pb.h"
#include "server/membership/json.h"

namespace kvd::server::discovery_internal {
namespace {

struct ErrorText {
  V2Error error;
  int status;
  std::string_view text;
};

constexpr ErrorText kErrors[] = {
    {V2Error::kKeyNotFound, 404, "Key not found"},
    {V2Error::kNotFile, 403, "Not a file"},
    {V2Error::kNodeExists, 412, "Key already exists"},
    {V2Error::kInvalidField, 400, "Invalid field"},
    {V2Error::kRaftInternal, 500, "Raft Internal Error"},
    {V2Error::kIndexCleared, 400, "The event in requested index is outdated and cleared"},
};

std::string Quoted(std::string_view text) {
  std::string out;
  json_internal::AppendString(&out, text);
  return out;
}

net::HttpResponse Reply(const Origin& origin, int status, std::string body) {
  net::HttpResponse response = EmptyReply(origin);
  response.status = status;
  response.body = net::Message(std::move(body));
  return response;
}

}  // namespace

net::HttpResponse EmptyReply(const Origin& origin) {
  net::HttpResponse response;
  response.headers.emplace_back("Content-Type", "application/json");
  response.headers.emplace_back("X-Etcd-Cluster-Id", base::HexId(origin.cluster_id));
  response.headers.emplace_back("X-Etcd-Index", base::StrCat(origin.index));
  return response;
}

net::HttpResponse ErrorReply(const Origin& origin, V2Error error, std::string_view cause) {
  for (const ErrorText& row : kErrors) {
    if (row.error != error) continue;
    return Reply(origin, row.status,
                 base::StrCat("{\"errorCode\":", static_cast<int>(error), ",\"message\":", Quoted(row.text),
                              ",\"cause\":", Quoted(cause), ",\"index\":", origin.index, "}\n"));
  }
  return Reply(origin, 500, "");
}

net::HttpResponse NodeReply(const Origin& origin, std::string_view action, std::string_view node) {
  return Reply(origin, action == "create" ? 201 : 200, NodeBody(action, node));
}

std::string NodeBody(std::string_view action, std::string_view node) {
  return base::StrCat("{\"action\":\"", action, "\",\"node\":", node, "}\n");
}

std::string NodeJson(std::string_view path, const mvccpb::KeyValue& kv, bool deleted) {
  return base::StrCat("{\"key\":", Quoted(path),
                      deleted ? "" : ",\"value\":", deleted ? "" : Quoted(kv.value()),
                      ",\"modifiedIndex\":", kv.mod_revision(),
                      ",\"createdIndex\":", deleted ? kv.mod_revision() : kv.create_revision(), "}");
}

std::string DirectoryJson(std::string_view path, std::string_view nodes, int64_t created) {
  return base::StrCat("{\"key\":", Quoted(path), ",\"dir\":true",
                      nodes.empty() ? "" : base::StrCat(",\"nodes\":[", nodes, "]"),
                      ",\"modifiedIndex\":", created, ",\"createdIndex\":", created, "}");
}

}  // namespace kvd::server::discovery_internal
