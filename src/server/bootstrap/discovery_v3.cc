// The v3 protocol: keys of an etcd or kvd cluster, over gRPC.

#include <utility>

#include "absl/strings/match.h"
#include "base/strings.h"
#include "etcdserverpb/rpc.pb.h"
#include "net/startup/blocking_loop.h"
#include "net/startup/grpc_connection.h"
#include "server/bootstrap/discovery.h"

namespace kvd::server {
namespace {

using net::GrpcConnection;

constexpr Duration kWatchLimit = std::chrono::minutes(1);
// More pings than one in ten seconds make some servers send a client away; gRPC for Go has the same floor.
constexpr Duration kMinKeepalive = std::chrono::seconds(10);

class V3Discovery final : public DiscoveryService {
 public:
  V3Discovery(const Config& config, net::BlockingLoop& loop, DiscoveryTlsPtr tls)
      : config_(config.discovery),
        loop_(loop),
        tls_(std::move(tls)),
        size_key_(base::StrCat("/_etcd/registry/", config_.token, "/_config/size")),
        members_(base::StrCat("/_etcd/registry/", config_.token, "/members/")),
        members_end_(base::StrCat("/_etcd/registry/", config_.token, "/members0")) {}

  std::string Name() const override {
    return base::StrCat(Url(endpoint_), "/_etcd/registry/", config_.token);
  }
  bool Reclaims() const override { return true; }

  absl::StatusOr<std::string> Size() override;
  absl::StatusOr<Listing> List() override;
  absl::Status Register(const std::string& id, const std::string& value) override;
  absl::Status AwaitChange(uint64_t index) override;

 private:
  std::string Url(size_t endpoint) const {
    const std::string& text = config_.endpoints[endpoint];
    if (absl::StrContains(text, "://")) return text;
    const bool secure = !config_.cacert.empty() || !config_.cert.empty() || !config_.insecure_transport;
    return base::StrCat(secure ? "https://" : "http://", text);
  }
  // Connects to the first endpoint that can be reached, from the present one on, and logs in.
  absl::Status Connect();
  absl::Status LogIn();
  template <typename Response>
  absl::StatusOr<Response> Call(const char* method, const google::protobuf::MessageLite& request);
  // What a failed call means for the algorithm; drops the connection if it is worth another one.
  absl::Status Failed(const absl::Status& status);

  const DiscoveryConfig& config_;
  net::BlockingLoop& loop_;
  const DiscoveryTlsPtr tls_;
  const std::string size_key_, members_, members_end_;
  size_t endpoint_ = 0;
  std::unique_ptr<GrpcConnection> connection_;
  GrpcConnection::Metadata metadata_;
};

absl::Status V3Discovery::Failed(const absl::Status& status) {
  if (status.ok() || absl::IsCancelled(status)) return status;
  connection_.reset();
  if (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status)) {
    const std::string text = base::StrCat(Url(endpoint_), ": ", status.message());
    endpoint_ = (endpoint_ + 1) % config_.endpoints.size();
    return absl::UnavailableError(text);
  }
  return absl::FailedPreconditionError(base::StrCat("discovery: ", Url(endpoint_), ": ", status.message()));
}

absl::Status V3Discovery::Connect() {
  if (connection_ != nullptr) return absl::OkStatus();
  GrpcConnection::Options options;
  options.tls = tls_;
  options.dial_timeout = config_.dial_timeout;
  options.keepalive_time = std::max(config_.keepalive_time, kMinKeepalive);
  options.keepalive_timeout = config_.keepalive_timeout;
  absl::Status last;
  for (size_t i = 0; i < config_.endpoints.size(); ++i) {
    auto connection = GrpcConnection::Connect(loop_, Url(endpoint_), options);
    if (connection.ok()) {
      connection_ = *std::move(connection);
      return LogIn();
    }
    if (absl::IsCancelled(connection.status())) return connection.status();
    last = connection.status();
    endpoint_ = (endpoint_ + 1) % config_.endpoints.size();
  }
  return absl::UnavailableError(last.message());
}

absl::Status V3Discovery::LogIn() {
  metadata_.clear();
  if (config_.user.empty()) return absl::OkStatus();
  etcdserverpb::AuthenticateRequest request;
  const size_t colon = config_.user.find(':');
  const bool both = config_.password.empty() && colon != std::string::npos;
  request.set_name(both ? config_.user.substr(0, colon) : config_.user);
  request.set_password(both ? config_.user.substr(colon + 1) : config_.password);
  auto answer = connection_->Unary("/etcdserverpb.Auth/Authenticate", {}, request.SerializeAsString(),
                                   config_.request_timeout);
  if (!answer.ok()) {
    // etcd's client goes on without a token where users are not in force.
    if (absl::StrContains(answer.status().message(), "authentication is not enabled"))
      return absl::OkStatus();
    return Failed(answer.status());
  }
  etcdserverpb::AuthenticateResponse response;
  if (!response.ParseFromString(*answer)) {
    return Failed(absl::InternalError("its answer is no AuthenticateResponse"));
  }
  metadata_.emplace_back("token", response.token());
  return absl::OkStatus();
}

template <typename Response>
absl::StatusOr<Response> V3Discovery::Call(const char* method, const google::protobuf::MessageLite& request) {
  if (absl::Status connected = Connect(); !connected.ok()) return connected;
  auto answer = connection_->Unary(method, metadata_, request.SerializeAsString(), config_.request_timeout);
  if (!answer.ok()) return Failed(answer.status());
  Response response;
  if (!response.ParseFromString(*answer)) return Failed(absl::InternalError("its answer is no such message"));
  return response;
}

absl::StatusOr<std::string> V3Discovery::Size() {
  etcdserverpb::RangeRequest request;
  request.set_key(size_key_);
  auto response = Call<etcdserverpb::RangeResponse>("/etcdserverpb.KV/Range", request);
  if (!response.ok()) return response.status();
  if (response->kvs().empty()) return absl::NotFoundError(size_key_);
  return response->kvs(0).value();
}

absl::StatusOr<DiscoveryService::Listing> V3Discovery::List() {
  etcdserverpb::RangeRequest request;
  request.set_key(members_);
  request.set_range_end(members_end_);
  auto response = Call<etcdserverpb::RangeResponse>("/etcdserverpb.KV/Range", request);
  if (!response.ok()) return response.status();
  Listing listing;
  listing.index = static_cast<uint64_t>(response->header().revision());
  for (const auto& kv : response->kvs()) {
    if (!absl::StartsWith(kv.key(), members_)) {
      return Failed(absl::InternalError("it answers with keys that were not asked for"));
    }
    listing.entries.push_back(
        {kv.key().substr(members_.size()), kv.value(), static_cast<uint64_t>(kv.create_revision())});
  }
  return listing;
}

absl::Status V3Discovery::Register(const std::string& id, const std::string& value) {
  etcdserverpb::TxnRequest request;
  etcdserverpb::Compare& absent = *request.add_compare();
  absent.set_key(base::StrCat(members_, id));
  absent.set_target(etcdserverpb::Compare::CREATE);
  absent.set_result(etcdserverpb::Compare::EQUAL);
  absent.set_create_revision(0);
  etcdserverpb::PutRequest& put = *request.add_success()->mutable_request_put();
  put.set_key(absent.key());
  put.set_value(value);
  auto response = Call<etcdserverpb::TxnResponse>("/etcdserverpb.KV/Txn", request);
  if (!response.ok()) return response.status();
  return response->succeeded() ? absl::OkStatus() : absl::AlreadyExistsError(absent.key());
}

absl::Status V3Discovery::AwaitChange(uint64_t index) {
  if (absl::Status connected = Connect(); !connected.ok()) return connected;
  etcdserverpb::WatchRequest request;
  etcdserverpb::WatchCreateRequest& create = *request.mutable_create_request();
  create.set_key(members_);
  create.set_range_end(members_end_);
  create.set_start_revision(static_cast<int64_t>(index) + 1);
  absl::Status status = connection_->Stream(
      "/etcdserverpb.Watch/Watch", metadata_, request.SerializeAsString(), kWatchLimit,
      [](std::string_view message) {
        etcdserverpb::WatchResponse response;
        // A watch that the server cancels (its past is compacted) leaves the list to tell.
        return response.ParseFromArray(message.data(), static_cast<int>(message.size())) &&
               response.events().empty() && !response.canceled();
      });
  return absl::IsDeadlineExceeded(status) ? absl::OkStatus() : Failed(status);
}

}  // namespace

std::unique_ptr<DiscoveryService> NewV3Discovery(const Config& config, net::BlockingLoop& loop,
                                                 DiscoveryTlsPtr tls) {
  return std::make_unique<V3Discovery>(config, loop, std::move(tls));
}

}  // namespace kvd::server
