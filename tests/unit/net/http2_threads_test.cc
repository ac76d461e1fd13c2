// Answers from other threads while calls end, streams are reset, connections drop and the server stops. Its
// worth is greatest under ThreadSanitizer, so it does without gRPC's client, which is not built for that.
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "h2_frames.h"
#include "test_server.h"

namespace kvd::net {
namespace {

constexpr uint8_t kEndStream = 1, kEndHeaders = 4;

std::string CallFrames(uint32_t stream, std::string_view path, std::string_view message) {
  return Frame(kHeaders, kEndHeaders, stream, RequestHeaders("POST", path, "application/grpc")) +
         Frame(kData, kEndStream, stream, GrpcMessage(message));
}

std::string ResetFrame(uint32_t stream) {
  return Frame(kReset, 0, stream, std::string("\0\0\0\x08", 4));
}

std::string Hello() {
  return std::string(kPreface) + Frame(kSettings, 0, 0, "");
}

TEST(Http2Threads, ForeignReplies_ManyConnections_EachItsOwn) {
  TestServer server({}, 2);
  std::atomic<int> good{0};
  std::vector<std::thread> clients;
  for (int t = 0; t < 4; ++t) {
    clients.emplace_back([&] {
      RawSocket socket(server.port());
      FrameReader frames(socket);
      std::string first = Hello();
      for (uint32_t burst = 0; burst < 30; ++burst) {
        std::string out = std::exchange(first, "");
        for (uint32_t i = 0; i < 16; ++i) {
          uint32_t id = 2 * (burst * 16 + i) + 1;
          out += CallFrames(id, i % 4 == 0 ? "/test.Echo/Unary" : "/test.Echo/Later", std::to_string(id));
        }
        if (!socket.Send(out)) return;
        ReceivedFrame frame;
        for (int i = 0; i < 16; ++i) {
          if (!frames.Await(kData, &frame)) return;
          if (frame.payload == GrpcMessage(std::to_string(frame.stream))) ++good;
        }
      }
    });
  }
  for (std::thread& thread : clients) thread.join();
  EXPECT_EQ(good, 4 * 30 * 16);
}

TEST(Http2Threads, ResetsAndLostConnections_AgainstForeignReplies_NothingBreaks) {
  TestServer server({}, 2);
  std::vector<std::thread> clients;
  for (int t = 0; t < 4; ++t) {
    clients.emplace_back([&, t] {
      for (int round = 0; round < 20; ++round) {
        RawSocket socket(server.port());
        std::string out = Hello();
        for (uint32_t i = 0; i < 40; ++i) {
          uint32_t id = 2 * i + 1;
          out +=
              CallFrames(id, i % 2 == 0 ? "/test.Echo/Later" : "/test.Echo/Pieces", std::string(5000, 'x'));
          if ((i + static_cast<uint32_t>(t)) % 3 == 0) out += ResetFrame(id);
        }
        socket.Send(out);
        std::string some;
        socket.ReadSome(&some);
      }  // closed with calls under way
    });
  }
  for (std::thread& thread : clients) thread.join();
  RawSocket socket(server.port());
  FrameReader frames(socket);
  ReceivedFrame frame;
  ASSERT_TRUE(socket.Send(Hello() + CallFrames(1, "/test.Echo/Later", "alive")));
  ASSERT_TRUE(frames.Await(kData, &frame));
  EXPECT_EQ(frame.payload, GrpcMessage("alive"));
}

TEST(Http2Threads, Flood_WindowGivenInSteps_AllArrivesBounded) {
  TestServer server({}, 2);
  RawSocket socket(server.port());
  FrameReader frames(socket);
  ASSERT_TRUE(socket.Send(Hello() + CallFrames(1, "/test.Echo/Flood", "100")));
  size_t received = 0, credit = 65535;
  ReceivedFrame frame;
  while (frames.Next(&frame)) {
    if (frame.stream == 1 && frame.type == kHeaders && (frame.flags & kEndStream) != 0) break;
    if (frame.type != kData) continue;
    received += frame.payload.size();
    ASSERT_LE(received, credit);
    ASSERT_LE(server.last_stream()->queued_bytes(),
              FrontDoorOptions().stream_high_bytes + size_t{64} * 1024 + 5);
    if (received == credit) {
      std::string step("\0\0\xc0\0", 4);
      ASSERT_TRUE(socket.Send(Frame(kWindow, 0, 0, step) + Frame(kWindow, 0, 1, step)));
      credit += 0xc000;
    }
  }
  EXPECT_EQ(received, 100u * (64 * 1024 + 5));
  EXPECT_TRUE(server.events().Await("flood closed"));
}

TEST(Http2Threads, FloodWriters_ResetAndLost_HandlersTold) {
  TestServer server({}, 2);
  for (int round = 0; round < 10; ++round) {
    RawSocket socket(server.port());
    ASSERT_TRUE(socket.Send(Hello() + CallFrames(1, "/test.Echo/Flood", "1000") +
                            CallFrames(3, "/test.Echo/Flood", "1000")));
    std::string some;
    ASSERT_TRUE(socket.ReadSome(&some));
    ASSERT_TRUE(socket.Send(ResetFrame(1)));
  }
  for (size_t i = 0; i < 20; ++i) ASSERT_TRUE(server.events().AwaitCount("flood closed", i + 1));
}

TEST(Http2Threads, RepliesInParts_ResetAndLost_WritersTold) {
  TestServer server({}, 2);
  for (int round = 0; round < 10; ++round) {
    RawSocket socket(server.port());
    ASSERT_TRUE(socket.Send(Hello() + CallFrames(1, "/test.Echo/Made", "100000000") +
                            CallFrames(3, "/test.Echo/Made", "100000000") +
                            CallFrames(5, "/test.Echo/MadeLong", "200000") +
                            CallFrames(7, "/test.Echo/Made", "10")));
    std::string some;
    ASSERT_TRUE(socket.ReadSome(&some));
    ASSERT_TRUE(socket.Send(ResetFrame(1)));
  }
  for (size_t i = 0; i < 40; ++i) ASSERT_TRUE(server.events().AwaitCount("made gone", i + 1));
}

TEST(Http2Threads, Shutdown_UnderLoad_Returns) {
  for (int round = 0; round < 5; ++round) {
    TestServer server({}, 2);
    std::atomic<int> answered{0};
    std::vector<std::thread> clients;
    for (int t = 0; t < 3; ++t) {
      clients.emplace_back([&] {
        RawSocket socket(server.port());
        FrameReader frames(socket);
        ReceivedFrame frame;
        std::string out = Hello();
        for (uint32_t id = 1;; id += 2) {
          out += CallFrames(id, "/test.Echo/Later", "x");
          if (!socket.Send(out) || !frames.Await(kData, &frame)) return;
          out = Frame(kWindow, 0, 0, std::string("\0\0\0\6", 4));  // what was read may be sent again
          ++answered;
        }
      });
    }
    while (answered < 30) std::this_thread::yield();
    server.door().Shutdown(round % 2 == 0 ? base::Nanos(0) : base::Nanos(std::chrono::seconds(20)));
    EXPECT_EQ(server.door().connections(), 0u);
    for (std::thread& thread : clients) thread.join();
  }
}

}  // namespace
}  // namespace kvd::net
