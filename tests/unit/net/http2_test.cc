// HTTP/2 on the front door from clients that bend the rules, and plain HTTP over it.
#include <gtest/gtest.h>

#include <string>

#include "h2_frames.h"
#include "test_server.h"

namespace kvd::net {
namespace {

constexpr uint8_t kEndStream = 1, kAck = 1, kEndHeaders = 4;
constexpr uint32_t kProtocolError = 1, kFrameSizeError = 6, kEnhanceYourCalm = 11;

struct Client {
  explicit Client(TestServer& server) : socket(server.port()), frames(socket) {
    socket.Send(std::string(kPreface) + Frame(kSettings, 0, 0, ""));
  }
  void Call(uint32_t stream, std::string_view path, std::string_view message) {
    socket.Send(Frame(kHeaders, kEndHeaders, stream, RequestHeaders("POST", path, "application/grpc")) +
                Frame(kData, kEndStream, stream, GrpcMessage(message)));
  }
  RawSocket socket;
  FrameReader frames;
  ReceivedFrame frame;
};

// Header text as it stands in a block that is Huffman coded is not readable, so these tests look at frames
// and at what the server does.

TEST(Http2, Call_ByHand_HeadersDataTrailers) {
  TestServer server;
  Client client(server);
  client.Call(1, "/test.Echo/Unary", "abc");
  ASSERT_TRUE(client.frames.Await(kHeaders, &client.frame));
  EXPECT_EQ(client.frame.flags, kEndHeaders);
  ASSERT_TRUE(client.frames.Next(&client.frame));
  EXPECT_EQ(client.frame.type, kData);
  EXPECT_EQ(client.frame.flags, 0);
  EXPECT_EQ(client.frame.payload, GrpcMessage("abc"));
  ASSERT_TRUE(client.frames.Next(&client.frame));
  EXPECT_EQ(client.frame.type, kHeaders);
  EXPECT_EQ(client.frame.flags, kEndHeaders | kEndStream);
}

TEST(Http2, Call_BytewiseInput_Answered) {
  TestServer server;
  RawSocket socket(server.port());
  FrameReader frames(socket);
  std::string bytes =
      std::string(kPreface) + Frame(kSettings, 0, 0, "") +
      Frame(kHeaders, kEndHeaders, 1, RequestHeaders("POST", "/test.Echo/Later", "application/grpc"));
  std::string message = GrpcMessage("slowly");
  for (char c : message) bytes += Frame(kData, 0, 1, std::string(1, c));
  bytes += Frame(kData, kEndStream, 1, "");
  for (char c : bytes) ASSERT_TRUE(socket.Send(std::string(1, c)));
  ReceivedFrame frame;
  ASSERT_TRUE(frames.Await(kData, &frame));
  EXPECT_EQ(frame.payload, message);
}

TEST(Http2, TruncatedMessage_ThenEnd_CallFailsConnectionLives) {
  TestServer server;
  Client client(server);
  client.socket.Send(
      Frame(kHeaders, kEndHeaders, 1, RequestHeaders("POST", "/test.Echo/Unary", "application/grpc")) +
      Frame(kData, kEndStream, 1, GrpcMessage("abcdef").substr(0, 7)));
  ASSERT_TRUE(client.frames.Await(kHeaders, &client.frame));
  EXPECT_EQ(client.frame.flags, kEndHeaders | kEndStream);
  client.Call(3, "/test.Echo/Unary", "next");
  ASSERT_TRUE(client.frames.Await(kData, &client.frame));
  EXPECT_EQ(client.frame.payload, GrpcMessage("next"));
}

TEST(Http2, NoMessage_EndAtOnce_TrailersOnly) {
  TestServer server;
  Client client(server);
  client.socket.Send(Frame(kHeaders, kEndHeaders | kEndStream, 1,
                           RequestHeaders("POST", "/test.Echo/Unary", "application/grpc")));
  ASSERT_TRUE(client.frames.Await(kHeaders, &client.frame));
  EXPECT_EQ(client.frame.flags, kEndHeaders | kEndStream);
}

TEST(Http2, OversizedMessage_RefusedAtItsPrefix_StreamReset) {
  TestServer server;
  Client client(server);
  // The client claims 1 GB and never sends it.
  std::string prefix("\0\x40\0\0\0", 5);
  client.socket.Send(
      Frame(kHeaders, kEndHeaders, 1, RequestHeaders("POST", "/test.Echo/Unary", "application/grpc")) +
      Frame(kData, 0, 1, prefix));
  ASSERT_TRUE(client.frames.Await(kHeaders, &client.frame));
  EXPECT_EQ(client.frame.flags, kEndHeaders | kEndStream);
  ASSERT_TRUE(client.frames.Await(kReset, &client.frame));
  EXPECT_EQ(FrameReader::ErrorOf(client.frame), 0u);
}

TEST(Http2, TruncatedFrame_ThenClose_CallCancelled) {
  TestServer server;
  {
    Client client(server);
    client.Call(1, "/test.Echo/Hang", "x");
    ASSERT_TRUE(server.events().Await("hang started"));
    client.socket.Send(Frame(kData, 0, 3, std::string(100, 'x')).substr(0, 50));
  }
  EXPECT_TRUE(server.events().Await("hang cancelled"));
}

TEST(Http2, MadeReply_ClosedWindow_AskedForOnlyAsMuchAsIsTaken) {
  TestServer server;
  Client client(server);
  client.Call(1, "/test.Echo/Made", "100000000");
  size_t got = 0;
  while (got < 65535) {  // the first window
    ASSERT_TRUE(client.frames.Await(kData, &client.frame));
    got += client.frame.payload.size();
  }
  // The connection goes on, and the stream ends when the client wants.
  client.socket.Send(Frame(kWindow, 0, 0, std::string("\0\1\0\0", 4)));
  client.Call(3, "/test.Echo/Unary", "abc");
  ASSERT_TRUE(client.frames.Await(kData, &client.frame));
  EXPECT_EQ(client.frame.stream, 3u);
  // The high mark's, and those that left before it was reached.
  EXPECT_LE(server.events().Count("made"), 10u);
  client.socket.Send(Frame(kReset, 0, 1, std::string("\0\0\0\10", 4)));
  EXPECT_TRUE(server.events().Await("made cancelled"));
  EXPECT_TRUE(server.events().Await("made gone"));
  EXPECT_LE(server.events().Count("made"), 10u);
}

TEST(Http2, Reset_RunningCall_Cancelled) {
  TestServer server;
  Client client(server);
  client.Call(1, "/test.Echo/Hang", "x");
  ASSERT_TRUE(server.events().Await("hang started"));
  client.socket.Send(Frame(kReset, 0, 1, std::string("\0\0\0\x08", 4)));
  EXPECT_TRUE(server.events().Await("hang cancelled"));
  // The late answer goes nowhere, and the next call is well.
  server.ReleaseHanging();
  client.Call(3, "/test.Echo/Unary", "next");
  ASSERT_TRUE(client.frames.Await(kData, &client.frame));
  EXPECT_EQ(client.frame.stream, 3u);
}

TEST(Http2, BadFrames_AnyKind_GoAway) {
  TestServer server;
  const std::string bad[] = {
      Frame(kData, 0, 1, "data on an idle stream"),
      Frame(kHeaders, kEndHeaders, 2, RequestHeaders("POST", "/", "")),
      Frame(kHeaders, kEndHeaders, 1, "\xff\xff\xff\xff\xff\xff\xff\xff"),
      Frame(kSettings, 0, 0, "odd"),
      Frame(kWindow, 0, 0, std::string(4, '\0')),
      Frame(kPing, 0, 0, "short"),
      Frame(kData, 0, 0, "x"),
      std::string(20'000, '\xff'),
  };
  for (const std::string& bytes : bad) {
    Client client(server);
    client.socket.Send(bytes);
    EXPECT_TRUE(client.frames.Await(kGoaway, &client.frame));
    EXPECT_NE(FrameReader::ErrorOf(client.frame), 0u);
    client.socket.ReadAll();
    EXPECT_TRUE(client.socket.closed());
  }
}

TEST(Http2, HeaderListTooLarge_StreamReset_ConnectionLives) {
  FrontDoorOptions options;
  options.max_header_list_bytes = 8192;
  TestServer server(options);
  Client client(server);
  std::string block = RequestHeaders("POST", "/test.Echo/Unary", "application/grpc") +
                      Literal("x-large", std::string(9000, 'x'));
  client.socket.Send(Frame(kHeaders, kEndHeaders, 1, block));
  ASSERT_TRUE(client.frames.Await(kReset, &client.frame));
  EXPECT_EQ(FrameReader::ErrorOf(client.frame), kFrameSizeError);
  client.Call(3, "/test.Echo/Unary", "next");
  ASSERT_TRUE(client.frames.Await(kData, &client.frame));
}

// What gRPC in Go sends if the address it was given is a URL.
TEST(Http2, AuthorityIsAUrl_Answered) {
  TestServer server;
  Client client(server);
  std::string block = Literal(":method", "POST") + Literal(":scheme", "http") +
                      Literal(":path", "/test.Echo/Unary") + Literal(":authority", "http://127.0.0.1:2379") +
                      Literal("content-type", "application/grpc") + Literal("te", "trailers");
  client.socket.Send(Frame(kHeaders, kEndHeaders, 1, block) +
                     Frame(kData, kEndStream, 1, GrpcMessage("abc")));
  ASSERT_TRUE(client.frames.Await(kData, &client.frame));
  EXPECT_EQ(client.frame.payload, GrpcMessage("abc"));
}

TEST(Http2, NoPathOrNoMethod_StreamReset_ConnectionLives) {
  TestServer server;
  Client client(server);
  client.socket.Send(
      Frame(kHeaders, kEndHeaders, 1, Literal(":method", "POST") + Literal(":scheme", "http")) +
      Frame(kData, kEndStream, 1, GrpcMessage("abc")) +
      Frame(kHeaders, kEndHeaders | kEndStream, 3, Literal(":path", "/test.Echo/Unary")));
  for (uint32_t stream : {1, 3}) {
    ASSERT_TRUE(client.frames.Await(kReset, &client.frame));
    EXPECT_EQ(client.frame.stream, stream);
    EXPECT_EQ(FrameReader::ErrorOf(client.frame), kProtocolError);
  }
  client.Call(5, "/test.Echo/Unary", "next");
  ASSERT_TRUE(client.frames.Await(kData, &client.frame));
}

TEST(Http2, PingsWithoutStreams_TooMany_EnhanceYourCalm) {
  TestServer server;
  Client client(server);
  for (int i = 0; i < 4; ++i) client.socket.Send(Frame(kPing, 0, 0, "12345678"));
  ASSERT_TRUE(client.frames.Await(kGoaway, &client.frame));
  EXPECT_EQ(FrameReader::ErrorOf(client.frame), kEnhanceYourCalm);
  EXPECT_EQ(client.frame.payload.substr(8), "too_many_pings");
  client.socket.ReadAll();
  EXPECT_TRUE(client.socket.closed());
}

TEST(Http2, PingsBetweenAnswers_Any_Allowed) {
  TestServer server;
  Client client(server);
  for (uint32_t i = 0; i < 20; ++i) {
    client.Call(2 * i + 1, "/test.Echo/Unary", "x");
    ASSERT_TRUE(client.frames.Await(kData, &client.frame));
    client.socket.Send(Frame(kPing, 0, 0, "12345678"));
    ASSERT_TRUE(client.frames.Await(kPing, &client.frame));
    EXPECT_EQ(client.frame.flags, kAck);
  }
}

TEST(Http2, PingFlood_UnreadAcks_ConnectionEnds) {
  FrontDoorOptions options;
  options.keepalive_min_time = base::Nanos(0);
  options.keepalive_permit_without_stream = true;
  TestServer server(options);
  Client client(server);
  std::string pings;
  for (int i = 0; i < 1000; ++i) pings += Frame(kPing, 0, 0, "12345678");
  // Never reading: the acknowledgements pile up until the server has enough.
  bool open = true;
  for (int i = 0; i < 20'000 && open; ++i) open = client.socket.Send(pings);
  EXPECT_FALSE(open);
}

TEST(Http2, RapidReset_Thousands_ConnectionEnds) {
  TestServer server;
  Client client(server);
  bool open = true;
  for (uint32_t i = 0; i < 2'000'000 && open; ++i) {
    open = client.socket.Send(Frame(kHeaders, kEndHeaders, 2 * i + 1,
                                    RequestHeaders("POST", "/test.Echo/Unary", "application/grpc")) +
                              Frame(kReset, 0, 2 * i + 1, std::string("\0\0\0\x08", 4)));
  }
  EXPECT_FALSE(open);
}

TEST(Http2, Keepalive_SilentClient_PingedThenClosed) {
  FrontDoorOptions options;
  options.keepalive_interval = std::chrono::milliseconds(50);
  options.keepalive_timeout = std::chrono::milliseconds(50);
  TestServer server(options);
  Client client(server);
  ASSERT_TRUE(client.frames.Await(kPing, &client.frame));
  EXPECT_EQ(client.frame.flags, 0);
  client.socket.Send(Frame(kPing, kAck, 0, client.frame.payload));
  ASSERT_TRUE(client.frames.Await(kPing, &client.frame));  // lives on, until it does not answer
  client.socket.ReadAll();
  EXPECT_TRUE(client.socket.closed());
}

TEST(Http2, MaxConcurrentStreams_OneMore_Refused) {
  FrontDoorOptions options;
  options.max_concurrent_streams = 2;
  TestServer server(options);
  Client client(server);
  for (uint32_t id : {1, 3, 5}) client.Call(id, "/test.Echo/Hang", "x");
  ASSERT_TRUE(client.frames.Await(kReset, &client.frame));
  EXPECT_EQ(client.frame.stream, 5u);
}

TEST(Http2, OtherContentType_HttpHandlers_Serve) {
  TestServer server;
  Client client(server);
  client.socket.Send(Frame(kHeaders, kEndHeaders | kEndStream, 1, RequestHeaders("GET", "/hello?h2", "")));
  ASSERT_TRUE(client.frames.Await(kData, &client.frame));
  EXPECT_EQ(client.frame.payload, "hello h2\n");
  EXPECT_EQ(client.frame.flags, kEndStream);
  client.socket.Send(Frame(kHeaders, kEndHeaders, 3, RequestHeaders("POST", "/post", "application/json")) +
                     Frame(kData, 0, 3, "{") + Frame(kData, kEndStream, 3, "}"));
  ASSERT_TRUE(client.frames.Await(kData, &client.frame));
  EXPECT_EQ(client.frame.payload, "{}");
  client.socket.Send(Frame(kHeaders, kEndHeaders | kEndStream, 5, RequestHeaders("GET", "/stream", "")));
  std::string body;
  do {
    ASSERT_TRUE(client.frames.Await(kData, &client.frame));
    body += client.frame.payload;
    if (body.size() > 30'000) {
      client.socket.Send(Frame(kWindow, 0, 0, std::string("\0\x01\0\0", 4)) +
                         Frame(kWindow, 0, 5, std::string("\0\x01\0\0", 4)));
    }
  } while (client.frame.flags != kEndStream);
  EXPECT_EQ(body, "one,two," + std::string(100'000, 'x'));
}

TEST(Http2, GrpcPath_OtherContentType_UnsupportedMediaType) {
  TestServer server;
  Client client(server);
  client.socket.Send(
      Frame(kHeaders, kEndHeaders, 1, RequestHeaders("POST", "/test.Echo/Unary", "text/html")));
  ASSERT_TRUE(client.frames.Await(kData, &client.frame));
  EXPECT_EQ(client.frame.payload, "invalid gRPC request content-type \"text/html\"\n");
}

TEST(Http2, Shutdown_GoAwayTwice_ThenClosed) {
  TestServer server;
  Client client(server);
  client.Call(1, "/test.Echo/Unary", "x");
  ASSERT_TRUE(client.frames.Await(kData, &client.frame));
  server.door().Shutdown(std::chrono::seconds(30));
  ASSERT_TRUE(client.frames.Await(kGoaway, &client.frame));
  EXPECT_EQ(client.frame.payload.substr(0, 4), "\x7f\xff\xff\xff");
  ASSERT_TRUE(client.frames.Await(kGoaway, &client.frame));
  EXPECT_EQ(client.frame.payload.substr(0, 4), std::string("\0\0\0\x01", 4));
  EXPECT_EQ(FrameReader::ErrorOf(client.frame), 0u);
}

TEST(Http2, ServerWithoutPort_AddressInUse_Said) {
  TestServer server;
  IoThreads threads(1);
  FrontDoor door(threads);
  auto port = door.Listen("127.0.0.1", server.port());
  EXPECT_EQ(port.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(door.Listen("no such host.invalid", 1).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace kvd::net
