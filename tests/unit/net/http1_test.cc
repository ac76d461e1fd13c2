// HTTP/1.1 on the front door, byte by byte.
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>

#include "raw_socket.h"
#include "test_server.h"

namespace kvd::net {
namespace {

size_t Occurrences(const std::string& text, const std::string& of) {
  size_t n = 0;
  for (size_t at = text.find(of); at != std::string::npos; at = text.find(of, at + 1)) ++n;
  return n;
}

TEST(Http1, Get_KeepAlive_TwoRequestsOnOneConnection) {
  TestServer server;
  RawSocket socket(server.port());
  for (int i = 0; i < 2; ++i) {
    std::string reply;
    ASSERT_TRUE(socket.Send("GET /hello?you HTTP/1.1\r\nHost: x\r\n\r\n"));
    ASSERT_TRUE(socket.ReadUntil("hello you\n", &reply));
    EXPECT_EQ(reply.substr(0, 17), "HTTP/1.1 200 OK\r\n");
    EXPECT_NE(reply.find("Content-Length: 10\r\n"), std::string::npos);
  }
}

TEST(Http1, Pipelined_FastAndSlowHandlers_AnswersInOrder) {
  TestServer server;
  RawSocket socket(server.port());
  std::string requests;
  for (int i = 0; i < 50; ++i) {
    requests += "GET /later/" + std::to_string(i) + " HTTP/1.1\r\nHost: x\r\n\r\n";
    requests += "GET /hello?" + std::to_string(i) + " HTTP/1.1\r\nHost: x\r\n\r\n";
  }
  requests += "GET /hello?last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  ASSERT_TRUE(socket.Send(requests));
  std::string all = socket.ReadAll();
  EXPECT_TRUE(socket.closed());
  EXPECT_EQ(Occurrences(all, "HTTP/1.1 20"), 101u);
  size_t at = 0;
  for (int i = 0; i < 50; ++i) {
    at = all.find("/later/" + std::to_string(i), at);
    ASSERT_NE(at, std::string::npos);
    at = all.find("hello " + std::to_string(i) + "\n", at);
    ASSERT_NE(at, std::string::npos);
  }
  EXPECT_NE(all.find("hello last\n", at), std::string::npos);
}

// Found by the fuzzer of connections: the last chunk's line came, and then its end in two pieces.
TEST(Http1, Post_ChunksInPieces_BodyArrives) {
  TestServer server;
  const std::string request =
      "POST /post HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n";
  for (size_t first = 1; first < request.size(); ++first) {
    RawSocket socket(server.port());
    std::string reply;
    ASSERT_TRUE(socket.Send(request.substr(0, first)));
    std::this_thread::sleep_for(std::chrono::milliseconds(first > 60 ? 2 : 0));
    ASSERT_TRUE(socket.Send(request.substr(first, 1)));
    std::this_thread::sleep_for(std::chrono::milliseconds(first > 60 ? 2 : 0));
    ASSERT_TRUE(socket.Send(request.substr(first + 1)));
    ASSERT_TRUE(socket.ReadUntil("\r\n\r\nabc", &reply)) << first;
  }
}

TEST(Http1, Post_ChunkThatIsNone_Refused) {
  TestServer server;
  for (const char* body : {"x\r\nabc\r\n", "3\r\nabcd\r\n", "0\rabc\r\n0\r\n", "\r\n", "-1\r\n"}) {
    RawSocket socket(server.port());
    ASSERT_TRUE(socket.Send("POST /post HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"));
    ASSERT_TRUE(socket.Send(body));
    EXPECT_EQ(socket.ReadAll().substr(0, 12), "HTTP/1.1 400") << body;
  }
}

TEST(Http1, Post_LengthAndChunked_BodyArrives) {
  TestServer server;
  RawSocket socket(server.port());
  std::string body(300'000, 'b'), reply;
  ASSERT_TRUE(socket.Send("POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + body));
  ASSERT_TRUE(socket.ReadUntil(body, &reply));
  reply.clear();
  ASSERT_TRUE(
      socket.Send("POST /post HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"));
  ASSERT_TRUE(socket.Send("4\r\ndefg\r\n0\r\n\r\n"));
  ASSERT_TRUE(socket.ReadUntil("abcdefg", &reply));
}

TEST(Http1, Post_ExpectContinue_Invited) {
  TestServer server;
  RawSocket socket(server.port());
  std::string reply;
  ASSERT_TRUE(
      socket.Send("POST /post HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"));
  ASSERT_TRUE(socket.ReadUntil("HTTP/1.1 100 Continue\r\n\r\n", &reply));
  ASSERT_TRUE(socket.Send("body"));
  ASSERT_TRUE(socket.ReadUntil("\r\n\r\nbody", &reply));
}

TEST(Http1, Stream_Chunked_WholeBody) {
  TestServer server;
  RawSocket socket(server.port());
  std::string reply;
  ASSERT_TRUE(socket.Send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"));
  ASSERT_TRUE(socket.ReadUntil("\r\n0\r\n\r\n", &reply));
  EXPECT_NE(reply.find("Transfer-Encoding: chunked"), std::string::npos);
  EXPECT_NE(reply.find("4\r\none,\r\n4\r\ntwo,\r\n186a0\r\n" + std::string(100'000, 'x')), std::string::npos);
}

TEST(Http1, Stream_Http10_EndsWithTheConnection) {
  TestServer server;
  RawSocket socket(server.port());
  ASSERT_TRUE(socket.Send("GET /stream HTTP/1.0\r\n\r\n"));
  std::string all = socket.ReadAll();
  EXPECT_NE(all.find("\r\n\r\none,two," + std::string(100'000, 'x')), std::string::npos);
  EXPECT_EQ(all.find("chunked"), std::string::npos);
}

TEST(Http1, Routes_UnknownPathAndMethod_404And405) {
  TestServer server;
  RawSocket socket(server.port());
  std::string reply;
  ASSERT_TRUE(socket.Send("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"));
  ASSERT_TRUE(socket.ReadUntil("404 page not found\n", &reply));
  reply.clear();
  ASSERT_TRUE(socket.Send("DELETE /hello HTTP/1.1\r\nHost: x\r\n\r\n"));
  ASSERT_TRUE(socket.ReadUntil("Method Not Allowed\n", &reply));
  EXPECT_NE(reply.find("HTTP/1.1 405 "), std::string::npos);
  EXPECT_NE(reply.find("allow: GET\r\n"), std::string::npos);
  reply.clear();
  ASSERT_TRUE(socket.Send("HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n"));
  ASSERT_TRUE(socket.ReadUntil("\r\n\r\n", &reply));
  EXPECT_NE(reply.find("Content-Length: 7\r\n"), std::string::npos);
  EXPECT_EQ(reply.substr(reply.size() - 4), "\r\n\r\n");
  reply.clear();
  ASSERT_TRUE(socket.Send("GET /drop HTTP/1.1\r\nHost: x\r\n\r\n"));
  ASSERT_TRUE(socket.ReadUntil("HTTP/1.1 503 ", &reply));
}

TEST(Http1, HalfClosedClient_StillAnswered) {
  TestServer server;
  RawSocket socket(server.port());
  ASSERT_TRUE(socket.Send("GET /later/x HTTP/1.1\r\nHost: x\r\n\r\n"));
  socket.EndSending();
  EXPECT_NE(socket.ReadAll().find("/later/x"), std::string::npos);
  EXPECT_TRUE(socket.closed());
}

TEST(Http1, Garbage_AnyKind_RefusedAndClosed) {
  TestServer server;
  const std::string garbage[] = {
      std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11),  // a TLS hello
      std::string("\0\0\0\0\0\0\0\0", 8),
      "GET\r\n\r\n",
      "GET / HTTP/9.9\r\n\r\n",
      "GET / HTTP/1.1\r\nbad header\r\n\r\n",
      "POST /post HTTP/1.1\r\nContent-Length: x\r\n\r\n",
      "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
  };
  for (const std::string& bytes : garbage) {
    RawSocket socket(server.port());
    ASSERT_TRUE(socket.Send(bytes));
    std::string all = socket.ReadAll();
    EXPECT_TRUE(socket.closed());
    EXPECT_EQ(all.substr(0, 12), "HTTP/1.1 400") << bytes;
  }
}

TEST(Http1, TooLarge_HeaderOrBody_Refused) {
  FrontDoorOptions options;
  options.max_http_body_bytes = 1000;
  TestServer server(options);
  {
    RawSocket socket(server.port());
    socket.Send("GET /hello HTTP/1.1\r\nX: " + std::string(200'000, 'x'));
    EXPECT_EQ(socket.ReadAll().substr(0, 12), "HTTP/1.1 431");
  }
  {
    RawSocket socket(server.port());
    socket.Send("POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n" + std::string(1001, 'x'));
    EXPECT_EQ(socket.ReadAll().substr(0, 12), "HTTP/1.1 413");
  }
}

TEST(Http1, Silent_OrHalfARequest_ClosedAfterTimeout) {
  FrontDoorOptions options;
  options.first_bytes_timeout = std::chrono::milliseconds(100);
  TestServer server(options);
  for (const char* bytes :
       {"", "P", "PRI * HT", "GET /hello HT", "POST /post HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"}) {
    RawSocket socket(server.port());
    ASSERT_TRUE(socket.Send(bytes));
    socket.ReadAll();
    EXPECT_TRUE(socket.closed()) << bytes;
  }
}

TEST(Http1, Shutdown_IdleAndBusyConnections_AllClosed) {
  TestServer server;
  RawSocket idle(server.port()), silent(server.port());
  std::string reply;
  ASSERT_TRUE(idle.Send("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"));
  ASSERT_TRUE(idle.ReadUntil("hello ", &reply));
  server.door().Shutdown(std::chrono::seconds(30));
  idle.ReadAll();
  silent.ReadAll();
  EXPECT_TRUE(idle.closed());
  EXPECT_TRUE(silent.closed());
  EXPECT_EQ(server.door().connections(), 0u);
}

TEST(Http1, ListenerWithoutHttp_Closes) {
  TestServer server({}, 1, {.grpc = true, .http = false});
  RawSocket socket(server.port());
  ASSERT_TRUE(socket.Send("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_EQ(socket.ReadAll(), "");
  EXPECT_TRUE(socket.closed());
}

}  // namespace
}  // namespace kvd::net
