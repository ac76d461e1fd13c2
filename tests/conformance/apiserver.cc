// Plays what kube-apiserver sends to etcd, in its exact request shapes, and holds the server to what it
// relies on.
//
//   conformance_apiserver ENDPOINT[,ENDPOINT...]       exit code 0: the contract is kept

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "etcdserverpb/rpc.grpc.pb.h"

namespace {

namespace pb = etcdserverpb;

constexpr int kPods = 1200;
const std::string kPrefix = "/registry/pods/default/";
const std::string kPrefixEnd = "/registry/pods/default0";

#define EXPECT(condition)                                         \
  do {                                                            \
    if (!(condition)) {                                           \
      std::printf("line %d: not so: %s\n", __LINE__, #condition); \
      std::exit(1);                                               \
    }                                                             \
  } while (false)

std::string PodKey(int i) {
  char name[16];
  std::snprintf(name, sizeof name, "pod-%05d", i);
  return kPrefix + name;
}

// A call's context as the API server makes it: leaders wanted, its version named.
struct Context : grpc::ClientContext {
  Context() {
    set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    AddMetadata("hasleader", "true");
    AddMetadata("client-api-version", "3.6.5");
  }
};

class ApiServer {
 public:
  explicit ApiServer(const std::string& endpoint)
      : channel_(grpc::CreateChannel(endpoint, grpc::InsecureChannelCredentials())),
        kv_(pb::KV::NewStub(channel_)),
        watch_(pb::Watch::NewStub(channel_)),
        lease_(pb::Lease::NewStub(channel_)),
        maintenance_(pb::Maintenance::NewStub(channel_)) {}

  pb::RangeResponse Range(const pb::RangeRequest& request) {
    Context context;
    pb::RangeResponse response;
    status_ = kv_->Range(&context, request, &response);
    return response;
  }
  pb::RangeResponse Get(const std::string& key, int64_t revision = 0) {
    pb::RangeRequest request;
    request.set_key(key);
    request.set_limit(1);
    request.set_revision(revision);
    return Range(request);
  }
  pb::RangeRequest List(int64_t limit, int64_t revision, const std::string& from = kPrefix) {
    pb::RangeRequest request;
    request.set_key(from);
    request.set_range_end(kPrefixEnd);
    request.set_limit(limit);
    request.set_revision(revision);
    return request;
  }
  pb::TxnResponse Txn(const pb::TxnRequest& request) {
    Context context;
    pb::TxnResponse response;
    status_ = kv_->Txn(&context, request, &response);
    return response;
  }
  pb::TxnResponse Create(const std::string& key, const std::string& value, int64_t lease = 0) {
    pb::TxnRequest txn = IfAt(key, 0);
    FillPut(txn.add_success(), key, value, lease);
    return Txn(txn);
  }
  pb::TxnResponse Update(const std::string& key, const std::string& value, int64_t at) {
    pb::TxnRequest txn = IfAt(key, at);
    FillPut(txn.add_success(), key, value, 0);
    txn.add_failure()->mutable_request_range()->set_key(key);
    return Txn(txn);
  }
  pb::TxnResponse Delete(const std::string& key, int64_t at) {
    pb::TxnRequest txn = IfAt(key, at);
    txn.add_success()->mutable_request_delete_range()->set_key(key);
    txn.add_failure()->mutable_request_range()->set_key(key);
    return Txn(txn);
  }
  std::vector<pb::RangeResponse> Stream(const pb::RangeRequest& request) {
    Context context;
    std::vector<pb::RangeResponse> chunks;
    auto reader = kv_->RangeStream(&context, request);
    pb::RangeStreamResponse chunk;
    while (reader->Read(&chunk)) chunks.push_back(chunk.range_response());
    status_ = reader->Finish();
    return chunks;
  }
  const grpc::Status& status() const { return status_; }
  pb::KV::Stub& kv() { return *kv_; }
  pb::Watch::Stub& watch() { return *watch_; }
  pb::Lease::Stub& lease() { return *lease_; }
  pb::Maintenance::Stub& maintenance() { return *maintenance_; }

 private:
  static pb::TxnRequest IfAt(const std::string& key, int64_t revision) {
    pb::TxnRequest txn;
    pb::Compare* compare = txn.add_compare();
    compare->set_target(pb::Compare::MOD);
    compare->set_result(pb::Compare::EQUAL);
    compare->set_key(key);
    compare->set_mod_revision(revision);
    return txn;
  }
  static void FillPut(pb::RequestOp* op, const std::string& key, const std::string& value, int64_t lease) {
    op->mutable_request_put()->set_key(key);
    op->mutable_request_put()->set_value(value);
    op->mutable_request_put()->set_lease(lease);
  }

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<pb::KV::Stub> kv_;
  std::unique_ptr<pb::Watch::Stub> watch_;
  std::unique_ptr<pb::Lease::Stub> lease_;
  std::unique_ptr<pb::Maintenance::Stub> maintenance_;
  grpc::Status status_;
};

// A watch cache: one stream over one prefix.
class WatchCache {
 public:
  WatchCache(ApiServer& api, int64_t from, const std::string& key = kPrefix,
             const std::string& end = kPrefixEnd)
      : stream_(api.watch().Watch(&context_)) {
    pb::WatchRequest request;
    pb::WatchCreateRequest* create = request.mutable_create_request();
    create->set_key(key);
    create->set_range_end(end);
    create->set_start_revision(from);
    create->set_prev_kv(true);
    create->set_progress_notify(true);
    EXPECT(stream_->Write(request));
    const pb::WatchResponse created = Next();
    EXPECT(created.created() && created.header().revision() > 0 && created.watch_id() == 0);
  }
  ~WatchCache() {
    context_.TryCancel();
    stream_->Finish();
  }

  pb::WatchResponse Next() {
    pb::WatchResponse response;
    EXPECT(stream_->Read(&response));
    return response;
  }
  // Asks, as often as a request waits for freshness, until the cache is known to be at `revision`; events
  // meanwhile are taken.
  int64_t WaitUntilFresh(int64_t revision) {
    while (fresh_ < revision) {
      pb::WatchRequest request;
      request.mutable_progress_request();
      EXPECT(stream_->Write(request));
      for (bool progress = false; !progress;) progress = Take(Next());
    }
    return fresh_;
  }
  // True for a progress notification.
  bool Take(const pb::WatchResponse& response) {
    EXPECT(!response.canceled() && response.header().revision() != 0);
    if (response.events().empty()) {
      // It tells nothing that has not been delivered.
      EXPECT(response.header().revision() >= last_event_);
      fresh_ = std::max(fresh_, response.header().revision());
      return true;
    }
    for (const mvccpb::Event& event : response.events()) {
      EXPECT(event.kv().mod_revision() >= last_event_ && event.kv().mod_revision() > fresh_);
      last_event_ = event.kv().mod_revision();
      const bool created =
          event.type() == mvccpb::Event::PUT && event.kv().create_revision() == event.kv().mod_revision();
      EXPECT(created != event.has_prev_kv());
      if (event.has_prev_kv()) EXPECT(event.prev_kv().mod_revision() < event.kv().mod_revision());
      events_.push_back(event);
    }
    return false;
  }
  const std::vector<mvccpb::Event>& events() const { return events_; }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<pb::WatchRequest, pb::WatchResponse>> stream_;
  std::vector<mvccpb::Event> events_;
  int64_t last_event_ = 0;
  int64_t fresh_ = 0;
};

void VersionGate(ApiServer& api) {
  Context context;
  pb::StatusResponse status;
  EXPECT(api.maintenance().Status(&context, pb::StatusRequest(), &status).ok());
  int major = 0;
  int minor = 0;
  int patch = 0;
  int length = 0;
  // NOLINTNEXTLINE(cert-err34-c)
  EXPECT(std::sscanf(status.version().c_str(), "%d.%d.%d%n", &major, &minor, &patch, &length) == 3);
  EXPECT(length == static_cast<int>(status.version().size()) && major == 3 && minor >= 6);
  EXPECT(status.dbsize() > 0);
}

void Objects(ApiServer& api) {
  const std::string key = "/registry/configmaps/default/one";
  const pb::TxnResponse created = api.Create(key, "v1");
  EXPECT(created.succeeded() && created.header().revision() > 1);
  const pb::TxnResponse again = api.Create(key, "v1");
  EXPECT(!again.succeeded() && again.responses().empty());
  const pb::TxnResponse stale = api.Update(key, "v2", created.header().revision() - 1);
  EXPECT(!stale.succeeded() && stale.responses(0).response_range().kvs(0).value() == "v1");
  const pb::TxnResponse updated = api.Update(key, "v2", created.header().revision());
  EXPECT(updated.succeeded() && updated.header().revision() == created.header().revision() + 1);
  EXPECT(api.Get(key, created.header().revision()).kvs(0).value() == "v1");
  const pb::TxnResponse kept = api.Delete(key, created.header().revision());
  EXPECT(!kept.succeeded() &&
         kept.responses(0).response_range().kvs(0).mod_revision() == updated.header().revision());
  const pb::TxnResponse deleted = api.Delete(key, updated.header().revision());
  EXPECT(deleted.succeeded() && deleted.header().revision() == updated.header().revision() + 1);
  EXPECT(api.Get("/registry/configmaps").header().revision() == deleted.header().revision());
  EXPECT(api.Get("/registry/health").kvs().empty() && api.status().ok());
}

// Pages of growing size at one revision, while others write; then the same as a stream.
void Lists(ApiServer& api) {
  for (int i = 0; i < kPods; ++i) EXPECT(api.Create(PodKey(i), std::string(700, 'p')).succeeded());
  pb::RangeResponse page = api.Range(api.List(100, 0));
  const int64_t revision = page.header().revision();
  EXPECT(page.count() == kPods && page.more());
  std::set<std::string> seen;
  int64_t limit = 100;
  while (true) {
    for (const auto& kv : page.kvs()) EXPECT(seen.insert(kv.key()).second);
    if (static_cast<int64_t>(page.kvs_size()) >= page.count()) break;
    const std::string next = page.kvs(page.kvs_size() - 1).key() + std::string(1, '\0');
    const auto& gone = PodKey(static_cast<int>(seen.size()) % kPods);
    EXPECT(api.Update(gone, "changed", api.Get(gone).kvs(0).mod_revision()).succeeded());
    limit *= 2;
    page = api.Range(api.List(limit, revision, next));
    EXPECT(page.count() == kPods - static_cast<int64_t>(seen.size()));
    EXPECT(page.header().revision() > revision);
  }
  EXPECT(static_cast<int>(seen.size()) == kPods);

  pb::RangeRequest counted = api.List(0, 0);
  counted.set_count_only(true);
  EXPECT(api.Range(counted).count() == kPods);
  pb::RangeRequest keys = api.List(0, 0);
  keys.set_keys_only(true);
  const pb::RangeResponse bare = api.Range(keys);
  EXPECT(bare.kvs_size() == kPods && bare.kvs(0).value().empty() && bare.kvs(0).mod_revision() > 0);

  for (const pb::RangeRequest& request : {api.List(0, revision), api.List(77, 0), counted}) {
    const std::vector<pb::RangeResponse> chunks = api.Stream(request);
    EXPECT(api.status().ok() && !chunks.empty());
    pb::RangeResponse merged;
    for (size_t i = 0; i < chunks.size(); ++i) {
      const bool last = i + 1 == chunks.size();
      EXPECT(chunks[i].has_header() == last && (last || (chunks[i].count() == 0 && !chunks[i].more())));
      merged.MergeFrom(chunks[i]);
    }
    EXPECT(merged.SerializeAsString() == api.Range(request).SerializeAsString());
    EXPECT(request.count_only() ? chunks.size() == 1 : request.limit() > 0 || chunks.size() > 2);
  }
  pb::RangeRequest sorted = api.List(0, 0);
  sorted.set_sort_order(pb::RangeRequest::DESCEND);
  api.Stream(sorted);
  EXPECT(api.status().error_code() == grpc::StatusCode::UNIMPLEMENTED);
}

void Watches(ApiServer& api, ApiServer& writer) {
  const int64_t from = api.Range(api.List(1, 0)).header().revision();
  WatchCache cache(api, from + 1);
  // Freshness: the revision of now, known without an event.
  EXPECT(writer.Create("/registry/other/x", "v").succeeded() || true);
  const int64_t now = writer.Get("/registry/pods").header().revision();
  EXPECT(cache.WaitUntilFresh(now) >= now);
  int64_t last = 0;
  for (int i = 0; i < 300; ++i) {
    const pb::RangeResponse pod = writer.Get(PodKey(i));
    const pb::TxnResponse done = i % 5 == 4 ? writer.Delete(PodKey(i), pod.kvs(0).mod_revision())
                                            : writer.Update(PodKey(i), "new", pod.kvs(0).mod_revision());
    EXPECT(done.succeeded());
    last = done.header().revision();
    if (i % 50 == 0) EXPECT(cache.WaitUntilFresh(last) >= last);
  }
  EXPECT(cache.WaitUntilFresh(last) >= last);
  EXPECT(cache.events().size() == 300);
  // A second cache from the past is told the same.
  WatchCache late(api, from + 1);
  while (late.events().size() < 300) late.Take(late.Next());
  for (size_t i = 0; i < 300; ++i) {
    EXPECT(late.events()[i].SerializeAsString() == cache.events()[i].SerializeAsString());
  }
}

void Leases(ApiServer& api) {
  Context context;
  pb::LeaseGrantRequest request;
  request.set_ttl(3660);
  pb::LeaseGrantResponse granted;
  EXPECT(api.lease().LeaseGrant(&context, request, &granted).ok());
  EXPECT(granted.id() > 0 && granted.ttl() == 3660 && granted.error().empty());
  for (int i = 0; i < 50; ++i) {
    EXPECT(api.Create("/registry/events/e" + std::to_string(i), "event", granted.id()).succeeded());
  }
  EXPECT(api.Get("/registry/events/e1").kvs(0).lease() == granted.id());
}

// Two API servers; who wins the key compacts at the revision of the round before.
void Compaction(ApiServer& api, ApiServer& rival) {
  const std::string key = "compact_rev_key";
  auto round = [&](ApiServer& by, int64_t version, int64_t revision) {
    pb::TxnRequest txn;
    pb::Compare* compare = txn.add_compare();
    compare->set_target(pb::Compare::VERSION);
    compare->set_result(pb::Compare::EQUAL);
    compare->set_key(key);
    compare->set_version(version);
    txn.add_success()->mutable_request_put()->set_key(key);
    txn.mutable_success(0)->mutable_request_put()->set_value(std::to_string(revision));
    txn.add_failure()->mutable_request_range()->set_key(key);
    return by.Txn(txn);
  };
  const pb::RangeResponse before = api.Get(key);
  const int64_t version = before.kvs().empty() ? 0 : before.kvs(0).version();
  const pb::TxnResponse won = round(api, version, 0);
  EXPECT(won.succeeded());
  const pb::TxnResponse lost = round(rival, version, 0);
  EXPECT(!lost.succeeded() && lost.responses(0).response_range().kvs(0).version() == version + 1);
  WatchCache follower(rival, lost.header().revision() + 1, key, "");
  const int64_t old = won.header().revision();
  for (int i = 0; i < 10; ++i)
    EXPECT(api.Create("/registry/x/" + std::to_string(old) + std::to_string(i), "v").succeeded());
  const pb::TxnResponse second = round(api, version + 1, old);
  EXPECT(second.succeeded());
  Context context;
  pb::CompactionRequest compaction;
  compaction.set_revision(old);
  pb::CompactionResponse compacted;
  EXPECT(api.kv().Compact(&context, compaction, &compacted).ok());
  follower.Take(follower.Next());
  EXPECT(follower.events().back().kv().value() == std::to_string(old));

  const std::string text = "etcdserver: mvcc: required revision has been compacted";
  api.Range(api.List(10, old - 1));
  EXPECT(api.status().error_code() == grpc::StatusCode::OUT_OF_RANGE && api.status().error_message() == text);
  api.Stream(api.List(10, old - 1));
  EXPECT(api.status().error_code() == grpc::StatusCode::OUT_OF_RANGE && api.status().error_message() == text);
  EXPECT(!api.Range(api.List(10, old)).kvs().empty());
  api.Range(api.List(10, second.header().revision() + 1000));
  EXPECT(api.status().error_code() == grpc::StatusCode::OUT_OF_RANGE &&
         api.status().error_message() == "etcdserver: mvcc: required revision is a future revision");
  WatchCache stale(api, old - 1);
  const pb::WatchResponse ended = stale.Next();
  EXPECT(ended.canceled() && ended.compact_revision() == old && ended.cancel_reason().empty());
}

void Run(const std::vector<std::string>& endpoints) {
  ApiServer api(endpoints.front());
  ApiServer other(endpoints.back());
  VersionGate(api);
  Objects(api);
  Lists(api);
  Watches(api, other);
  Leases(api);
  Compaction(api, other);
  std::printf("the API server's contract is kept\n");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: conformance_apiserver ENDPOINT[,ENDPOINT...]\n");
    return 2;
  }
  std::vector<std::string> endpoints;
  std::string list = argv[1];
  for (size_t at = 0; at != std::string::npos;) {
    const size_t comma = list.find(',', at);
    endpoints.push_back(list.substr(at, comma == std::string::npos ? comma : comma - at));
    at = comma == std::string::npos ? comma : comma + 1;
  }
  Run(endpoints);
  return 0;
}
