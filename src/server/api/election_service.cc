// v3electionpb.Election (ETCD: server/etcdserver/api/v3election): the leader is the oldest key under the
// election's name, and its value is what the leader announces.

#include <utility>

#include "absl/strings/str_cat.h"
#include "net/grpc_server.h"
#include "server/api/recipe.h"
#include "server/api/services.h"
#include "v3electionpb/v3election.pb.h"

namespace kvd::server {
namespace {

constexpr std::string_view kMissingLeader = "\"leader\" field must be provided";
constexpr std::string_view kNoElectionLeader = "election: no leader";
constexpr std::string_view kNotElectionLeader = "election: not leader";

void FailWith(const net::UnaryCall& call, std::string_view text) {
  call.Fail(net::StatusCode::kUnknown, std::string(text));
}

class CampaignCall final : public Recipe {
 public:
  CampaignCall(Node& node, net::UnaryCall call) : Recipe(node, call.executor()), call_(std::move(call)) {}

  void Run() {
    call_.OnCancelled([self = Self()] { self->GiveUp(); });
    v3electionpb::CampaignRequest request;
    if (!Parse(call_.request(), &request)) return FailMalformed(call_);
    value_ = request.value();
    leader_.set_name(request.name());
    Session(request.lease(), [self = Self()](Error error, int64_t lease) {
      if (error != Error::kOk) return FailRecipe(self->call_, error);
      self->leader_.set_lease(lease);
      self->leader_.set_key(absl::StrCat(self->Prefix(), absl::Hex(static_cast<uint64_t>(lease))));
      self->Enter();
    });
  }

 private:
  std::shared_ptr<CampaignCall> Self() { return std::static_pointer_cast<CampaignCall>(shared_from_this()); }
  std::string Prefix() const { return absl::StrCat(leader_.name(), "/"); }

  void Enter() {
    etcdserverpb::TxnRequest txn;
    AddCreatedAt(&txn, leader_.key(), 0);
    FillPut(txn.add_success()->mutable_request_put());
    txn.add_failure()->mutable_request_range()->set_key(leader_.key());
    Txn(txn, [self = Self()](Error error, const etcdserverpb::TxnResponse& response) {
      if (error != Error::kOk) return FailRecipe(self->call_, error);
      self->entered_ = true;
      self->header_ = response.header();
      self->leader_.set_rev(response.header().revision());
      if (response.succeeded()) return self->Await();
      const auto& mine = response.responses(0).response_range().kvs(0);
      self->leader_.set_rev(mine.create_revision());
      if (mine.value() == self->value_) return self->Await();
      self->Announce();
    });
  }

  void FillPut(etcdserverpb::PutRequest* put) {
    put->set_key(leader_.key());
    put->set_value(value_);
    put->set_lease(leader_.lease());
  }

  // It stood already, for another value.
  void Announce() {
    etcdserverpb::TxnRequest txn;
    AddCreatedAt(&txn, leader_.key(), leader_.rev());
    FillPut(txn.add_success()->mutable_request_put());
    Txn(txn, [self = Self()](Error error, const etcdserverpb::TxnResponse& response) {
      if (error != Error::kOk) return FailRecipe(self->call_, error);
      if (!response.succeeded()) return FailWith(self->call_, kNotElectionLeader);
      self->Await();
    });
  }

  void Await() {
    if (call_.cancelled()) return GiveUp();
    AwaitDeletes(Prefix(), leader_.rev() - 1, [self = Self()](Error error) {
      if (error != Error::kOk) {
        self->Resign();
        return FailRecipe(self->call_, error);
      }
      if (self->call_.cancelled()) return self->GiveUp();
      v3electionpb::CampaignResponse response;
      *response.mutable_header() = self->header_;
      *response.mutable_leader() = self->leader_;
      self->call_.Reply(response.SerializeAsString());
    });
  }

  void GiveUp() {
    StopWatch();
    if (entered_) Resign();
  }
  void Resign() {
    etcdserverpb::TxnRequest txn;
    AddCreatedAt(&txn, leader_.key(), leader_.rev());
    txn.add_success()->mutable_request_delete_range()->set_key(leader_.key());
    Txn(txn, [](Error, const etcdserverpb::TxnResponse&) {});
  }

  const net::UnaryCall call_;
  std::string value_;
  v3electionpb::LeaderKey leader_;
  etcdserverpb::ResponseHeader header_;
  bool entered_ = false;
};

// Proclaim and Resign: one operation on the leader's key, as long as it is the same one.
class LeaderCall final : public Recipe {
 public:
  LeaderCall(Node& node, net::UnaryCall call) : Recipe(node, call.executor()), call_(std::move(call)) {}

  void Proclaim(const v3electionpb::ProclaimRequest& request) {
    etcdserverpb::TxnRequest txn;
    AddCreatedAt(&txn, request.leader().key(), request.leader().rev());
    auto* put = txn.add_success()->mutable_request_put();
    put->set_key(request.leader().key());
    put->set_value(request.value());
    put->set_lease(request.leader().lease());
    Run(txn, /*must_lead=*/true);
  }
  void Resign(const v3electionpb::ResignRequest& request) {
    etcdserverpb::TxnRequest txn;
    AddCreatedAt(&txn, request.leader().key(), request.leader().rev());
    txn.add_success()->mutable_request_delete_range()->set_key(request.leader().key());
    Run(txn, /*must_lead=*/false);
  }
  void Leader(const v3electionpb::LeaderRequest& request) {
    Get(FirstCreated(absl::StrCat(request.name(), "/")),
        [self = shared_from_this(), this](Error error, const etcdserverpb::RangeResponse& response) {
          if (error != Error::kOk) return FailRecipe(call_, error);
          if (response.kvs().empty()) return FailWith(call_, kNoElectionLeader);
          v3electionpb::LeaderResponse answer;
          *answer.mutable_header() = response.header();
          *answer.mutable_kv() = response.kvs(0);
          call_.Reply(answer.SerializeAsString());
        });
  }

 private:
  void Run(const etcdserverpb::TxnRequest& txn, bool must_lead) {
    Txn(txn,
        [self = shared_from_this(), this, must_lead](Error error, const etcdserverpb::TxnResponse& response) {
          if (error != Error::kOk) return FailRecipe(call_, error);
          if (must_lead && !response.succeeded()) return FailWith(call_, kNotElectionLeader);
          v3electionpb::ProclaimResponse answer;  // ResignResponse is the same: a header
          *answer.mutable_header() = response.header();
          call_.Reply(answer.SerializeAsString());
        });
  }

  const net::UnaryCall call_;
};

// Observe: the leader of the moment, what it announces, and then the next one.
class ObserveStream final : public Recipe, public net::StreamHandler {
 public:
  ObserveStream(Node& node, std::shared_ptr<net::StreamCall> call, const std::string& name)
      : Recipe(node, call->executor()), call_(std::move(call)), prefix_(absl::StrCat(name, "/")) {}

  void FindLeader() {
    if (call_ == nullptr) return;
    Get(FirstCreated(prefix_), [self = Self()](Error error, const etcdserverpb::RangeResponse& response) {
      if (error != Error::kOk) return self->End(error);
      if (response.kvs().empty()) return self->AwaitLeader(response.header().revision());
      self->Tell(response.header().revision(), response.kvs(0));
      self->Follow(response.kvs(0).key(), response.header().revision());
    });
  }

  void OnMessage(std::string_view) override {}
  void OnHalfClose() override {}
  void OnClosed() override {
    StopWatch();
    call_.reset();
  }

 private:
  std::shared_ptr<ObserveStream> Self() {
    return std::static_pointer_cast<ObserveStream>(shared_from_this());
  }

  void AwaitLeader(int64_t revision) {
    etcdserverpb::WatchCreateRequest watch;
    SetPrefix(&watch, prefix_);
    watch.set_start_revision(revision + 1);
    watch.add_filters(etcdserverpb::WatchCreateRequest::NODELETE);
    WatchOn(watch, [this](const mvccpb::Event& event) {
      Tell(event.kv().mod_revision(), event.kv());
      Follow(event.kv().key(), event.kv().mod_revision());
      return false;
    });
  }

  void Follow(const std::string& key, int64_t revision) {
    etcdserverpb::WatchCreateRequest watch;
    watch.set_key(key);
    watch.set_start_revision(revision + 1);
    WatchOn(watch, [this](const mvccpb::Event& event) {
      if (event.type() != mvccpb::Event::DELETE) {
        Tell(event.kv().mod_revision(), event.kv());
        return true;
      }
      StopWatch();
      FindLeader();
      return false;
    });
  }

  // `each` is false when the watch is done with.
  void WatchOn(const etcdserverpb::WatchCreateRequest& watch,
               std::function<bool(const mvccpb::Event&)> each) {
    if (call_ == nullptr) return;
    Watch(watch, [this, each = std::move(each)](Error error, const etcdserverpb::WatchResponse& response) {
      if (error != Error::kOk) return End(error);
      if (response.canceled()) return FindLeader();  // compacted: what is now counts
      for (const mvccpb::Event& event : response.events()) {
        if (!each(event)) return;
      }
    });
  }

  void Tell(int64_t revision, const mvccpb::KeyValue& kv) {
    if (call_ == nullptr) return;
    v3electionpb::LeaderResponse response;
    *response.mutable_header() = HeaderAt(revision);
    *response.mutable_kv() = kv;
    call_->Write(response.SerializeAsString());
  }

  void End(Error error) {
    StopWatch();
    if (call_ != nullptr) call_->Finish(net::StatusCode::kUnknown, std::string(ErrorText(error)));
  }

  std::shared_ptr<net::StreamCall> call_;  // null once closed
  const std::string prefix_;
};

}  // namespace

// Calls `run` with the request if it names a leader.
template <typename Request, typename Run>
void Services::RegisterLeaderCall(net::FrontDoor& door, std::string_view method, Run run) {
  door.RegisterUnary("/v3electionpb.Election/" + std::string(method), [this, run](net::UnaryCall call) {
    Request request;
    if (!Parse(call.request(), &request)) return FailMalformed(call);
    if (!Admit(call)) return;
    if constexpr (requires { request.leader(); }) {
      if (!request.has_leader()) return FailWith(call, kMissingLeader);
    }
    run(*std::make_shared<LeaderCall>(node_, std::move(call)), request);
  });
}

void Services::RegisterElection(net::FrontDoor& door) {
  door.RegisterUnary("/v3electionpb.Election/Campaign", [this](net::UnaryCall call) {
    if (Admit(call)) std::make_shared<CampaignCall>(node_, std::move(call))->Run();
  });
  RegisterLeaderCall<v3electionpb::ProclaimRequest>(
      door, "Proclaim", [](LeaderCall& call, const auto& request) { call.Proclaim(request); });
  RegisterLeaderCall<v3electionpb::ResignRequest>(
      door, "Resign", [](LeaderCall& call, const auto& request) { call.Resign(request); });
  RegisterLeaderCall<v3electionpb::LeaderRequest>(
      door, "Leader", [](LeaderCall& call, const auto& request) { call.Leader(request); });
  door.RegisterServerStream(
      "/v3electionpb.Election/Observe",
      [this](std::string_view bytes,
             std::shared_ptr<net::StreamCall> call) -> std::shared_ptr<net::StreamHandler> {
        v3electionpb::LeaderRequest request;
        Error error = AdmitStream(*call);
        if (error == Error::kOk && !Parse(bytes, &request)) error = Error::kInternal;
        if (error != Error::kOk) {
          Finish(*call, error);
          return nullptr;
        }
        auto stream = std::make_shared<ObserveStream>(node_, std::move(call), request.name());
        stream->FindLeader();
        return stream;
      });
}

}  // namespace kvd::server
