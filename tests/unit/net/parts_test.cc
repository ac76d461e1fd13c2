// The parts of the front door that need no socket.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/random.h"
#include "net/grpc_wire.h"
#include "net/http_call.h"
#include "net/io_threads.h"
#include "net/out_buffer.h"
#include "net/ping_policy.h"
#include "net/router.h"
#include "net/timer_wheel.h"

namespace kvd::net {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

TEST(GrpcTimeout, Units_AndMalformed) {
  EXPECT_EQ(ParseGrpcTimeout("2H"), base::Nanos(hours(2)));
  EXPECT_EQ(ParseGrpcTimeout("3M"), base::Nanos(std::chrono::minutes(3)));
  EXPECT_EQ(ParseGrpcTimeout("4S"), base::Nanos(seconds(4)));
  EXPECT_EQ(ParseGrpcTimeout("5m"), base::Nanos(milliseconds(5)));
  EXPECT_EQ(ParseGrpcTimeout("6u"), base::Nanos(std::chrono::microseconds(6)));
  EXPECT_EQ(ParseGrpcTimeout("7n"), base::Nanos(7));
  EXPECT_EQ(ParseGrpcTimeout("99999999H"), base::Nanos::max());
  for (const char* bad : {"", "S", "5", "5s", "-5S", "123456789S", "1.5S", "5 S"}) {
    EXPECT_EQ(ParseGrpcTimeout(bad), std::nullopt) << bad;
  }
}

TEST(GrpcWire, PercentEncode_OnlyWhatMust) {
  EXPECT_EQ(PercentEncode("etcdserver: \"x\" ~"), "etcdserver: \"x\" ~");
  EXPECT_EQ(PercentEncode("50%\n\x7f\xc3\xa9"), "50%25%0A%7F%C3%A9");
}

TEST(GrpcWire, ContentType_Forms) {
  EXPECT_TRUE(IsGrpcContentType("application/grpc"));
  EXPECT_TRUE(IsGrpcContentType("application/grpc+proto"));
  EXPECT_TRUE(IsGrpcContentType("application/grpc;x=y"));
  EXPECT_FALSE(IsGrpcContentType("application/grpc-web"));
  EXPECT_FALSE(IsGrpcContentType("application/json"));
  EXPECT_FALSE(IsGrpcContentType(""));
}

TEST(MessageAssembler, AnySplit_SameMessages) {
  std::string wire;
  std::vector<std::string> expected;
  for (size_t size : {0, 1, 300, 0, 5000}) {
    char prefix[kGrpcPrefixBytes];
    StoreGrpcPrefix(prefix, static_cast<uint32_t>(size));
    expected.push_back(std::string(size, static_cast<char>('a' + expected.size())));
    wire.append(prefix, sizeof prefix);
    wire += expected.back();
  }
  for (size_t step : {1, 2, 3, 7, 100, 6000}) {
    MessageAssembler assembler;
    assembler.Reset(5000);
    std::vector<std::string> got;
    for (size_t at = 0; at < wire.size(); at += step) {
      std::string_view data = std::string_view(wire).substr(at, step);
      while (!data.empty()) {
        auto next = assembler.Feed(&data);
        ASSERT_NE(next, MessageAssembler::Next::kError);
        if (next == MessageAssembler::Next::kMessage) got.push_back(assembler.message());
      }
    }
    EXPECT_EQ(got, expected) << step;
    EXPECT_FALSE(assembler.in_message());
  }
}

TEST(MessageAssembler, BadPrefix_CodeAndText) {
  struct Case {
    std::string wire;
    StatusCode code;
    std::string text;
  };
  const Case cases[] = {
      {std::string("\1\0\0\0\1x", 6), StatusCode::kInternal,
       "compressed flag set with identity or empty encoding"},
      {std::string("\7\0\0\0\1x", 6), StatusCode::kInternal, "unexpected payload format 7"},
      {std::string("\0\0\0\0\x65", 5), StatusCode::kResourceExhausted, "larger than max (101 vs. 100)"},
      {std::string("\0\xff\xff\xff\xff", 5), StatusCode::kResourceExhausted, "(4294967295 vs. 100)"},
  };
  for (const Case& c : cases) {
    MessageAssembler assembler;
    assembler.Reset(100);
    std::string_view data = c.wire;
    ASSERT_EQ(assembler.Feed(&data), MessageAssembler::Next::kError);
    EXPECT_EQ(assembler.error_code(), c.code);
    EXPECT_THAT(assembler.error(), testing::HasSubstr(c.text));
  }
  MessageAssembler assembler;
  assembler.Reset(100);
  assembler.set_gzip(true);
  std::string_view data("\1\0\0\0\4junk", 9);
  ASSERT_EQ(assembler.Feed(&data), MessageAssembler::Next::kError);
  EXPECT_EQ(assembler.error_code(), StatusCode::kInternal);
}

std::string Drain(OutBuffer& buffer, size_t step) {
  std::string all;
  while (!buffer.empty()) {
    iovec ranges[3];
    int n = buffer.Ranges(ranges, 3);
    if (n <= 0) return all + "<stuck>";
    size_t taken = 0;
    for (int i = 0; i < n && taken < step; ++i) {
      size_t part = std::min(ranges[i].iov_len, step - taken);
      all.append(static_cast<const char*>(ranges[i].iov_base), part);
      taken += part;
    }
    buffer.Take(taken);
  }
  return all;
}

TEST(OutBuffer, RandomMixture_AgainstAString) {
  base::Random random(7);
  for (int round = 0; round < 200; ++round) {
    OutBuffer buffer, other;
    std::string expected, got;
    for (int i = 0; i < 60; ++i) {
      std::string bytes(random.Below(3) == 0 ? random.Below(40'000) : random.Below(100),
                        static_cast<char>('a' + i % 26));
      switch (random.Below(5)) {
        case 0:
          buffer.AppendCopy(bytes);
          expected += bytes;
          break;
        case 1:
          buffer.Append(Message(bytes));
          expected += bytes;
          break;
        case 2: {
          Message message;
          message.AppendCopy("<");
          message.Append(Piece(bytes));
          message.AppendCopy(">");
          expected += "<" + bytes + ">";
          buffer.Append(std::move(message));
          break;
        }
        case 3: {  // a part is taken, and more comes behind it
          size_t before = buffer.size();
          size_t n = random.Below(before + 1);
          buffer.MoveTo(other, n);
          ASSERT_EQ(buffer.size(), before - n);
          break;
        }
        default: {
          iovec ranges[64];
          if (!other.empty() && other.Ranges(ranges, 64) > 0) {
            size_t n = 1 + random.Below(ranges[0].iov_len);
            got.append(static_cast<const char*>(ranges[0].iov_base), n);
            other.Take(n);
          }
          break;
        }
      }
      ASSERT_EQ(got.size() + other.size() + buffer.size(), expected.size());
    }
    buffer.MoveTo(other, buffer.size());
    got += Drain(other, 1 + random.Below(50'000));
    ASSERT_EQ(got, expected) << round;
  }
}

struct Alarm : WheelTimer {
  void OnTimer() override {
    fired = true;
    if (action) action();
  }
  bool fired = false;
  std::function<void()> action;
};

TEST(TimerWheel, RandomTimers_NeverEarly_HardlyLate) {
  base::Random random(11);
  TimerWheel wheel;
  base::Nanos now = seconds(1000);
  struct Entry {
    Alarm alarm;
    base::Nanos due{0};
    bool disarmed = false;
  };
  std::vector<std::unique_ptr<Entry>> entries;
  for (int step = 0; step < 20'000; ++step) {
    if (random.Below(4) == 0) {
      auto entry = std::make_unique<Entry>();
      entry->due = now + milliseconds(random.Below(20'000));
      wheel.Arm(entry->alarm, now, entry->due);
      entries.push_back(std::move(entry));
    }
    if (!entries.empty() && random.Below(10) == 0) {
      Entry& entry = *entries[random.Below(entries.size())];
      if (entry.alarm.armed()) entry.disarmed = true;
      entry.alarm.Disarm();
    }
    base::Nanos wake = wheel.NextWake();
    now += nanoseconds(random.Below(10'000'000));
    if (wake <= now) wheel.Advance(now);
    for (auto& entry : entries) {
      bool fired = entry->alarm.fired;
      ASSERT_FALSE(fired && (entry->disarmed || entry->due > now));
      ASSERT_TRUE(fired || entry->disarmed || entry->due + 2 * TimerWheel::kTick >= now);
    }
    std::erase_if(entries, [&](const auto& entry) { return !entry->alarm.armed(); });
  }
}

TEST(TimerWheel, CallbackDisarmsAnother_OfTheSameTick_NotCalled) {
  TimerWheel wheel;
  Alarm a, b;
  a.action = [&] { b.Disarm(); };
  b.action = [&] { a.Disarm(); };
  wheel.Arm(a, seconds(1), seconds(2));
  wheel.Arm(b, seconds(1), seconds(2));
  wheel.Advance(seconds(3));
  EXPECT_NE(a.fired, b.fired);
  EXPECT_EQ(wheel.NextWake(), base::Nanos::max());
}

TEST(PingPolicy, Strikes_AsEtcdCountsThem) {
  {
    PingPolicy policy(seconds(5), false);
    base::Nanos now = seconds(100);
    // With a stream open, pings five seconds apart are welcome.
    for (int i = 0; i < 10; ++i) EXPECT_TRUE(policy.OnPing(now += seconds(5), true));
    EXPECT_TRUE(policy.OnPing(now += seconds(1), true));
    EXPECT_TRUE(policy.OnPing(now += seconds(1), true));
    EXPECT_FALSE(policy.OnPing(now += seconds(1), true));
  }
  {
    PingPolicy policy(seconds(5), false);
    base::Nanos now = seconds(100);
    EXPECT_TRUE(policy.OnPing(now, false));
    EXPECT_TRUE(policy.OnPing(now += std::chrono::minutes(1), false));
    EXPECT_TRUE(policy.OnPing(now += std::chrono::minutes(1), false));
    EXPECT_FALSE(policy.OnPing(now += std::chrono::minutes(1), false));
  }
  {
    PingPolicy policy(seconds(5), false);
    base::Nanos now = seconds(100);
    for (int i = 0; i < 100; ++i) {
      if (i % 2 == 0) policy.OnSent();  // what was sent forgives the strikes
      EXPECT_TRUE(policy.OnPing(now += milliseconds(1), true));
    }
  }
  {
    PingPolicy policy(seconds(5), true);
    base::Nanos now = seconds(100);
    for (int i = 0; i < 10; ++i) EXPECT_TRUE(policy.OnPing(now += seconds(5), false));
  }
}

TEST(Router, Http_LongestMatch_MethodsOfIt) {
  Router router;
  auto add = [&](const char* method, const char* path) { router.AddHttp(method, path, [](auto) {}); };
  add("GET", "/v3/");
  add("POST", "/v3/kv/put");
  add("GET", "/health");
  add("PUT", "/health");
  EXPECT_NE(router.FindHttp("GET", "/v3/anything").handler, nullptr);
  EXPECT_EQ(router.FindHttp("GET", "/v3/kv/put").handler, nullptr);
  EXPECT_EQ(router.FindHttp("GET", "/v3/kv/put").allow, "POST");
  EXPECT_NE(router.FindHttp("HEAD", "/health").handler, nullptr);
  EXPECT_EQ(router.FindHttp("POST", "/health").allow, "GET, PUT");
  EXPECT_EQ(router.FindHttp("GET", "/healthy").handler, nullptr);
  EXPECT_EQ(router.FindHttp("GET", "/healthy").allow, "");
}

TEST(Router, UnknownMethod_Texts) {
  Router router;
  GrpcMethod method{GrpcMethod::Kind::kUnary, "/a.B/C", [](UnaryCall) {}, nullptr, nullptr};
  router.AddGrpc(std::move(method));
  EXPECT_NE(router.FindGrpc("/a.B/C"), nullptr);
  EXPECT_EQ(router.FindGrpc("/a.B/D"), nullptr);
  EXPECT_EQ(router.UnknownMethod("/a.B/D"), "unknown method D for service a.B");
  EXPECT_EQ(router.UnknownMethod("/a.X/C"), "unknown service a.X");
  EXPECT_EQ(router.UnknownMethod("/nothing"), "malformed method name: \"nothing\"");
}

TEST(HttpRequest, Query_DecodedInOrder) {
  HttpRequest request;
  request.query = "exclude=NOSPACE&serializable=true&exclude=a%20b+c&flag";
  EXPECT_EQ(request.Query("exclude"), (std::vector<std::string>{"NOSPACE", "a b c"}));
  EXPECT_EQ(request.Query("flag"), (std::vector<std::string>{""}));
  EXPECT_TRUE(request.Query("none").empty());
}

TEST(IoThreads, ForeignPosts_ManyThreads_EachInOrder) {
  IoThreads threads(2);
  constexpr int kPosters = 4, kTasks = 5000;
  std::mutex mutex;
  std::condition_variable done;
  int finished = 0;
  std::atomic<int> disorder{0};
  std::vector<std::vector<int>> last(2, std::vector<int>(kPosters, -1));
  std::vector<std::thread> posters;
  for (int p = 0; p < kPosters; ++p) {
    posters.emplace_back([&, p] {
      for (int i = 0; i < kTasks; ++i) {
        for (int t = 0; t < 2; ++t) {
          threads.executor(t).Post([&, p, i, t] {
            if (!threads.executor(t).IsCurrent() || last[t][p] != i - 1) ++disorder;
            last[t][p] = i;
            if (i + 1 < kTasks) return;
            std::lock_guard<std::mutex> lock(mutex);
            ++finished;
            done.notify_one();
          });
        }
      }
    });
  }
  for (std::thread& thread : posters) thread.join();
  std::unique_lock<std::mutex> lock(mutex);
  ASSERT_TRUE(done.wait_for(lock, seconds(60), [&] { return finished == 2 * kPosters; }));
  EXPECT_EQ(disorder, 0);
}

TEST(IoThreads, Timers_InOrderOfTheirTime_CancelledNever) {
  IoThreads threads(1);
  base::Executor& executor = threads.executor(0);
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<int> ran;
  auto at = [&](int delay_ms) {
    return executor.PostAfter(milliseconds(delay_ms), [&, delay_ms] {
      std::lock_guard<std::mutex> lock(mutex);
      ran.push_back(delay_ms);
      changed.notify_one();
    });
  };
  at(60);
  auto cancelled = at(40);
  at(20);
  at(0);
  EXPECT_TRUE(executor.Cancel(cancelled));
  EXPECT_FALSE(executor.Cancel(cancelled));
  EXPECT_FALSE(executor.Cancel(12345));
  std::unique_lock<std::mutex> lock(mutex);
  ASSERT_TRUE(changed.wait_for(lock, seconds(60), [&] { return ran.size() == 3; }));
  EXPECT_EQ(ran, (std::vector<int>{0, 20, 60}));
}

TEST(IoThreads, Stop_QueuedTasks_DestroyedUnrun) {
  auto held = std::make_shared<int>(0);
  {
    IoThreads threads(1);
    std::mutex mutex;
    mutex.lock();
    std::atomic<bool> running{false};
    threads.executor(0).Post([&] {
      running = true;
      std::lock_guard<std::mutex> wait(mutex);
    });
    while (!running) std::this_thread::yield();
    for (int i = 0; i < 100; ++i) threads.executor(0).Post([held] { ++*held; });
    threads.executor(0).PostAfter(hours(1), [held] { ++*held; });
    std::thread stopper([&] { threads.Stop(); });
    mutex.unlock();
    stopper.join();
  }
  EXPECT_EQ(held.use_count(), 1);
}

}  // namespace
}  // namespace kvd::net
