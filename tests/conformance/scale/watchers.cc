// Very many watchers: each stream has one on the keys of ten streams together and all others on one key each,
// so that every write reaches eleven watchers. What each of them is told is compared with what was written.
#include <algorithm>
#include <atomic>
#include <map>
#include <thread>

#include "etcdserverpb/rpc.grpc.pb.h"
#include "support.h"

namespace kvd::scale {
namespace {

namespace pb = etcdserverpb;

constexpr int64_t kStreamsPerConnection = 100;
constexpr int64_t kStreamsPerGroup = 10;

// A watch stream on a completion queue: one operation of each kind at a time.
struct Stream {
  enum class Op : uintptr_t { kStart, kRead, kWrite };
  int64_t number = 0;
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientAsyncReaderWriter<pb::WatchRequest, pb::WatchResponse>> call;
  pb::WatchResponse response;
  int64_t created = 0;
  int64_t asked = 0;
  int64_t wanted = 0;  // watches to be created
  bool started = false;
  bool writing = false;
  std::map<int64_t, std::vector<int64_t>> seen;  // by watch ID: revisions
};

class Watchers {
 public:
  Watchers(const Arguments& arguments)
      : endpoint_(arguments.Text("endpoint")),
        pid_(arguments.Number("pid")),
        streams_(static_cast<size_t>(arguments.Number("streams"))),
        per_stream_(arguments.Number("watchers-per-stream")),
        rate_(static_cast<double>(arguments.Number("writes-per-second"))),
        seconds_(static_cast<double>(arguments.Number("seconds"))) {}

  void Run() {
    const int64_t idle = static_cast<int64_t>(MemoryOf(pid_));
    Open();
    const int64_t with_streams = CreateWatches(1);
    const int64_t with_watchers = CreateWatches(per_stream_);
    const int64_t streams = static_cast<int64_t>(streams_.size());
    Say("%lld watchers on %lld streams: %.0f bytes per stream with its first watcher, %.0f bytes per idle "
        "watcher",
        static_cast<long long>(streams) * per_stream_, static_cast<long long>(streams),
        static_cast<double>(with_streams - idle) / static_cast<double>(streams),
        static_cast<double>(with_watchers - with_streams) / static_cast<double>(streams * (per_stream_ - 1)));
    Write();
    Compare();
    queue_.Shutdown();
    for (auto& stream : streams_) stream->context.TryCancel();
    std::_Exit(0);  // the calls under way need no answer
  }

 private:
  static void* Tag(Stream* stream, Stream::Op op) {
    return reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(stream) | static_cast<uintptr_t>(op));
  }

  std::string KeyOf(int64_t stream, int64_t watch) const { return Key("w/", stream * per_stream_ + watch); }

  void Open() {
    std::shared_ptr<grpc::Channel> channel;
    for (size_t i = 0; i < streams_.size(); ++i) {
      if (i % kStreamsPerConnection == 0) channel = Connect(endpoint_);
      streams_[i] = std::make_unique<Stream>();
      streams_[i]->number = static_cast<int64_t>(i);
      streams_[i]->call = pb::Watch::NewStub(channel)->PrepareAsyncWatch(&streams_[i]->context, &queue_);
      streams_[i]->call->StartCall(Tag(streams_[i].get(), Stream::Op::kStart));
    }
  }

  // Gives the member's memory once every stream has so many watches.
  int64_t CreateWatches(int64_t per_stream) {
    for (auto& stream : streams_) {
      stream->wanted = per_stream;
      if (stream->started) AskMore(*stream);
    }
    const Clock::time_point start = Clock::now();
    while (std::any_of(streams_.begin(), streams_.end(),
                       [&](const auto& s) { return s->created < per_stream; })) {
      Poll();
      Check(SecondsSince(start) < 300, "not all watches were created within 300 s");
    }
    return static_cast<int64_t>(MemoryOf(pid_));
  }

  void AskMore(Stream& stream) {
    if (stream.writing || stream.asked >= stream.wanted) return;
    pb::WatchRequest request;
    pb::WatchCreateRequest* create = request.mutable_create_request();
    create->set_watch_id(stream.asked + 1);
    if (stream.asked == 0) {
      const int64_t first = stream.number - stream.number % kStreamsPerGroup;
      create->set_key(KeyOf(first, 0));
      create->set_range_end(KeyOf(first + kStreamsPerGroup, 0));
    } else {
      create->set_key(KeyOf(stream.number, stream.asked));
    }
    ++stream.asked;
    stream.writing = true;
    stream.call->Write(request, Tag(&stream, Stream::Op::kWrite));
  }

  void Poll() {
    void* tag = nullptr;
    bool ok = false;
    auto wait = std::chrono::system_clock::now() + std::chrono::milliseconds(20);
    if (queue_.AsyncNext(&tag, &ok, wait) != grpc::CompletionQueue::GOT_EVENT) return;
    const auto bits = reinterpret_cast<uintptr_t>(tag);
    Stream& stream = *reinterpret_cast<Stream*>(bits & ~uintptr_t{3});
    Check(ok, "a watch stream ended");
    switch (static_cast<Stream::Op>(bits & 3)) {
      case Stream::Op::kStart:
        stream.started = true;
        AskMore(stream);
        stream.call->Read(&stream.response, Tag(&stream, Stream::Op::kRead));
        break;
      case Stream::Op::kWrite:
        stream.writing = false;
        AskMore(stream);
        break;
      case Stream::Op::kRead:
        OnResponse(stream);
        stream.call->Read(&stream.response, Tag(&stream, Stream::Op::kRead));
        break;
    }
  }

  void OnResponse(Stream& stream) {
    const pb::WatchResponse& response = stream.response;
    Check(!response.canceled(), "a watch was cancelled: " + response.cancel_reason());
    if (response.created()) {
      ++stream.created;
      return;
    }
    std::vector<int64_t>& seen = stream.seen[response.watch_id()];
    for (const mvccpb::Event& event : response.events()) {
      seen.push_back(event.kv().mod_revision());
      ++received_;
      last_event_ = Clock::now();
    }
  }

  void Write() {
    const int64_t keys = static_cast<int64_t>(streams_.size()) * per_stream_;
    revisions_.resize(static_cast<size_t>(keys));
    std::vector<double> seconds;
    std::atomic<bool> written{false};
    // A walk over all keys in a scattered order.
    auto key_of = [keys](uint64_t number) {
      return static_cast<int64_t>((number * 7919 + number / static_cast<uint64_t>(keys)) %
                                  static_cast<uint64_t>(keys));
    };
    Clock::time_point end = Clock::now() + std::chrono::microseconds(static_cast<int64_t>(seconds_ * 1e6));
    std::thread writer([&] {
      Putter({endpoint_}, {.per_second = rate_, .in_flight = 512})
          .Run([&](uint64_t) { return Clock::now() < end; },
               [&](uint64_t number, pb::PutRequest* request) {
                 request->set_key(Key("w/", key_of(number)));
                 request->set_value("value of a watched key");
               },
               [&](uint64_t number, int64_t revision, double took) {
                 revisions_[static_cast<size_t>(key_of(number))].push_back(revision);
                 seconds.push_back(took);
               });
      written = true;
    });
    const Clock::time_point start = Clock::now();
    while (!written) Poll();
    const double took = SecondsSince(start);
    writer.join();
    for (auto& revisions : revisions_) std::sort(revisions.begin(), revisions.end());
    for (int64_t i = 0; i < keys; ++i) {
      const int64_t alone = i % per_stream_ == 0 ? 0 : 1;  // the first watch of a stream is on the group
      const int64_t group = i / per_stream_ / kStreamsPerGroup * kStreamsPerGroup;
      const int64_t wide = std::min<int64_t>(kStreamsPerGroup, static_cast<int64_t>(streams_.size()) - group);
      expected_ += static_cast<int64_t>(revisions_[static_cast<size_t>(i)].size()) * (alone + wide);
    }
    const Clock::time_point last_write = Clock::now();
    while (received_ < expected_ && SecondsSince(last_write) < 60) Poll();
    // Whatever is too much comes now.
    const Clock::time_point rest = Clock::now();
    while (SecondsSince(rest) < 1) Poll();
    Say("%.0f writes/s for %.1f s, put p50 %.1f ms, p99 %.1f ms; %lld events of %lld (%.0f/s), the last %.0f "
        "ms after "
        "the last answer",
        static_cast<double>(seconds.size()) / took, took, Percentile(seconds, 0.5) * 1e3,
        Percentile(seconds, 0.99) * 1e3, static_cast<long long>(received_), static_cast<long long>(expected_),
        static_cast<double>(received_) / took,
        std::max(0.0, std::chrono::duration<double>(last_event_ - last_write).count()) * 1e3);
  }

  void Compare() {
    for (auto& stream : streams_) {
      for (int64_t watch = 1; watch <= per_stream_; ++watch) {
        std::vector<int64_t> want;
        if (watch == 1) {
          const int64_t first = (stream->number - stream->number % kStreamsPerGroup) * per_stream_;
          const int64_t last =
              std::min(first + kStreamsPerGroup * per_stream_, static_cast<int64_t>(revisions_.size()));
          for (int64_t i = first; i < last; ++i) {
            const auto& more = revisions_[static_cast<size_t>(i)];
            want.insert(want.end(), more.begin(), more.end());
          }
          std::sort(want.begin(), want.end());
        } else {
          want = revisions_[static_cast<size_t>(stream->number * per_stream_ + watch - 1)];
        }
        Check(stream->seen[watch] == want, "stream " + std::to_string(stream->number) + ", watch " +
                                               std::to_string(watch) +
                                               ": events lost, repeated or out of order");
      }
    }
    Say("no event was lost, repeated or out of order");
  }

  const std::string endpoint_;
  const int64_t pid_;
  grpc::CompletionQueue queue_;
  std::vector<std::unique_ptr<Stream>> streams_;
  const int64_t per_stream_;
  const double rate_;
  const double seconds_;
  std::vector<std::vector<int64_t>> revisions_;  // of each key; the writer's until it is done
  int64_t expected_ = 0;
  int64_t received_ = 0;
  Clock::time_point last_event_;
};

}  // namespace

void RunWatchers(const Arguments& arguments) {
  Watchers(arguments).Run();
}

}  // namespace kvd::scale
