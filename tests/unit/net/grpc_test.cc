// The front door against gRPC's own C++ client.
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "grpc_client.h"
#include "test_server.h"

namespace kvd::net {
namespace {

std::string Pattern(size_t size) {
  std::string bytes(size, 0);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 31 + i / 251);
  return bytes;
}

TEST(GrpcUnary, Echo_ManySizes_SameBytes) {
  TestServer server;
  GrpcClient client(server.port());
  for (size_t size : {0, 1, 5, 100, 4095, 4096, 16384, 65536, 1'000'000, 2'000'000}) {
    std::string reply;
    for (const char* method : {"/test.Echo/Unary", "/test.Echo/Later"}) {
      grpc::Status status = client.Unary(method, Pattern(size), &reply);
      ASSERT_TRUE(status.ok()) << status.error_message();
      ASSERT_EQ(reply, Pattern(size)) << size;
    }
  }
}

TEST(GrpcUnary, Pieces_LargeReply_Joined) {
  TestServer server;
  GrpcClient client(server.port());
  std::string part = Pattern(1'500'000), reply;
  ASSERT_TRUE(client.Unary("/test.Echo/Pieces", part, &reply).ok());
  EXPECT_EQ(reply, part + part + part);
}

TEST(GrpcUnary, Made_AnySize_ArrivesWhole) {
  TestServer server;
  GrpcClient client(server.port());
  for (size_t size : {1, 100, 131072, 131073, 5'000'000}) {
    std::string reply, want;
    for (size_t left = size; left > 0; --left) want.push_back(static_cast<char>('a' + left % 26));
    grpc::Status status = client.Unary("/test.Echo/Made", std::to_string(size), &reply);
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_EQ(reply, want) << size;
  }
  EXPECT_TRUE(server.events().AwaitCount("made gone", 5));
}

TEST(GrpcUnary, Made_TooLong_ResourceExhausted) {
  TestServer server;
  GrpcClient client(server.port());
  grpc::Status status = client.Unary("/test.Echo/Made", "2147483648");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(),
            "grpc: trying to send message larger than max (2147483648 vs. 2147483647)");
  EXPECT_TRUE(server.events().Await("made gone"));
}

TEST(GrpcUnary, Made_OtherLengthThanPromised_Internal) {
  TestServer server;
  GrpcClient client(server.port());
  for (const char* method : {"/test.Echo/MadeShort", "/test.Echo/MadeLong"}) {
    for (const char* size : {"100", "5000000"}) {
      std::string reply;
      grpc::Status status = client.Unary(method, size, &reply);
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL) << method << " " << size;
    }
  }
  EXPECT_TRUE(server.events().AwaitCount("made cancelled", 4));
  EXPECT_TRUE(server.events().AwaitCount("made gone", 4));
}

TEST(GrpcUnary, Fail_OddText_ArrivesUnchanged) {
  TestServer server;
  GrpcClient client(server.port());
  std::string text = "etcdserver: 100% w\xc3\xb6rse\nthan \"%41\"";
  grpc::Status status = client.Unary("/test.Echo/Fail", text);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(status.error_message(), text);
}

TEST(GrpcUnary, Dropped_Unanswered_Unavailable) {
  TestServer server;
  GrpcClient client(server.port());
  EXPECT_EQ(client.Unary("/test.Echo/Drop", "x").error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(GrpcUnary, UnknownMethod_ServiceOrMethod_Unimplemented) {
  TestServer server;
  GrpcClient client(server.port());
  grpc::Status status = client.Unary("/test.Other/Unary", "x");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(status.error_message(), "unknown service test.Other");
  status = client.Unary("/test.Echo/Nothing", std::string(100'000, 'x'));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(status.error_message(), "unknown method Nothing for service test.Echo");
  EXPECT_TRUE(client.Unary("/test.Echo/Unary", "still here").ok());
}

TEST(GrpcUnary, TooLarge_Message_ResourceExhausted) {
  FrontDoorOptions options;
  options.max_receive_message_bytes = 1000;
  TestServer server(options);
  GrpcClient client(server.port());
  std::string reply;
  EXPECT_TRUE(client.Unary("/test.Echo/Unary", std::string(1000, 'x'), &reply).ok());
  for (size_t size : {1001, 3'000'000}) {
    grpc::Status status = client.Unary("/test.Echo/Unary", std::string(size, 'x'));
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_EQ(status.error_message(),
              "grpc: received message larger than max (" + std::to_string(size) + " vs. 1000)");
  }
}

TEST(GrpcUnary, Gzip_Request_InflatedWithinLimit) {
  FrontDoorOptions options;
  options.max_receive_message_bytes = 1'000'000;
  TestServer server(options);
  GrpcClient client(server.port());
  for (size_t size : {1'000, 1'000'000}) {
    grpc::ClientContext context;
    context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
    std::string reply;
    grpc::Status status = client.Unary("/test.Echo/Unary", std::string(size, 'z'), &reply, &context);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(reply, std::string(size, 'z'));
  }
  grpc::ClientContext context;
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  grpc::Status status = client.Unary("/test.Echo/Unary", std::string(50'000'000, 'z'), nullptr, &context);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST(GrpcUnary, OtherCompression_Request_Unimplemented) {
  TestServer server;
  GrpcClient client(server.port());
  grpc::ClientContext context;
  context.set_compression_algorithm(GRPC_COMPRESS_DEFLATE);
  grpc::Status status = client.Unary("/test.Echo/Unary", std::string(1000, 'z'), nullptr, &context);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(status.error_message(), "grpc: Decompressor is not installed for grpc-encoding \"deflate\"");
}

TEST(GrpcUnary, Metadata_Token_SeenByHandler) {
  TestServer server;
  GrpcClient client(server.port());
  std::string reply;
  grpc::ClientContext context;
  context.AddMetadata("token", "secret.7");
  ASSERT_TRUE(client.Unary("/test.Echo/Meta", "", &reply, &context).ok());
  EXPECT_EQ(reply, "secret.7");
  ASSERT_TRUE(client.Unary("/test.Echo/Meta", "", &reply).ok());
  EXPECT_EQ(reply, "none");
}

TEST(GrpcUnary, Deadline_Passed_CallCancelled) {
  TestServer server;
  GrpcClient client(server.port());
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
  EXPECT_EQ(client.Unary("/test.Echo/Hang", "x", nullptr, &context).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(server.events().Await("hang cancelled"));
  server.ReleaseHanging();
  EXPECT_TRUE(client.Unary("/test.Echo/Unary", "x").ok());
}

TEST(GrpcUnary, Cancel_ByClient_HandlerTold) {
  TestServer server;
  GrpcClient client(server.port());
  grpc::ClientContext context;
  std::thread canceller([&] {
    server.events().Await("hang started");
    context.TryCancel();
  });
  EXPECT_EQ(client.Unary("/test.Echo/Hang", "x", nullptr, &context).error_code(),
            grpc::StatusCode::CANCELLED);
  canceller.join();
  EXPECT_TRUE(server.events().Await("hang cancelled"));
}

TEST(GrpcUnary, ManyThreads_ForeignReplies_EachItsOwn) {
  TestServer server;
  std::atomic<int> good{0};
  std::vector<std::thread> clients;
  for (int t = 0; t < 4; ++t) {
    clients.emplace_back([&, t] {
      GrpcClient client(server.port());
      for (int i = 0; i < 200; ++i) {
        std::string text = std::to_string(t) + ":" + std::to_string(i), reply;
        const char* method = i % 3 == 0 ? "/test.Echo/Pieces" : "/test.Echo/Later";
        std::string expected = i % 3 == 0 ? text + text + text : text;
        if (client.Unary(method, text, &reply).ok() && reply == expected) ++good;
      }
    });
  }
  for (std::thread& thread : clients) thread.join();
  EXPECT_EQ(good, 800);
}

TEST(GrpcStreams, ServerStream_ManyMessages_InOrder) {
  TestServer server;
  GrpcClient client(server.port());
  GrpcStream stream(client, "/test.Echo/Count");
  ASSERT_TRUE(stream.Write(std::string(3000, 'x')));
  ASSERT_TRUE(stream.WritesDone());
  std::string message;
  for (int i = 0; i < 3000; ++i) {
    ASSERT_TRUE(stream.Read(&message));
    ASSERT_EQ(message, std::to_string(i));
  }
  EXPECT_FALSE(stream.Read(&message));
  EXPECT_TRUE(stream.Finish().ok());
}

TEST(GrpcStreams, ServerStream_MessagesMadeWhenSent_InOrderWithOthers) {
  TestServer server;
  GrpcClient client(server.port());
  GrpcStream stream(client, "/test.Echo/Numbers");
  ASSERT_TRUE(stream.Write("5500"));
  ASSERT_TRUE(stream.WritesDone());
  std::string message;
  for (size_t i = 0; i < 5500; ++i) {
    ASSERT_TRUE(stream.Read(&message));
    ASSERT_EQ(message.size(), 500u);
    ASSERT_EQ(message.substr(0, message.find(' ')), std::to_string(i));
    if (i % 1000 != 999 && i != 5499) continue;
    ASSERT_TRUE(stream.Read(&message));
    ASSERT_EQ(message, "");
    for (const char* number : {"0 ", "1 "}) {
      ASSERT_TRUE(stream.Read(&message));
      ASSERT_EQ(message.substr(0, 2), number);
    }
  }
  EXPECT_FALSE(stream.Read(&message));
  EXPECT_TRUE(stream.Finish().ok());
  EXPECT_EQ(server.last_stream()->queued_bytes(), 0u);
}

TEST(GrpcStreams, ServerStream_MessagesMadeWhenSent_ClientGoes_SourcesGo) {
  TestServer server;
  auto client = std::make_unique<GrpcClient>(server.port());
  auto stream = std::make_unique<GrpcStream>(*client, "/test.Echo/Numbers");
  ASSERT_TRUE(stream->Write("500000"));  // 250 MB
  std::string message;
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_GT(server.last_stream()->queued_bytes(), size_t{100} << 20);
  stream.reset();
  client.reset();
  EXPECT_TRUE(server.events().AwaitCount("numbers gone", 1000));
}

TEST(GrpcStreams, ServerStream_NoMessages_TrailersOnly) {
  TestServer server;
  GrpcClient client(server.port());
  GrpcStream stream(client, "/test.Echo/Count");
  ASSERT_TRUE(stream.Write(""));
  ASSERT_TRUE(stream.WritesDone());
  std::string message;
  EXPECT_FALSE(stream.Read(&message));
  EXPECT_TRUE(stream.Finish().ok());
}

TEST(GrpcStreams, Bidi_PingPong_ThenHalfClose) {
  TestServer server;
  GrpcClient client(server.port());
  GrpcStream stream(client, "/test.Echo/Chat");
  for (size_t size : {0, 10, 70'000, 1'500'000}) {
    ASSERT_TRUE(stream.Write(Pattern(size)));
    std::string reply;
    ASSERT_TRUE(stream.Read(&reply));
    ASSERT_EQ(reply, Pattern(size));
  }
  ASSERT_TRUE(stream.WritesDone());
  EXPECT_TRUE(stream.Finish().ok());
  EXPECT_TRUE(server.events().Await("chat closed"));
}

TEST(GrpcStreams, Bidi_ClientCancels_HandlerTold) {
  TestServer server;
  GrpcClient client(server.port());
  GrpcStream stream(client, "/test.Echo/Chat");
  std::string reply;
  ASSERT_TRUE(stream.Write("x"));
  ASSERT_TRUE(stream.Read(&reply));
  stream.context().TryCancel();
  EXPECT_EQ(stream.Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(server.events().Await("chat cancelled"));
}

TEST(GrpcStreams, ConnectionLost_OpenStream_HandlerTold) {
  TestServer server;
  auto client = std::make_unique<GrpcClient>(server.port());
  auto stream = std::make_unique<GrpcStream>(*client, "/test.Echo/Chat");
  std::string reply;
  ASSERT_TRUE(stream->Write("x"));
  ASSERT_TRUE(stream->Read(&reply));
  stream.reset();
  client.reset();
  EXPECT_TRUE(server.events().Await("chat cancelled"));
}

TEST(GrpcStreams, SlowReader_QueueBounded_OthersServed) {
  TestServer server({}, 1);
  GrpcClient client(server.port());
  GrpcStream stream(client, "/test.Echo/Flood");
  ASSERT_TRUE(stream.Write("1000"));  // 64 MB
  ASSERT_TRUE(stream.WritesDone());
  ASSERT_TRUE(server.events().Await("flood pumped"));
  // Calls on the same connection get through although the stream is stuck.
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(client.Unary("/test.Echo/Unary", "x").ok());
  EXPECT_LE(server.last_stream()->queued_bytes(),
            FrontDoorOptions().stream_high_bytes + size_t{64} * 1024 + 5);
  size_t received = 0;
  std::string message;
  while (stream.Read(&message)) {
    ASSERT_EQ(message.size(), 64u * 1024);
    ++received;
  }
  EXPECT_EQ(received, 1000u);
  EXPECT_TRUE(stream.Finish().ok());
  EXPECT_GT(server.events().Count("flood writable"), 5u);
  EXPECT_TRUE(server.events().Await("flood closed"));
}

TEST(GrpcStreams, PausedReader_WindowStaysClosed_UntilResumed) {
  FrontDoorOptions options;
  options.stream_window_bytes = 65535;
  TestServer server(options);
  GrpcClient client(server.port());
  GrpcStream stream(client, "/test.Echo/Slow");
  std::thread writer([&] {
    for (int i = 0; i < 10; ++i) stream.Write(std::string(40'000, 'x'));
    stream.WritesDone();
  });
  ASSERT_TRUE(server.events().Await("slow got 40000"));
  // While it is paused only what fits the window can come.
  EXPECT_TRUE(client.Unary("/test.Echo/Unary", "x").ok());
  EXPECT_EQ(server.events().Count("slow got 40000"), 1u);
  for (size_t seen = 1; seen < 10;) {
    server.last_stream()->ResumeReading();
    size_t now = server.events().Count("slow got 40000");
    ASSERT_LE(now, 10u);
    seen = now;
    std::this_thread::yield();
  }
  server.last_stream()->ResumeReading();
  ASSERT_TRUE(server.events().Await("slow half closed"));
  writer.join();
  grpc::Status status = stream.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED);
  EXPECT_EQ(status.error_message(), "100% d\xc3\xb6ne\n");
}

TEST(GrpcStreams, Deadline_OpenStream_Ended) {
  TestServer server;
  GrpcClient client(server.port());
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
  auto call = client.stub().PrepareCall(&context, "/test.Echo/Chat", &queue);
  call->StartCall(nullptr);
  void* tag;
  bool ok;
  queue.Next(&tag, &ok);
  grpc::Status status;
  call->Finish(&status, nullptr);
  queue.Next(&tag, &ok);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(server.events().Await("chat cancelled"));
}

TEST(Shutdown, WithGrace_RunningCallFinishes_NewOnesRefused) {
  TestServer server;
  GrpcClient client(server.port());
  GrpcStream stream(client, "/test.Echo/Chat");
  std::string reply;
  ASSERT_TRUE(stream.Write("before"));
  ASSERT_TRUE(stream.Read(&reply));
  std::thread stopper([&] { server.door().Shutdown(std::chrono::seconds(30)); });
  // The stream lives on until it ends by itself.
  ASSERT_TRUE(stream.Write("during"));
  ASSERT_TRUE(stream.Read(&reply));
  EXPECT_EQ(reply, "during");
  ASSERT_TRUE(stream.WritesDone());
  EXPECT_TRUE(stream.Finish().ok());
  stopper.join();
  EXPECT_EQ(server.door().connections(), 0u);
  EXPECT_EQ(client.Unary("/test.Echo/Unary", "x").error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(Shutdown, WithoutGrace_OpenCalls_CancelledAndGone) {
  TestServer server;
  GrpcClient client(server.port());
  GrpcStream stream(client, "/test.Echo/Chat");
  std::string reply;
  ASSERT_TRUE(stream.Write("x"));
  ASSERT_TRUE(stream.Read(&reply));
  server.door().Shutdown(std::chrono::milliseconds(50));
  EXPECT_EQ(server.events().Count("chat cancelled"), 1u);
  EXPECT_FALSE(stream.Read(&reply));
  EXPECT_EQ(stream.Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace kvd::net
