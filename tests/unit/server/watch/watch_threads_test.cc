// The hub on real threads: the apply thread, the hub's two executors and peers of their own, all at once.
#include <atomic>
#include <condition_variable>
#include <future>
#include <mutex>

#include "base/executor.h"
#include "watch_fixture.h"

namespace kvd::server {
namespace {

// A peer that takes what it is sent a little later, on a thread of its own.
class LaggingSink final : public WatchSink {
 public:
  explicit LaggingSink(base::Executor& peer) : peer_(peer) {}

  void Send(ResponseBatch responses) override {
    queued_.fetch_add(responses.size());
    peer_.Post([this, responses = std::move(responses)] { Take(responses); });
  }
  size_t queued_bytes() override { return queued_.load(); }
  void Finish(absl::StatusCode, std::string_view) override { finished_.set_value(); }

  std::vector<int64_t> Revisions() {
    std::lock_guard lock(mu_);
    return revisions_;
  }
  std::future<void> WhenFinished() { return finished_.get_future(); }

  WatchStream* stream = nullptr;  // set before the first request

 private:
  void Take(const ResponseBatch& responses) {
    responses.ForEach([&](std::string_view message) {
      etcdserverpb::WatchResponse response;
      EXPECT_TRUE(response.ParseFromString(std::string(message)));
      std::lock_guard lock(mu_);
      for (const auto& event : response.events()) revisions_.push_back(event.kv().mod_revision());
    });
    queued_.fetch_sub(responses.size());
    stream->OnWritable();
  }

  base::Executor& peer_;
  std::atomic<size_t> queued_{0};
  std::promise<void> finished_;
  std::mutex mu_;
  std::vector<int64_t> revisions_;
};

TEST(WatchThreads, EveryStreamGetsEveryRevision) {
  constexpr int64_t kWrites = 3000;
  constexpr int kStreams = 6;
  base::ThreadExecutor watch("watch");
  base::ThreadExecutor background("background");
  base::ThreadExecutor apply("apply");
  base::ThreadExecutor peer("peer");
  FixedHeaders headers;
  auto store = NewStore(background);
  WatchHub hub({.max_queued_bytes = 4000, .slice_events = 50, .max_backlog_bytes = 50'000}, *store, headers,
               watch, background);
  store->SetObserver(&hub.observer());
  std::vector<std::shared_ptr<LaggingSink>> sinks;
  std::vector<std::unique_ptr<WatchStream>> streams;
  etcdserverpb::WatchRequest request;
  request.mutable_create_request()->set_key("a");
  request.mutable_create_request()->set_start_revision(2);
  request.mutable_create_request()->set_prev_kv(true);
  std::promise<void> written;
  apply.Post([&] {
    for (uint64_t i = 1; i <= kWrites; ++i) Write(*store, i, {{false, "a", std::string(i % 100, 'x')}});
    written.set_value();
  });
  for (int i = 0; i < kStreams; ++i) {
    sinks.push_back(std::make_shared<LaggingSink>(peer));
    streams.push_back(hub.Open(sinks.back()));
    sinks.back()->stream = streams.back().get();
    streams.back()->OnRequest(request.SerializeAsString());
  }
  written.get_future().wait();
  std::vector<int64_t> want;
  want.reserve(kWrites);
  for (int64_t r = 2; r <= kWrites + 1; ++r) want.push_back(r);
  // Each look goes through the executors, so it waits for them rather than for a time.
  for (int i = 0; i < kStreams; ++i) {
    for (int looks = 0; looks < 100'000 && sinks[i]->Revisions().size() < want.size(); ++looks) {
      std::promise<void> seen;
      watch.Post([&] { peer.Post([&] { seen.set_value(); }); });
      seen.get_future().wait();
    }
    EXPECT_EQ(sinks[i]->Revisions(), want);
  }
  std::vector<std::future<void>> ends;
  ends.reserve(sinks.size());
  for (auto& sink : sinks) ends.push_back(sink->WhenFinished());
  hub.Shutdown(absl::StatusCode::kUnavailable, "etcdserver: server stopped");
  for (auto& end : ends) end.wait();
  apply.Stop();
  watch.Stop();
  background.Stop();
  peer.Stop();
  store->SetObserver(nullptr);
}

// Says on whose thread it was given events.
class ThreadSink final : public WatchSink {
 public:
  void Send(ResponseBatch responses) override {
    std::lock_guard lock(mu_);
    responses.ForEach([this](std::string_view message) {
      etcdserverpb::WatchResponse response;
      EXPECT_TRUE(response.ParseFromString(std::string(message)));
      responses_ += 1;
      if (!response.created()) thread_ = base::Executor::OfThisThread();
    });
    changed_.notify_all();
  }
  size_t queued_bytes() override { return 0; }
  void Finish(absl::StatusCode, std::string_view) override {}

  // Of the last event, once there have been so many responses.
  base::Executor* ThreadOf(int responses) {
    std::unique_lock lock(mu_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(20), [&] { return responses_ >= responses; }));
    return thread_;
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  int responses_ = 0;
  base::Executor* thread_ = nullptr;
};

TEST(WatchThreads, TheApplyThreadStandsInForAnIdleHub_UnlessThereIsMuchToDo) {
  base::ThreadExecutor watch("watch");
  base::ThreadExecutor background("background");
  base::ThreadExecutor apply("apply");
  FixedHeaders headers;
  auto store = NewStore(background);
  WatchHub hub({}, *store, headers, watch, background);
  store->SetObserver(&hub.observer());
  uint64_t index = 0;
  const auto put = [&](const std::string& key) {
    apply.Post([&store, key, i = ++index] { Write(*store, i, {{false, key, "v"}}); });
  };
  auto sink = std::make_shared<ThreadSink>();
  const auto stream = hub.Open(sink);
  etcdserverpb::WatchRequest request;
  request.mutable_create_request()->set_key("a");
  stream->OnRequest(request.SerializeAsString());
  int responses = 1;
  sink->ThreadOf(responses);
  base::Executor* last = nullptr;
  for (int i = 0; i < 10'000 && last != &apply; ++i) {  // the hub may be at work still
    put("a");
    last = sink->ThreadOf(++responses);
  }
  EXPECT_EQ(last, &apply);

  const auto expect_on_watch = [&](const std::string& key, int watchers, bool prev_kv) {
    auto many = std::make_shared<ThreadSink>();
    const auto other = hub.Open(many);
    request.mutable_create_request()->set_key(key);
    request.mutable_create_request()->set_prev_kv(prev_kv);
    for (int i = 0; i < watchers; ++i) other->OnRequest(request.SerializeAsString());
    many->ThreadOf(watchers);
    for (int i = 2; i < 50; ++i) {
      put(key);
      EXPECT_EQ(many->ThreadOf(i * watchers), &watch);
    }
  };
  expect_on_watch("many", 100, false);
  expect_on_watch("previous", 1, true);
  apply.Stop();
  watch.Stop();
  background.Stop();
  store->SetObserver(nullptr);
}

}  // namespace
}  // namespace kvd::server
