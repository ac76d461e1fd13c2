// etcdserverpb.Lease.

#include <deque>
#include <limits>
#include <utility>

#include "etcdserverpb/rpc.pb.h"
#include "net/grpc_server.h"
#include "server/api/leader_guard.h"
#include "server/api/services.h"
#include "storage/store.h"

namespace kvd::server {
namespace {

constexpr uint64_t kLeaseCost = 64;  // of a grant, for the quota

// One LeaseKeepAlive stream: renewals are answered in the order they came in.
class KeepAlive final : public net::StreamHandler, public std::enable_shared_from_this<KeepAlive> {
 public:
  KeepAlive(Node& node, std::shared_ptr<net::StreamCall> call) : node_(node), call_(std::move(call)) {}

  void OnMessage(std::string_view message) override {
    etcdserverpb::LeaseKeepAliveRequest request;
    if (!Parse(message, &request)) {
      call_->Finish(net::StatusCode::kInternal, "grpc: error unmarshalling request");
      return;
    }
    waiting_.push_back(request.id());
    if (waiting_.size() == 1) RenewFirst();
    if (waiting_.size() >= kMaxWaiting) call_->PauseReading();
  }
  void OnHalfClose() override {
    half_closed_ = true;
    if (waiting_.empty()) call_->Finish(net::StatusCode::kOk, "");
  }
  void OnClosed() override { closed_ = true; }

 private:
  static constexpr size_t kMaxWaiting = 1024;

  void RenewFirst() {
    node_.RenewLease(waiting_.front(), [self = shared_from_this()](Error error, int64_t ttl) {
      self->call_->executor().Post([self, error, ttl] { self->Answer(error, ttl); });
    });
  }
  void Answer(Error error, int64_t ttl) {
    if (closed_) return;
    if (error != Error::kOk && error != Error::kLeaseNotFound) return Finish(*call_, error);
    // A lease that is not there (any more) is told by a TTL of 0.
    std::string body;
    AppendInt64Field(body, 2, waiting_.front());
    AppendInt64Field(body, 3, error == Error::kOk ? ttl : 0);
    call_->Write(WithHeader(node_.Header(node_.store().current_revision()), std::move(body)));
    waiting_.pop_front();
    if (!waiting_.empty()) {
      if (waiting_.size() == kMaxWaiting / 2) call_->ResumeReading();
      RenewFirst();
    } else if (half_closed_) {
      call_->Finish(net::StatusCode::kOk, "");
    }
  }

  Node& node_;
  std::shared_ptr<net::StreamCall> call_;
  std::deque<int64_t> waiting_;  // the first is being renewed
  bool half_closed_ = false;
  bool closed_ = false;
};

}  // namespace

void Services::RegisterLease(net::FrontDoor& door) {
  door.RegisterUnary("/etcdserverpb.Lease/LeaseGrant",
                     [this](net::UnaryCall call) { LeaseGrant(std::move(call)); });
  door.RegisterUnary("/etcdserverpb.Lease/LeaseRevoke",
                     [this](net::UnaryCall call) { LeaseRevoke(std::move(call)); });
  door.RegisterUnary("/etcdserverpb.Lease/LeaseTimeToLive",
                     [this](net::UnaryCall call) { LeaseTimeToLive(std::move(call)); });
  door.RegisterUnary("/etcdserverpb.Lease/LeaseLeases",
                     [this](net::UnaryCall call) { LeaseLeases(std::move(call)); });
  door.RegisterBidi("/etcdserverpb.Lease/LeaseKeepAlive",
                    [this](std::shared_ptr<net::StreamCall> call) -> std::shared_ptr<net::StreamHandler> {
                      if (Error error = AdmitStream(*call); error != Error::kOk) {
                        Finish(*call, error);
                        return nullptr;
                      }
                      if (RequiresLeader(*call)) guard_->Add(call);
                      return std::make_shared<KeepAlive>(node_, call);
                    });
}

void Services::LeaseGrant(net::UnaryCall call) {
  etcdserverpb::LeaseGrantRequest request;
  if (!Parse(call.request(), &request)) return FailMalformed(call);
  if (!Admit(call)) return;
  if (request.ttl() > kMaxLeaseTtlSeconds) return Fail(call, Error::kLeaseTtlTooLarge);
  if (node_.WouldExceedQuota(kLeaseCost)) {
    node_.RaiseNoSpace();
    return Fail(call, Error::kNoSpace);
  }
  if (request.id() == 0) {  // the choice is left to the server
    int64_t id = 0;
    while (!node_.lessor().IsFree(id)) {
      id = static_cast<int64_t>(node_.NextId() & static_cast<uint64_t>(std::numeric_limits<int64_t>::max()));
    }
    request.set_id(id);
  }
  ProposeAndReply(std::move(call), RequestField::kLeaseGrant, request.SerializeAsString());
}

void Services::LeaseRevoke(net::UnaryCall call) {
  etcdserverpb::LeaseRevokeRequest request;
  if (!Parse(call.request(), &request)) return FailMalformed(call);
  if (!Admit(call)) return;
  std::string_view bytes = call.request();
  ProposeAndReply(std::move(call), RequestField::kLeaseRevoke, bytes);
}

void Services::LeaseTimeToLive(net::UnaryCall call) {
  etcdserverpb::LeaseTimeToLiveRequest request;
  if (!Parse(call.request(), &request)) return FailMalformed(call);
  if (!Admit(call)) return;
  int64_t id = request.id();
  node_.LeaseTimeToLive(id, request.keys(), [this, call, id](Error error, const Lessor::Info& info) {
    if (error != Error::kOk && error != Error::kLeaseNotFound) return Fail(call, error);
    std::string body;
    AppendInt64Field(body, 2, id);
    if (error == Error::kLeaseNotFound) {
      AppendInt64Field(body, 3, -1);
    } else {
      AppendInt64Field(body, 3, info.remaining_ttl_s);
      AppendInt64Field(body, 4, info.granted_ttl_s);
      for (const std::string& key : info.keys) AppendBytesField(body, 5, key);
    }
    call.Reply(WithHeader(node_.Header(node_.store().current_revision()), std::move(body)));
  });
}

void Services::LeaseLeases(net::UnaryCall call) {
  if (!Admit(call)) return;
  std::string body;
  for (int64_t id : node_.lessor().Leases()) {
    std::string status;
    AppendInt64Field(status, 1, id);
    AppendBytesField(body, 2, status);
  }
  call.Reply(WithHeader(node_.Header(node_.store().current_revision()), std::move(body)));
}

}  // namespace kvd::server
