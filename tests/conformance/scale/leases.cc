// Very many leases: granted, every tenth with a key, kept once and left to expire.
#include <thread>

#include "etcdserverpb/rpc.grpc.pb.h"
#include "support.h"

namespace kvd::scale {
namespace {

namespace pb = etcdserverpb;

constexpr int64_t kFirstLease = 1000;
constexpr int64_t kLeasesPerKey = 10;
constexpr int kInFlight = 512;

struct GrantCall {
  grpc::ClientContext context;
  pb::LeaseGrantResponse response;
  grpc::Status status;
  std::unique_ptr<grpc::ClientAsyncResponseReader<pb::LeaseGrantResponse>> reader;
};

double Grant(const std::string& endpoint, int64_t count, int64_t ttl) {
  std::unique_ptr<pb::Lease::Stub> stub = pb::Lease::NewStub(Connect(endpoint));
  grpc::CompletionQueue queue;
  const Clock::time_point start = Clock::now();
  int64_t asked = 0, done = 0;
  while (done < count) {
    while (asked < count && asked - done < kInFlight) {
      auto* call = new GrantCall;
      pb::LeaseGrantRequest request;
      request.set_id(kFirstLease + asked++);
      request.set_ttl(ttl);
      call->reader = stub->AsyncLeaseGrant(&call->context, request, &queue);
      call->reader->Finish(&call->response, &call->status, call);
    }
    void* tag = nullptr;
    bool ok = false;
    Check(queue.Next(&tag, &ok), "the queue ended");
    std::unique_ptr<GrantCall> call(static_cast<GrantCall*>(tag));
    Check(call->status.ok(), "a grant failed: " + call->status.error_message());
    ++done;
  }
  queue.Shutdown();
  return SecondsSince(start);
}

// Renews every lease once; `kept` is when each was answered.
double Keep(const std::string& endpoint, int64_t count, int64_t ttl, std::vector<Clock::time_point>* kept) {
  std::unique_ptr<pb::Lease::Stub> stub = pb::Lease::NewStub(Connect(endpoint));
  grpc::ClientContext context;
  auto stream = stub->LeaseKeepAlive(&context);
  const Clock::time_point start = Clock::now();
  std::thread sender([&] {
    for (int64_t i = 0; i < count; ++i) {
      pb::LeaseKeepAliveRequest request;
      request.set_id(kFirstLease + i);
      Check(stream->Write(request, grpc::WriteOptions().set_buffer_hint()), "the keepalive stream ended");
    }
    stream->WritesDone();
  });
  pb::LeaseKeepAliveResponse response;
  for (int64_t i = 0; i < count; ++i) {
    Check(stream->Read(&response), "the keepalive stream ended");
    Check(response.ttl() == ttl, "lease " + std::to_string(response.id()) + " has a TTL of " +
                                     std::to_string(response.ttl()) + " after it was renewed");
    (*kept)[static_cast<size_t>(response.id() - kFirstLease)] = Clock::now();
  }
  sender.join();
  context.TryCancel();
  stream->Finish();
  return SecondsSince(start);
}

size_t Living(const std::string& endpoint) {
  grpc::ClientContext context;
  pb::LeaseLeasesResponse response;
  grpc::Status status = pb::Lease::NewStub(Connect(endpoint))->LeaseLeases(&context, {}, &response);
  Check(status.ok(), "no list of leases: " + status.error_message());
  return static_cast<size_t>(response.leases_size());
}

}  // namespace

void RunLeases(const Arguments& arguments) {
  const std::string endpoint = arguments.Text("endpoint");
  const int64_t count = arguments.Number("leases"), ttl = arguments.Number("ttl"),
                pid = arguments.Number("pid");
  const int64_t keys = count / kLeasesPerKey;
  const auto before = static_cast<int64_t>(MemoryOf(pid));
  const double granting = Grant(endpoint, count, ttl);
  const auto after = static_cast<int64_t>(MemoryOf(pid));
  Check(Living(endpoint) == static_cast<size_t>(count), "leases are missing after they were granted");
  Say("%lld leases granted at %.0f/s: %.1f MiB, %.0f bytes each", static_cast<long long>(count),
      static_cast<double>(count) / granting, Mib(after - before),
      static_cast<double>(after - before) / static_cast<double>(count));
  Putter(endpoint, {})
      .Run([&](uint64_t number) { return number < static_cast<uint64_t>(keys); },
           [&](uint64_t number, pb::PutRequest* request) {
             request->set_key(Key("l/", static_cast<int64_t>(number)));
             request->set_lease(kFirstLease + static_cast<int64_t>(number) * kLeasesPerKey);
           },
           [](uint64_t, int64_t, double) {});

  grpc::ClientContext context;
  auto watch = pb::Watch::NewStub(Connect(endpoint))->Watch(&context);
  pb::WatchRequest request;
  request.mutable_create_request()->set_key("l/");
  request.mutable_create_request()->set_range_end(PrefixEnd("l/"));
  request.mutable_create_request()->add_filters(pb::WatchCreateRequest::NOPUT);
  pb::WatchResponse response;
  Check(watch->Write(request) && watch->Read(&response) && response.created(), "no watch");

  std::vector<Clock::time_point> kept(static_cast<size_t>(count));
  const double keeping = Keep(endpoint, count, ttl, &kept);
  Check(Living(endpoint) == static_cast<size_t>(count), "leases expired before their time");
  Say("%lld leases renewed at %.0f/s on one stream", static_cast<long long>(count),
      static_cast<double>(count) / keeping);

  std::vector<double> late;
  Clock::time_point first;
  while (late.size() < static_cast<size_t>(keys)) {
    Check(watch->Read(&response), "the watch ended");
    const Clock::time_point now = Clock::now();
    if (late.empty()) first = now;
    for (const mvccpb::Event& event : response.events()) {
      const int64_t key = std::stoll(event.kv().key().substr(2));
      const double lived =
          std::chrono::duration<double>(now - kept[static_cast<size_t>(key * kLeasesPerKey)]).count();
      late.push_back(lived - static_cast<double>(ttl));
    }
  }
  const double expiring = SecondsSince(first);
  const Clock::time_point last = Clock::now();
  while (Living(endpoint) > 0) {
    Check(SecondsSince(last) < 60, "leases live on");
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  const double p50 = Percentile(late, 0.5), p99 = Percentile(late, 0.99);
  Say("%lld leases expired within %.1f s (%.0f/s); late by %.2f s (median), %.2f s (p99), %.2f s (most), "
      "earliest %.2f s",
      static_cast<long long>(count), expiring, static_cast<double>(count) / std::max(expiring, 0.001), p50,
      p99, late.back(), late.front());
  // The renewal was made before its answer came, so a lease may seem to end that much too early.
  Check(late.front() > -1, "a lease expired " + std::to_string(-late.front()) + " s too early");
  context.TryCancel();
  watch->Finish();
}

}  // namespace kvd::scale
