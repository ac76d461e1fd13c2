// A long list to a client that takes its time, unary and streamed, while others write, compact and call: what
// it costs the writers and the member, and whether it is right.
#include <atomic>
#include <thread>

#include "etcdserverpb/rpc.grpc.pb.h"
#include "slow_http2.h"
#include "support.h"

namespace kvd::scale {
namespace {

namespace pb = etcdserverpb;

struct Writers {
  Writers(const Arguments& arguments) : arguments_(arguments), thread_([this] { Run(); }) {}
  ~Writers() { Stop(); }
  void Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  std::vector<double> seconds;  // once stopped

 private:
  // Keys beside the list, and every fourth time one of the list.
  void Run() {
    const uint64_t keys = static_cast<uint64_t>(arguments_.Number("keys"));
    Putter(arguments_.Text("endpoint"),
           {.per_second = static_cast<double>(arguments_.Number("writes-per-second")), .in_flight = 64})
        .Run([this](uint64_t) { return !stop_; },
             [keys](uint64_t number, pb::PutRequest* request) {
               request->set_key(number % 4 == 0 ? Key("list/", static_cast<int64_t>(number * 7919 % keys))
                                                : Key("beside/", static_cast<int64_t>(number % 1000)));
               request->set_value(std::string(256, 'n'));
             },
             [this](uint64_t, int64_t, double took) { seconds.push_back(took); });
  }
  const Arguments& arguments_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

class Sampler {
 public:
  explicit Sampler(int64_t pid) : pid_(pid), thread_([this] { Run(); }) {}
  ~Sampler() { Stop(); }
  int64_t Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    return most_;
  }

 private:
  void Run() {
    while (!stop_) {
      most_ = std::max(most_.load(), static_cast<int64_t>(MemoryOf(pid_)));
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
  const int64_t pid_;
  std::atomic<bool> stop_{false};
  std::atomic<int64_t> most_{0};
  std::thread thread_;
};

void Fill(const Arguments& arguments) {
  const int64_t keys = arguments.Number("keys");
  const std::string value(static_cast<size_t>(arguments.Number("value-bytes")), 'v');
  Putter(arguments.Text("endpoint"), {})
      .Run([&](uint64_t number) { return number < static_cast<uint64_t>(keys); },
           [&](uint64_t number, pb::PutRequest* request) {
             request->set_key(Key("list/", static_cast<int64_t>(number)));
             request->set_value(value);
           },
           [](uint64_t, int64_t, double) {});
}

void CompactNow(const std::string& endpoint) {
  std::unique_ptr<pb::KV::Stub> stub = pb::KV::NewStub(Connect(endpoint));
  pb::RangeRequest range;
  range.set_key("k");
  pb::RangeResponse ranged;
  grpc::ClientContext first, second;
  Check(stub->Range(&first, range, &ranged).ok(), "no revision to compact at");
  pb::CompactionRequest compact;
  compact.set_revision(ranged.header().revision());
  pb::CompactionResponse response;
  grpc::Status status = stub->Compact(&second, compact, &response);
  Check(status.ok(), "no compaction: " + status.error_message());
}

// What a list must be: every key once, in order, of one revision, and the count at its end.
class ListCheck {
 public:
  explicit ListCheck(int64_t keys) : keys_(keys) {}
  void Field(uint32_t number, std::string_view bytes, uint64_t value) {
    if (number == 1) {
      pb::ResponseHeader header;
      Check(header.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())), "not a header");
      revision_ = header.revision();
    } else if (number == 2) {
      mvccpb::KeyValue kv;
      Check(kv.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())), "not a key-value");
      Check(kv.key() == Key("list/", seen_), "expected " + Key("list/", seen_) + ", got " + kv.key());
      newest_ = std::max(newest_, kv.mod_revision());
      ++seen_;
    } else if (number == 4) {
      count_ = static_cast<int64_t>(value);
    }
  }
  void End() const {
    Check(seen_ == keys_ && count_ == keys_, "the list has " + std::to_string(seen_) + " keys and says " +
                                                 std::to_string(count_) + " of " + std::to_string(keys_));
    Check(newest_ <= revision_, "the list holds a write after its revision");
  }

 private:
  const int64_t keys_;
  int64_t seen_ = 0, count_ = 0, newest_ = 0, revision_ = 0;
};

struct Rest {
  double p99 = 0;
  double ping_p99 = 0;
  int64_t memory = 0;
};

void RunOne(const Arguments& arguments, bool streamed, const Rest& rest) {
  const std::string endpoint = arguments.Text("endpoint");
  pb::RangeRequest request;
  request.set_key("list/");
  request.set_range_end(PrefixEnd("list/"));
  pb::RangeRequest ping;
  ping.set_key(Key("beside/", 0));
  ListCheck check(arguments.Number("keys"));
  FieldStream inner(
      [&](uint32_t number, std::string_view bytes, uint64_t value) { check.Field(number, bytes, value); });
  FieldStream outer([&](uint32_t number, std::string_view bytes, uint64_t value) {
    if (!streamed) return check.Field(number, bytes, value);
    std::string framed(1, '\0');  // RangeStreamResponse.range_response
    for (int shift : {24, 16, 8, 0}) framed += static_cast<char>(bytes.size() >> shift);
    inner.Add(framed.append(bytes));
  });
  uint64_t bytes = 0;
  std::atomic<bool> begun{false};
  Sampler memory(arguments.Number("pid"));
  Writers writers(arguments);
  std::thread compactor([&] {
    while (!begun) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CompactNow(endpoint);
  });
  std::vector<double> pings;
  const Clock::time_point start = Clock::now();
  double first = 0;
  SlowHttp2 client(endpoint);
  client.Run(
      streamed ? "/etcdserverpb.KV/RangeStream" : "/etcdserverpb.KV/Range", request.SerializeAsString(),
      static_cast<double>(arguments.Number("list-bytes-per-second")),
      [&](std::string_view part) {
        if (bytes == 0) first = SecondsSince(start);
        begun = true;
        bytes += part.size();
        outer.Add(part);
      },
      "/etcdserverpb.KV/Range", ping.SerializeAsString(), 10, &pings);
  const double took = SecondsSince(start);
  compactor.join();
  writers.Stop();
  const int64_t most = memory.Stop();
  check.End();
  const double p99 = Percentile(writers.seconds, 0.99), ping_p99 = Percentile(pings, 0.99);
  Say("%s list of %.0f MiB in %.1f s (first byte after %.2f s): member memory at most %.1f MiB, %.1f MiB "
      "without it; put "
      "p99 %.2f ms, %.2f ms without it (%.2fx); another call on its connection p99 %.2f ms, %.2f ms without "
      "it",
      streamed ? "streamed" : "unary", Mib(static_cast<int64_t>(bytes)), took, first, Mib(most),
      Mib(rest.memory), p99 * 1e3, rest.p99 * 1e3, p99 / rest.p99, ping_p99 * 1e3, rest.ping_p99 * 1e3);
  Check(most - rest.memory < int64_t{64} << 20,
        "the member grew by " + std::to_string(Mib(most - rest.memory)) + " MiB");
}

// The same writers and calls, and no list.
Rest Measure(const Arguments& arguments) {
  Sampler memory(arguments.Number("pid"));
  Writers writers(arguments);
  const Clock::time_point start = Clock::now();
  const double seconds = static_cast<double>(arguments.Number("rest-seconds"));
  std::vector<double> pings;
  SlowHttp2 client(arguments.Text("endpoint"));
  pb::RangeRequest ping;
  ping.set_key(Key("beside/", 0));
  while (SecondsSince(start) < seconds) {
    client.Run(
        "/etcdserverpb.KV/Range", ping.SerializeAsString(), 0, [](std::string_view) {},
        "/etcdserverpb.KV/Range", ping.SerializeAsString(), 10, &pings);
    std::this_thread::sleep_for(std::chrono::milliseconds(9));
  }
  writers.Stop();
  Rest rest;
  rest.memory = memory.Stop();
  rest.p99 = Percentile(writers.seconds, 0.99);
  rest.ping_p99 = Percentile(pings, 0.99);
  return rest;
}

}  // namespace

void RunList(const Arguments& arguments) {
  Fill(arguments);
  const Rest rest = Measure(arguments);
  RunOne(arguments, false, rest);
  RunOne(arguments, true, rest);
}

}  // namespace kvd::scale
