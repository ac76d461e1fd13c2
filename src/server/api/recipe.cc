#include "server/api/recipe.h"

#include <limits>
#include <utility>

#include "server/api/kv_requests.h"
#include "storage/store.h"

namespace kvd::server {
namespace {

using etcdserverpb::RangeRequest;
using etcdserverpb::RangeResponse;
using etcdserverpb::TxnRequest;
using etcdserverpb::TxnResponse;
using etcdserverpb::WatchCreateRequest;
using etcdserverpb::WatchResponse;

constexpr int64_t kSessionTtlSeconds = 60;

}  // namespace

RangeRequest FirstCreated(const std::string& prefix) {
  RangeRequest request;
  SetPrefix(&request, prefix);
  request.set_sort_target(RangeRequest::CREATE);
  request.set_sort_order(RangeRequest::ASCEND);
  request.set_limit(1);
  return request;
}

void AddCreatedAt(TxnRequest* txn, const std::string& key, int64_t revision) {
  etcdserverpb::Compare* compare = txn->add_compare();
  compare->set_target(etcdserverpb::Compare::CREATE);
  compare->set_result(etcdserverpb::Compare::EQUAL);
  compare->set_key(key);
  compare->set_create_revision(revision);
}

// Brings the responses of the hub to the recipe's thread.
class Recipe::Sink final : public WatchSink {
 public:
  Sink(std::shared_ptr<Recipe> recipe, uint64_t number, std::function<void(Error, const WatchResponse&)> told)
      : recipe_(std::move(recipe)), number_(number), told_(std::move(told)) {}

  void Send(ResponseBatch responses) override {
    responses.ForEach([&](std::string_view bytes) {
      WatchResponse response;
      if (!response.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return;
      if (response.canceled() || !response.created()) Tell(Error::kOk, response);
    });
  }
  size_t queued_bytes() override { return 0; }
  void Finish(absl::StatusCode, std::string_view) override { Tell(Error::kStopped, {}); }

 private:
  void Tell(Error error, const WatchResponse& response) {
    recipe_->executor_.Post([recipe = recipe_, number = number_, told = told_, error, response] {
      if (recipe->watch_number_ == number) told(error, response);
    });
  }

  const std::shared_ptr<Recipe> recipe_;
  const uint64_t number_;
  const std::function<void(Error, const WatchResponse&)> told_;
};

etcdserverpb::ResponseHeader Recipe::HeaderAt(int64_t revision) {
  const ResponseHeaderFields fields = node_.Header(revision);
  etcdserverpb::ResponseHeader header;
  header.set_cluster_id(fields.cluster_id);
  header.set_member_id(fields.member_id);
  header.set_revision(fields.revision);
  header.set_raft_term(fields.raft_term);
  return header;
}

void Recipe::Txn(const TxnRequest& request, absl::AnyInvocable<void(Error, TxnResponse)> done) {
  if (node_.WouldExceedQuota(CostOf(request)) && CostOf(request) > 0) {
    node_.RaiseNoSpace();
    return done(Error::kNoSpace, {});
  }
  node_.Propose(
      RequestField::kTxn, request.SerializeAsString(),
      [self = shared_from_this(), done = std::move(done)](ApplyOutcome&& outcome) mutable {
        self->executor_.Post([self, done = std::move(done), outcome = std::move(outcome)]() mutable {
          TxnResponse response;
          response.ParseFromString(outcome.body);
          *response.mutable_header() = self->HeaderAt(outcome.revision);
          done(outcome.error, std::move(response));
        });
      });
}

void Recipe::Get(const RangeRequest& request, absl::AnyInvocable<void(Error, RangeResponse)> done) {
  node_.LinearizableRead([self = shared_from_this(), bytes = request.SerializeAsString(),
                          done = std::move(done)](Error error) mutable {
    self->executor_.Post([self, bytes = std::move(bytes), done = std::move(done), error]() mutable {
      if (error != Error::kOk) return done(error, {});
      RangeCall range;
      ReadRange(bytes, &range);
      storage::OpResult result;
      self->node_.store().Range(range.args, &result);
      RangeResponse response;
      response.ParseFromString(result.body);
      *response.mutable_header() = self->HeaderAt(result.revision);
      done(ToError(result.error), std::move(response));
    });
  });
}

void Recipe::Session(int64_t lease, absl::AnyInvocable<void(Error, int64_t)> done) {
  if (lease != 0) return done(Error::kOk, lease);
  etcdserverpb::LeaseGrantRequest request;
  request.set_ttl(kSessionTtlSeconds);
  while (!node_.lessor().IsFree(request.id())) {
    request.set_id(
        static_cast<int64_t>(node_.NextId() & static_cast<uint64_t>(std::numeric_limits<int64_t>::max())));
  }
  node_.Propose(
      RequestField::kLeaseGrant, request.SerializeAsString(),
      [self = shared_from_this(), id = request.id(), done = std::move(done)](ApplyOutcome&& outcome) mutable {
        self->executor_.Post(
            [self, id, done = std::move(done), error = outcome.error]() mutable { done(error, id); });
      });
}

void Recipe::Watch(const WatchCreateRequest& request, std::function<void(Error, const WatchResponse&)> told) {
  StopWatch();
  watch_ = node_.watch_hub().Open(std::make_shared<Sink>(shared_from_this(), watch_number_, std::move(told)));
  etcdserverpb::WatchRequest message;
  *message.mutable_create_request() = request;
  watch_->OnRequest(message.SerializeAsString());
}

void Recipe::StopWatch() {
  ++watch_number_;
  watch_.reset();
}

void Recipe::AwaitDeletes(const std::string& prefix, int64_t revision, absl::AnyInvocable<void(Error)> done) {
  RangeRequest last;
  SetPrefix(&last, prefix);
  last.set_sort_target(RangeRequest::CREATE);
  last.set_sort_order(RangeRequest::DESCEND);
  last.set_max_create_revision(revision);
  last.set_limit(1);
  Get(last,
      [this, prefix, revision, done = std::move(done)](Error error, const RangeResponse& response) mutable {
        if (error != Error::kOk || response.kvs().empty()) return done(error);
        WatchCreateRequest watch;
        watch.set_key(response.kvs(0).key());
        watch.set_start_revision(response.header().revision() + 1);
        watch.add_filters(WatchCreateRequest::NOPUT);
        auto waiting = std::make_shared<absl::AnyInvocable<void(Error)>>(std::move(done));
        Watch(watch, [this, prefix, revision, waiting](Error failed, const WatchResponse& told) {
          if (failed == Error::kOk && told.events().empty() && !told.canceled()) return;
          StopWatch();
          if (failed != Error::kOk) return (*waiting)(failed);
          AwaitDeletes(prefix, revision, std::move(*waiting));
        });
      });
}

}  // namespace kvd::server
