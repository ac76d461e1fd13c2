// v3lockpb.Lock (ETCD: server/etcdserver/api/v3lock): the lock belongs to the oldest key under its name; each
// other waits for the one before it to go.

#include <utility>

#include "absl/strings/str_cat.h"
#include "net/grpc_server.h"
#include "server/api/recipe.h"
#include "server/api/services.h"
#include "v3lockpb/v3lock.pb.h"

namespace kvd::server {
namespace {

constexpr std::string_view kSessionExpired = "mutex: session is expired";

class LockCall final : public Recipe {
 public:
  LockCall(Node& node, net::UnaryCall call) : Recipe(node, call.executor()), call_(std::move(call)) {}

  void Run() {
    call_.OnCancelled([self = Self()] { self->GiveUp(); });
    v3lockpb::LockRequest request;
    if (!Parse(call_.request(), &request)) return FailMalformed(call_);
    prefix_ = absl::StrCat(request.name(), "/");
    Session(request.lease(), [self = Self()](Error error, int64_t lease) {
      if (error != Error::kOk) return self->End(error);
      self->key_ = absl::StrCat(self->prefix_, absl::Hex(static_cast<uint64_t>(lease)));
      self->Enter(lease);
    });
  }

 private:
  std::shared_ptr<LockCall> Self() { return std::static_pointer_cast<LockCall>(shared_from_this()); }

  void Enter(int64_t lease) {
    etcdserverpb::TxnRequest txn;
    AddCreatedAt(&txn, key_, 0);
    auto* put = txn.add_success()->mutable_request_put();
    put->set_key(key_);
    put->set_lease(lease);
    txn.add_failure()->mutable_request_range()->set_key(key_);
    for (auto* branch : {txn.mutable_success(), txn.mutable_failure()}) {
      *branch->Add()->mutable_request_range() = FirstCreated(prefix_);
    }
    Txn(txn, [self = Self()](Error error, const etcdserverpb::TxnResponse& response) {
      if (error != Error::kOk) return self->End(error);
      self->entered_ = true;
      if (self->call_.cancelled()) return self->GiveUp();
      int64_t revision = response.header().revision();
      if (!response.succeeded()) revision = response.responses(0).response_range().kvs(0).create_revision();
      const auto& owner = response.responses(1).response_range();
      if (owner.kvs().empty() || owner.kvs(0).create_revision() == revision) {
        return self->Hold(response.header());
      }
      self->AwaitDeletes(self->prefix_, revision - 1, [self](Error failed) { self->Waited(failed); });
    });
  }

  // The lease may have ended meanwhile.
  void Waited(Error error) {
    if (error != Error::kOk) {
      Leave();
      return End(error);
    }
    etcdserverpb::RangeRequest mine;
    mine.set_key(key_);
    Get(mine, [self = Self()](Error failed, const etcdserverpb::RangeResponse& response) {
      if (failed != Error::kOk) return self->End(failed);
      if (response.kvs().empty()) {
        return self->call_.Fail(net::StatusCode::kUnknown, std::string(kSessionExpired));
      }
      self->Hold(response.header());
    });
  }

  void Hold(const etcdserverpb::ResponseHeader& header) {
    if (call_.cancelled()) return GiveUp();
    v3lockpb::LockResponse response;
    *response.mutable_header() = header;
    response.set_key(key_);
    call_.Reply(response.SerializeAsString());
  }

  void End(Error error) { FailRecipe(call_, error); }

  // Whoever called is gone: nobody will unlock what is taken or waited for.
  void GiveUp() {
    StopWatch();
    if (entered_) Leave();
  }
  void Leave() {
    etcdserverpb::DeleteRangeRequest request;
    request.set_key(key_);
    node().Propose(RequestField::kDeleteRange, request.SerializeAsString(), [](ApplyOutcome&&) {});
  }

  const net::UnaryCall call_;
  std::string prefix_;
  std::string key_;
  bool entered_ = false;
};

}  // namespace

void FailRecipe(const net::UnaryCall& call, Error error) {
  call.Fail(net::StatusCode::kUnknown, std::string(ErrorText(error)));
}

void Services::RegisterLock(net::FrontDoor& door) {
  door.RegisterUnary("/v3lockpb.Lock/Lock", [this](net::UnaryCall call) {
    if (Admit(call)) std::make_shared<LockCall>(node_, std::move(call))->Run();
  });
  door.RegisterUnary("/v3lockpb.Lock/Unlock", [this](net::UnaryCall call) {
    v3lockpb::UnlockRequest request;
    if (!Parse(call.request(), &request)) return FailMalformed(call);
    if (!Admit(call)) return;
    if (request.key().empty()) return FailRecipe(call, Error::kEmptyKey);
    etcdserverpb::DeleteRangeRequest remove;
    remove.set_key(request.key());
    node_.Propose(RequestField::kDeleteRange, remove.SerializeAsString(),
                  [this, call](ApplyOutcome&& outcome) {
                    if (outcome.error != Error::kOk) return FailRecipe(call, outcome.error);
                    call.Reply(WithHeader(node_.Header(outcome.revision), {}));
                  });
  });
}

}  // namespace kvd::server
