// A watch whose client stops reading while events pass: the same events are written twice, first with a
// client that reads, so that what the writes themselves cost in memory is known.
#include <atomic>
#include <mutex>
#include <thread>

#include "etcdserverpb/rpc.grpc.pb.h"
#include "support.h"

namespace kvd::scale {
namespace {

namespace pb = etcdserverpb;

// Reads one watch on a thread, and stops when told to.
class Reader {
 public:
  Reader(const std::string& endpoint, const std::string& prefix)
      : stub_(pb::Watch::NewStub(Connect(endpoint))), stream_(stub_->Watch(&context_)) {
    pb::WatchRequest request;
    request.mutable_create_request()->set_key(prefix);
    request.mutable_create_request()->set_range_end(PrefixEnd(prefix));
    Check(stream_->Write(request), "no watch");
    pb::WatchResponse response;
    Check(stream_->Read(&response) && response.created(), "no watch");
    thread_ = std::thread([this] { Read(); });
  }
  ~Reader() {
    Pause(false);
    context_.TryCancel();
    thread_.join();
  }
  void Pause(bool paused) {
    if (paused_.exchange(paused) == paused) return;
    if (paused) {
      gate_.lock();
    } else {
      gate_.unlock();
    }
  }
  int64_t events() const { return events_; }

 private:
  void Read() {
    pb::WatchResponse response;
    while (true) {
      { std::lock_guard<std::mutex> open(gate_); }
      if (!stream_->Read(&response)) return;
      Check(!response.canceled(), "the watch was cancelled: " + response.cancel_reason());
      for (const mvccpb::Event& event : response.events()) {
        Check(event.kv().mod_revision() == last_ + 1 || last_ == 0, "an event is missing, or out of order");
        last_ = event.kv().mod_revision();
        ++events_;
      }
    }
  }

  grpc::ClientContext context_;
  std::unique_ptr<pb::Watch::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<pb::WatchRequest, pb::WatchResponse>> stream_;
  std::mutex gate_;
  std::atomic<bool> paused_{false};
  std::atomic<int64_t> events_{0};
  int64_t last_ = 0;
  std::thread thread_;
};

// Gives the most memory the member took.
int64_t Write(const Arguments& arguments, const std::string& prefix, int64_t* written) {
  const int64_t value_bytes = arguments.Number("value-bytes");
  const int64_t count = arguments.Number("bytes") / value_bytes;
  const int64_t pid = arguments.Number("pid");
  const double seconds = static_cast<double>(arguments.Number("seconds"));
  const std::string value(static_cast<size_t>(value_bytes), 'e');
  int64_t most = 0;
  Putter(arguments.Text("endpoint"), {.per_second = static_cast<double>(count) / seconds, .in_flight = 64})
      .Run([&](uint64_t number) { return number < static_cast<uint64_t>(count); },
           [&](uint64_t number, pb::PutRequest* request) {
             request->set_key(Key(prefix, static_cast<int64_t>(number % 1000)));
             request->set_value(value);
           },
           [&](uint64_t number, int64_t, double) {
             if (number % 64 == 0) most = std::max(most, static_cast<int64_t>(MemoryOf(pid)));
           });
  *written = count;
  return most;
}

void AwaitEvents(const Reader& reader, int64_t count) {
  const Clock::time_point start = Clock::now();
  while (reader.events() < count) {
    Check(SecondsSince(start) < 120, "only " + std::to_string(reader.events()) + " of " +
                                         std::to_string(count) + " events came within 120 s");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace

void RunSlowReader(const Arguments& arguments) {
  Reader reader(arguments.Text("endpoint"), "s/");
  int64_t first = 0, second = 0;
  const int64_t before = Write(arguments, "s/", &first);
  AwaitEvents(reader, first);
  reader.Pause(true);
  const Clock::time_point stopped = Clock::now();
  const int64_t with_slow = Write(arguments, "s/", &second);
  Check(reader.events() < first + second, "the reader did not stop");
  const double silent = SecondsSince(stopped);
  reader.Pause(false);
  const Clock::time_point resumed = Clock::now();
  AwaitEvents(reader, first + second);
  const double growth = Mib(with_slow - before);
  Say("%.1f MiB of events passed a reader that was silent for %.1f s: member memory at most %.1f MiB, %.1f "
      "MiB with a "
      "reader that reads; all %lld events came, in order, %.1f s after it went on",
      Mib(second * arguments.Number("value-bytes")), silent, Mib(with_slow), Mib(before),
      static_cast<long long>(second), SecondsSince(resumed));
  Check(growth < 64, "the member grew by " + std::to_string(growth) + " MiB");
}

}  // namespace kvd::scale
