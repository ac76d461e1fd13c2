#include "server/http/discovery_service.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/log.h"
#include "base/random.h"
#include "base/strings.h"
#include "etcdserverpb/rpc.pb.h"
#include "net/grpc_server.h"
#include "server/http/discovery_reply.h"
#include "storage/store.h"

namespace kvd::server {
namespace {

using discovery_internal::DirectoryJson;
using discovery_internal::EmptyReply;
using discovery_internal::ErrorReply;
using discovery_internal::NodeBody;
using discovery_internal::NodeJson;
using discovery_internal::NodeReply;
using discovery_internal::Origin;
using discovery_internal::V2Error;

// Both the path in etcd's v2 keys API and the prefix of etcd's v3 discovery keys.
constexpr std::string_view kRegistry = "/_etcd/registry/";
constexpr std::string_view kPathPrefix = "/v2/keys/_etcd/registry/";
constexpr int64_t kDefaultSize = 3;
constexpr int64_t kMaxSize = 1000;
constexpr size_t kMaxTokenBytes = 128;
constexpr size_t kMaxIdBytes = 16;
constexpr size_t kMaxValueBytes = 4096;
// As etcd's v2 API: a wait without news ends after this time with an empty body.
constexpr base::Nanos kWaitLimit = std::chrono::minutes(5);
// How often a wait looks whether its client has gone.
constexpr base::Nanos kWaitTick = std::chrono::seconds(5);

void ReplyText(net::HttpCall& call, int status, std::string text) {
  net::HttpResponse response;
  response.status = status;
  response.headers.emplace_back("Content-Type", "text/plain; charset=utf-8");
  response.headers.emplace_back("X-Content-Type-Options", "nosniff");
  response.body = net::Message(std::move(text));
  call.Reply(std::move(response));
}

// One parameter, of the query or of a form's body.
std::string Parameter(const net::HttpRequest& request, std::string_view name) {
  std::vector<std::string> values = request.Query(name);
  if (values.empty()) {
    net::HttpRequest form;
    form.query = request.body;
    values = form.Query(name);
  }
  return values.empty() ? "" : values.front();
}

std::optional<int64_t> ReadSize(const std::string& text) {
  int64_t size = 0;
  if (!absl::SimpleAtoi(text, &size) || size < 1 || size > kMaxSize) return std::nullopt;
  return size;
}

// The revision that was read; 0: it cannot be.
int64_t ReadRange(const storage::Store& store, const storage::RangeArgs& args,
                  etcdserverpb::RangeResponse* out) {
  storage::OpResult result;
  store.Range(args, &result);
  return result.ok() && out->ParseFromString(result.body) ? result.revision : 0;
}

void AddAbsent(etcdserverpb::TxnRequest& txn, const std::string& key, bool absent) {
  etcdserverpb::Compare& compare = *txn.add_compare();
  compare.set_key(key);
  compare.set_target(etcdserverpb::Compare::CREATE);
  compare.set_result(absent ? etcdserverpb::Compare::EQUAL : etcdserverpb::Compare::GREATER);
  compare.set_create_revision(0);
}

}  // namespace

// What a path below the registry names.
struct DiscoveryEndpoints::Place {
  enum class Kind { kDirectory, kSize, kMember } kind = Kind::kDirectory;
  std::string token;
  std::string id;

  static std::optional<Place> Of(std::string_view path);

  std::string Directory() const { return base::StrCat(kRegistry, token); }
  std::string SizeKey() const { return base::StrCat(Directory(), "/_config/size"); }
  std::string MemberPrefix() const { return base::StrCat(Directory(), "/members/"); }
  std::string MemberEnd() const { return base::StrCat(Directory(), "/members0"); }
  // The key of a size or a member.
  std::string Key() const { return kind == Kind::kSize ? SizeKey() : MemberPrefix() + id; }
  // As the v2 protocol calls it.
  std::string Path() const {
    if (kind == Kind::kDirectory) return Directory();
    return kind == Kind::kSize ? SizeKey() : base::StrCat(Directory(), "/", id);
  }
};

std::optional<DiscoveryEndpoints::Place> DiscoveryEndpoints::Place::Of(std::string_view path) {
  path.remove_prefix(std::min(path.size(), kPathPrefix.size()));
  if (!path.empty() && path.back() == '/') path.remove_suffix(1);
  std::vector<std::string> parts = absl::StrSplit(base::ToAbsl(path), '/');
  auto plain = [](unsigned char c) { return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.'; };
  Place place;
  place.token = parts[0];
  if (place.token.empty() || place.token.size() > kMaxTokenBytes ||
      !std::all_of(place.token.begin(), place.token.end(), plain)) {
    return std::nullopt;
  }
  if (parts.size() == 1) return place;
  if (parts.size() == 3 && parts[1] == "_config" && parts[2] == "size") {
    place.kind = Kind::kSize;
    return place;
  }
  place.kind = Kind::kMember;
  place.id = parts[1];
  const bool id = parts.size() == 2 && !place.id.empty() && place.id.size() <= kMaxIdBytes &&
                  std::all_of(place.id.begin(), place.id.end(), [](unsigned char c) {
                    return absl::ascii_isxdigit(c) && !absl::ascii_isupper(c);
                  });
  if (!id) return std::nullopt;
  return place;
}

// A request that waits for a change: a watch of the hub whose first event is the answer.
//
// Thread: the call's I/O thread, but for the sink, which posts to it.
class DiscoveryEndpoints::Wait : public std::enable_shared_from_this<Wait> {
 public:
  Wait(Node& node, Call call, const Place& place) : node_(node), call_(std::move(call)), place_(place) {}

  // Events from `index` on; 0: from now on.
  void Start(int64_t index, const Origin& origin) {
    call_->StartBody(EmptyReply(origin));
    etcdserverpb::WatchRequest request;
    etcdserverpb::WatchCreateRequest& create = *request.mutable_create_request();
    const bool all = place_.kind == Place::Kind::kDirectory;
    create.set_key(all ? place_.MemberPrefix() : place_.Key());
    if (all) create.set_range_end(place_.MemberEnd());
    create.set_start_revision(index);
    stream_ = node_.watch_hub().Open(std::make_shared<Sink>(shared_from_this()));
    stream_->OnRequest(request.SerializeAsString());
    left_ = kWaitLimit;
    Tick();
  }

 private:
  class Sink final : public WatchSink {
   public:
    explicit Sink(std::shared_ptr<Wait> wait) : wait_(std::move(wait)) {}
    void Send(ResponseBatch responses) override {
      responses.ForEach([&](std::string_view bytes) {
        wait_->call_->executor().Post(
            [wait = wait_, response = std::string(bytes)] { wait->OnResponse(response); });
      });
    }
    size_t queued_bytes() override { return 0; }
    void Finish(absl::StatusCode, std::string_view) override {
      wait_->call_->executor().Post([wait = wait_] { wait->End(""); });
    }

   private:
    const std::shared_ptr<Wait> wait_;
  };

  void OnResponse(const std::string& bytes) {
    etcdserverpb::WatchResponse response;
    if (!response.ParseFromString(bytes) || response.canceled()) return End("");
    if (response.events().empty()) return;
    const mvccpb::Event& event = response.events(0);
    const bool deleted = event.type() == mvccpb::Event::DELETE;
    const bool created = event.kv().create_revision() == event.kv().mod_revision();
    const std::string& key = event.kv().key();
    const std::string path =
        place_.kind == Place::Kind::kDirectory
            ? base::StrCat(place_.Directory(), "/", key.substr(place_.MemberPrefix().size()))
            : place_.Path();
    End(NodeBody(deleted ? "delete" : created ? "create" : "set", NodeJson(path, event.kv(), deleted)));
  }

  void Tick() {
    if (stream_ == nullptr) return;
    if (call_->cancelled() || left_ <= base::Nanos(0)) return End("");
    left_ -= kWaitTick;
    call_->executor().PostAfter(kWaitTick, [self = shared_from_this()] { self->Tick(); });
  }

  void End(std::string body) {
    if (stream_ == nullptr) return;
    stream_->Close();
    stream_.reset();
    if (!body.empty()) call_->WriteBody(net::Message(std::move(body)));
    call_->EndBody();
  }

  Node& node_;
  const Call call_;
  const Place place_;
  std::unique_ptr<WatchStream> stream_;  // null once answered
  base::Nanos left_{0};
};

void DiscoveryEndpoints::Register(net::FrontDoor& door) {
  door.RegisterHttp("GET", "/new", [this](const Call& call) { New(call); });
  door.RegisterHttp("", kPathPrefix, [this](const Call& call) { Token(call); });
}

void DiscoveryEndpoints::New(const Call& call) {
  const std::vector<std::string> sizes = call->request().Query("size");
  const std::optional<int64_t> size = sizes.empty() ? kDefaultSize : ReadSize(sizes.front());
  if (!size) {
    return ReplyText(*call, 400, base::StrCat("size must be a number from 1 to ", kMaxSize, "\n"));
  }
  Place place;
  place.token = absl::StrFormat("%016x%016x", base::SystemSeed(), base::SystemSeed());
  etcdserverpb::PutRequest put;
  put.set_key(place.SizeKey());
  put.set_value(base::StrCat(*size));
  if (node_.WouldExceedQuota(put.ByteSizeLong())) {
    node_.RaiseNoSpace();
    return ReplyText(*call, 503, base::StrCat(ErrorText(Error::kNoSpace), "\n"));
  }
  const std::string url = base::StrCat(base_url_, kPathPrefix, place.token);
  node_.Propose(RequestField::kPut, put.SerializeAsString(), [call, url](ApplyOutcome&& outcome) {
    if (outcome.error != Error::kOk) {
      return ReplyText(*call, 503, base::StrCat(ErrorText(outcome.error), "\n"));
    }
    KVD_LOG(kInfo, "new discovery token", {"discovery-url", url});
    ReplyText(*call, 200, url);
  });
}

void DiscoveryEndpoints::Token(const Call& call) {
  const net::HttpRequest& request = call->request();
  const std::optional<Place> place = Place::Of(request.path);
  if (!place) {
    const Origin origin{node_.cluster_id(), node_.store().current_revision()};
    return call->Reply(ErrorReply(origin, V2Error::kKeyNotFound, request.path));
  }
  if (request.method == "GET") {
    const bool waits = Parameter(request, "wait") == "true";
    return waits ? AwaitChange(call, *place) : Get(call, *place);
  }
  if (request.method == "PUT") return Put(call, *place);
  if (request.method == "DELETE") return Delete(call, *place);
  net::HttpResponse response;
  response.status = 405;
  response.headers.emplace_back("Allow", "GET, PUT, DELETE");
  call->Reply(std::move(response));
}

void DiscoveryEndpoints::Get(const Call& call, const Place& place) {
  node_.LinearizableRead([this, call, place](Error error) {
    if (error != Error::kOk) {
      const Origin now{node_.cluster_id(), node_.store().current_revision()};
      return call->Reply(ErrorReply(now, V2Error::kRaftInternal, ErrorText(error)));
    }
    // The read itself is the work of the connection's thread.
    call->executor().Post([this, call, place] { Read(call, place); });
  });
}

void DiscoveryEndpoints::Read(const Call& call, const Place& place) {
  const bool directory = place.kind == Place::Kind::kDirectory;
  const std::string key = directory ? place.MemberPrefix() : place.Key();
  const std::string end = directory ? place.MemberEnd() : "";
  const std::string size_key = place.SizeKey();
  etcdserverpb::RangeResponse found;
  etcdserverpb::RangeResponse token;
  storage::RangeArgs args;
  args.key = key;
  args.range_end = end;
  const int64_t revision = ReadRange(node_.store(), args, &found);
  args.key = size_key;
  args.range_end = {};
  args.revision = revision;
  const Origin origin{node_.cluster_id(), revision};
  if (revision == 0 || ReadRange(node_.store(), args, &token) == 0) {
    return call->Reply(ErrorReply(origin, V2Error::kRaftInternal, "the store cannot be read"));
  }
  if (found.kvs().empty() && (!directory || token.kvs().empty())) {
    return call->Reply(ErrorReply(origin, V2Error::kKeyNotFound, place.Path()));
  }
  if (!directory) return call->Reply(NodeReply(origin, "get", NodeJson(place.Path(), found.kvs(0))));
  std::vector<std::string> nodes;
  for (const mvccpb::KeyValue& kv : found.kvs()) {
    nodes.push_back(
        NodeJson(base::StrCat(place.Directory(), "/", kv.key().substr(place.MemberPrefix().size())), kv));
  }
  const mvccpb::KeyValue& oldest = token.kvs().empty() ? found.kvs(0) : token.kvs(0);
  call->Reply(NodeReply(origin, "get",
                        DirectoryJson(place.Path(), absl::StrJoin(nodes, ","), oldest.create_revision())));
}

void DiscoveryEndpoints::AwaitChange(const Call& call, const Place& place) {
  const Origin origin{node_.cluster_id(), node_.store().current_revision()};
  const std::string text = Parameter(call->request(), "waitIndex");
  int64_t index = 0;
  if (!text.empty() && (!absl::SimpleAtoi(text, &index) || index < 0)) {
    return call->Reply(ErrorReply(origin, V2Error::kInvalidField, "invalid value for \"waitIndex\""));
  }
  if (index > 0 && index <= node_.store().compact_revision()) {
    return call->Reply(ErrorReply(origin, V2Error::kIndexCleared,
                                  base::StrCat("the requested history has been cleared [",
                                               node_.store().compact_revision(), "/", index, "]")));
  }
  std::make_shared<Wait>(node_, call, place)->Start(index, origin);
}

void DiscoveryEndpoints::Put(const Call& call, const Place& place) {
  const Origin now{node_.cluster_id(), node_.store().current_revision()};
  const std::string value = Parameter(call->request(), "value");
  const bool is_size = place.kind == Place::Kind::kSize;
  if (place.kind == Place::Kind::kDirectory) {
    return call->Reply(ErrorReply(now, V2Error::kNotFile, place.Path()));
  }
  if (Parameter(call->request(), "prevExist") != "false" && !is_size) {
    return call->Reply(ErrorReply(now, V2Error::kInvalidField, "a member registers with prevExist=false"));
  }
  if (value.size() > kMaxValueBytes || (is_size && !ReadSize(value))) {
    return call->Reply(ErrorReply(now, V2Error::kInvalidField, "invalid value for \"value\""));
  }
  etcdserverpb::TxnRequest txn;
  AddAbsent(txn, place.Key(), true);
  if (!is_size) AddAbsent(txn, place.SizeKey(), false);
  etcdserverpb::PutRequest& put = *txn.add_success()->mutable_request_put();
  put.set_key(place.Key());
  put.set_value(value);
  txn.add_failure()->mutable_request_range()->set_key(place.Key());
  if (node_.WouldExceedQuota(txn.ByteSizeLong())) {
    node_.RaiseNoSpace();
    return call->Reply(ErrorReply(now, V2Error::kRaftInternal, ErrorText(Error::kNoSpace)));
  }
  auto done = [call, place, value, cluster = node_.cluster_id()](ApplyOutcome&& outcome) {
    const Origin origin{cluster, outcome.revision};
    if (outcome.error != Error::kOk) {
      return call->Reply(ErrorReply(origin, V2Error::kRaftInternal, ErrorText(outcome.error)));
    }
    etcdserverpb::TxnResponse response;
    if (!response.ParseFromString(outcome.body)) {
      return call->Reply(ErrorReply(origin, V2Error::kRaftInternal, "the answer cannot be read"));
    }
    if (!response.succeeded()) {
      const bool exists = !response.responses(0).response_range().kvs().empty();
      const V2Error why = exists ? V2Error::kNodeExists : V2Error::kKeyNotFound;
      return call->Reply(ErrorReply(origin, why, exists ? place.Path() : place.Directory()));
    }
    mvccpb::KeyValue kv;
    kv.set_value(value);
    kv.set_create_revision(outcome.revision);
    kv.set_mod_revision(outcome.revision);
    call->Reply(NodeReply(origin, "create", NodeJson(place.Path(), kv)));
  };
  node_.Propose(RequestField::kTxn, txn.SerializeAsString(), std::move(done));
}

void DiscoveryEndpoints::Delete(const Call& call, const Place& place) {
  etcdserverpb::DeleteRangeRequest request;
  if (place.kind == Place::Kind::kDirectory) {
    if (Parameter(call->request(), "recursive") != "true") {
      const Origin now{node_.cluster_id(), node_.store().current_revision()};
      return call->Reply(ErrorReply(now, V2Error::kNotFile, place.Path()));
    }
    request.set_key(base::StrCat(place.Directory(), "/"));
    request.set_range_end(base::StrCat(place.Directory(), "0"));
  } else {
    request.set_key(place.Key());
  }
  auto done = [call, place, cluster = node_.cluster_id()](ApplyOutcome&& outcome) {
    const Origin origin{cluster, outcome.revision};
    etcdserverpb::DeleteRangeResponse response;
    if (outcome.error != Error::kOk || !response.ParseFromString(outcome.body)) {
      return call->Reply(ErrorReply(origin, V2Error::kRaftInternal, ErrorText(outcome.error)));
    }
    if (response.deleted() == 0) {
      return call->Reply(ErrorReply(origin, V2Error::kKeyNotFound, place.Path()));
    }
    mvccpb::KeyValue kv;
    kv.set_mod_revision(outcome.revision);
    call->Reply(NodeReply(origin, "delete", NodeJson(place.Path(), kv, /*deleted=*/true)));
  };
  node_.Propose(RequestField::kDeleteRange, request.SerializeAsString(), std::move(done));
}

}  // namespace kvd::server
