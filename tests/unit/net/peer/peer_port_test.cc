// What the peer port answers to requests that are not a peer's, and the HTTP client against it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "test_peers.h"

namespace kvd::net {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Exchange(uint16_t port, std::string_view request) {
  RawSocket socket(port);
  socket.Send(request);
  return socket.ReadAll();
}

constexpr std::string_view kPeerFields =
    "Host: a\r\nX-Server-From: 2\r\nX-Server-Version: 3.5.0\r\nX-Min-Cluster-Version: 3.0.0\r\n"
    "X-Raft-To: 1\r\nConnection: close\r\n";

std::string Request(std::string_view line, std::string_view more = "X-Etcd-Cluster-ID: abcdef\r\n",
                    std::string_view body = "") {
  std::string out = std::string(line) + " HTTP/1.1\r\n" + std::string(kPeerFields) + std::string(more);
  if (!body.empty()) out += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  return out + "\r\n" + std::string(body);
}

TEST(PeerPort, StreamRequests_RefusedAsEtcdDoes) {
  TestPeer a(1);
  a.transport->AddPeer(2, {"http://127.0.0.1:1"});
  a.transport->AddPeer(0xfe, {"http://127.0.0.1:1"});
  {
    std::lock_guard lock(a.handler.mutex);
    a.handler.removed_ids.push_back(0xdead);
  }
  EXPECT_THAT(Exchange(a.port, Request("GET /raft/stream/msgapp/2", "X-Etcd-Cluster-ID: 1\r\n")),
              AllOf(StartsWith("HTTP/1.1 412 "), HasSubstr("X-Etcd-Cluster-ID: abcdef\r\n"),
                    HasSubstr("cluster ID mismatch\n")));
  EXPECT_THAT(Exchange(a.port, Request("GET /raft/stream/msgapp/2", "")), StartsWith("HTTP/1.1 412 "));
  EXPECT_THAT(Exchange(a.port, Request("GET /raft/stream/msgapp/dead")),
              AllOf(StartsWith("HTTP/1.1 410 "), HasSubstr("removed member\n")));
  EXPECT_THAT(Exchange(a.port, Request("GET /raft/stream/message/5")),
              AllOf(StartsWith("HTTP/1.1 404 "), HasSubstr("error sender not found\n")));
  EXPECT_THAT(Exchange(a.port, Request("GET /raft/stream/message/xyz")),
              AllOf(StartsWith("HTTP/1.1 404 "), HasSubstr("invalid from\n")));
  EXPECT_THAT(Exchange(a.port, Request("GET /raft/stream/other/2")),
              AllOf(StartsWith("HTTP/1.1 404 "), HasSubstr("invalid path\n")));
  EXPECT_THAT(Exchange(a.port, Request("POST /raft/stream/msgapp/2")),
              AllOf(StartsWith("HTTP/1.1 405 "), HasSubstr("Allow: GET\r\n")));
  std::string other = Request("GET /raft/stream/msgapp/2");
  other.replace(other.find("X-Raft-To: 1"), 12, "X-Raft-To: 9");
  EXPECT_THAT(Exchange(a.port, other), AllOf(StartsWith("HTTP/1.1 412 "), HasSubstr("to field mismatch\n")));
  for (auto [server, min] :
       {std::pair("2.3.0", "2.3.0"), std::pair("4.1.0", "4.0.0"), std::pair("x", "3.0.0")}) {
    std::string request = Request("GET /raft/stream/msgapp/2");
    request.replace(request.find("3.5.0"), 5, server);
    request.replace(request.find("3.0.0"), 5, min);
    EXPECT_THAT(Exchange(a.port, request),
                AllOf(StartsWith("HTTP/1.1 412 "), HasSubstr("incompatible version\n")));
  }
}

TEST(PeerPort, StreamRequest_AnsweredWithHeartbeats) {
  TestPeer a(1, [](PeerTransportOptions& o) { o.heartbeat_interval = std::chrono::milliseconds(50); });
  a.transport->AddPeer(2, {"http://127.0.0.1:1"});
  RawSocket appends(a.port), messages(a.port);
  appends.Send(Request("GET /raft/stream/msgapp/2"));
  messages.Send(Request("GET /raft/stream/message/2"));
  EXPECT_THAT(appends.ReadUntil("\r\n\r\n"),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("X-Server-Version: 3.7.1\r\n"),
                    HasSubstr("X-Etcd-Cluster-ID: abcdef\r\n"), HasSubstr("Transfer-Encoding: chunked\r\n")));
  EXPECT_EQ(appends.ReadUntil(std::string("\0\r\n", 3)), std::string("1\r\n\0\r\n", 6));
  messages.ReadUntil("\r\n\r\n");
  EXPECT_EQ(messages.ReadUntil("\b\b\r\n"), std::string("a\r\n\0\0\0\0\0\0\0\2\b\b\r\n", 15));
}

TEST(PeerPort, PostedMessages) {
  TestPeer a(1);
  raftpb::Message m;
  m.set_type(raftpb::MsgVote);
  m.set_from(2);
  m.set_to(1);
  constexpr const char* kCluster = "X-Etcd-Cluster-ID: abcdef\r\n";
  EXPECT_THAT(Exchange(a.port, Request("POST /raft", kCluster, m.SerializeAsString())),
              StartsWith("HTTP/1.1 204 "));
  EXPECT_TRUE(a.handler.WaitFor([](RecordingHandler& h) { return h.messages.size() == 1; }));
  EXPECT_THAT(Exchange(a.port, Request("POST /raft", kCluster, "\xff\xff")),
              AllOf(StartsWith("HTTP/1.1 400 "), HasSubstr("error unmarshalling raft message\n")));
  EXPECT_THAT(Exchange(a.port, Request("POST /raft", "X-Etcd-Cluster-ID: 1\r\n", m.SerializeAsString())),
              AllOf(StartsWith("HTTP/1.1 412 "), HasSubstr("cluster ID mismatch\n")));
  EXPECT_THAT(Exchange(a.port, Request("GET /raft")),
              AllOf(StartsWith("HTTP/1.1 405 "), HasSubstr("Allow: POST")));
  m.set_to(9);
  EXPECT_THAT(Exchange(a.port, Request("POST /raft", kCluster, m.SerializeAsString())),
              StartsWith("HTTP/1.1 403 "));
  m.set_to(1);
  m.set_type(raftpb::MsgSnap);
  EXPECT_THAT(Exchange(a.port, Request("POST /raft", kCluster, m.SerializeAsString())),
              StartsWith("HTTP/1.1 400 "));
  // In chunks, as Go sends a body of unknown length.
  m.set_type(raftpb::MsgHeartbeat);
  std::string body = m.SerializeAsString();
  std::string chunked =
      std::string(1, static_cast<char>('0' + body.size())) + "\r\n" + body + "\r\n0\r\n\r\n";
  std::string request = "POST /raft HTTP/1.1\r\n" + std::string(kPeerFields) + kCluster +
                        "Transfer-Encoding: chunked\r\n\r\n" + chunked;
  EXPECT_THAT(Exchange(a.port, request), StartsWith("HTTP/1.1 204 "));
  EXPECT_TRUE(a.handler.WaitFor([](RecordingHandler& h) { return h.messages.size() == 2; }));
  EXPECT_EQ(a.handler.MessageCount(), 2u);
}

TEST(PeerPort, GarbageAndOversized_AnsweredAndClosed) {
  TestPeer a(1, [](PeerTransportOptions& o) {
    o.max_message_bytes = 100'000;
    o.max_body_bytes = 1000;
  });
  a.transport->AddPeer(2, {"http://127.0.0.1:1"});
  EXPECT_THAT(Exchange(a.port, "\x16\x03\x01\x02garbage"), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(Exchange(a.port, "GARBAGE\r\n\r\n"), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(Exchange(a.port, "GET / HTTP/1.1\r\nA: " + std::string(40'000, 'a')),
              StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(
      Exchange(a.port, Request("POST /raft", "X-Etcd-Cluster-ID: abcdef\r\n", std::string(200'000, 'x'))),
      StartsWith("HTTP/1.1 413 "));
  EXPECT_THAT(Exchange(a.port, Request("GET /nothing")),
              AllOf(StartsWith("HTTP/1.1 404 "), HasSubstr("404 page not found\n")));
  // A body without an announced length that does not end.
  std::string endless = "POST /raft HTTP/1.1\r\n" + std::string(kPeerFields) +
                        "X-Etcd-Cluster-ID: abcdef\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 200; ++i) endless += "400\r\n" + std::string(1024, 'x') + "\r\n";
  EXPECT_THAT(Exchange(a.port, endless), StartsWith("HTTP/1.1 413 "));
  // The port still works.
  EXPECT_THAT(Exchange(a.port, Request("GET /raft/probing")),
              AllOf(StartsWith("HTTP/1.1 200 "), HasSubstr("{\"OK\":true,\"Now\":\"20")));
}

TEST(PeerPort, SilentConnections_EndByTimeout) {
  TestPeer a(1, [](PeerTransportOptions& o) {
    o.read_timeout = std::chrono::milliseconds(200);
    o.max_connections = 4;
  });
  a.transport->AddPeer(2, {"http://127.0.0.1:1"});
  RawSocket silent(a.port), half(a.port), body(a.port);
  half.Send("GET /raft/prob");
  body.Send("POST /raft HTTP/1.1\r\n" + std::string(kPeerFields) +
            "X-Etcd-Cluster-ID: abcdef\r\nContent-Length: 100\r\n\r\nabc");
  EXPECT_EQ(silent.ReadAll(), "");
  EXPECT_EQ(half.ReadAll(), "");
  EXPECT_EQ(body.ReadAll(), "");
  // Beyond the limit of connections: closed at once; room again after the others have ended.
  std::vector<std::unique_ptr<RawSocket>> many;
  many.reserve(12);
  for (int i = 0; i < 12; ++i) many.push_back(std::make_unique<RawSocket>(a.port));
  EXPECT_EQ(many.back()->ReadAll(), "");
  many.clear();
  EXPECT_TRUE(Eventually(
      [&] { return Exchange(a.port, Request("GET /raft/probing")).rfind("HTTP/1.1 200 ", 0) == 0; }));
}

TEST(PeerPort, RegisteredHandlers_AnyThread) {
  TestPeer a(1);
  std::vector<std::thread> threads;
  a.transport->Handle("/members", [&](PeerRequest request, PeerTransport::Respond respond) {
    threads.emplace_back([request = std::move(request), respond = std::move(respond)]() mutable {
      PeerResponse response;
      response.body = request.method + " " + request.path + " " + request.query + " " + request.body + " " +
                      std::string(request.headers.Get("x-test"));
      respond(std::move(response));
    });
  });
  a.transport->Handle("/members/promote/", [](const PeerRequest& request, PeerTransport::Respond respond) {
    respond({412, {}, "promote " + request.path.substr(17)});
  });
  a.transport->Handle("/lost", [](const PeerRequest&, const PeerTransport::Respond&) {});
  HttpCallOptions options;
  PeerRequest request;
  request.method = "POST";
  request.path = "/members";
  request.query = "linearizable=false";
  request.headers.Add("X-Test", "yes");
  request.body = "body";
  absl::StatusOr<PeerResponse> response = HttpCallBlocking(a.url(), request, options);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->status, 200);
  EXPECT_EQ(response->body, "POST /members linearizable=false body yes");
  EXPECT_EQ(response->headers.Get("x-etcd-cluster-id"), "abcdef");

  request = PeerRequest();
  request.path = "/members/promote/77";
  response = HttpCallBlocking(a.url(), request, options);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->status, 412);
  EXPECT_EQ(response->body, "promote 77");

  request.path = "/lost";
  response = HttpCallBlocking(a.url(), request, options);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->status, 500);
  for (std::thread& t : threads) t.join();
}

TEST(PeerPort, Client_ReusesConnectionsAndSurvivesTheirEnd) {
  TestPeer a(1, [](PeerTransportOptions& o) { o.read_timeout = std::chrono::milliseconds(300); });
  TestPeer b(2);
  auto get = [&] {
    PeerRequest request;
    request.path = "/raft/probing";
    std::mutex mutex;
    std::condition_variable changed;
    std::optional<absl::StatusOr<PeerResponse>> result;
    b.transport->http_client().Call(a.url(), request, HttpCallOptions(), [&](absl::StatusOr<PeerResponse> r) {
      std::lock_guard lock(mutex);
      result = std::move(r);
      changed.notify_one();
    });
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return result.has_value(); });
    return result->ok() ? (*result)->status : 0;
  };
  for (int i = 0; i < 50; ++i) EXPECT_EQ(get(), 200);
  // The server drops the idle connection; the next call does not notice.
  base::Nanos end = base::SystemClock().Monotonic() + std::chrono::milliseconds(800);
  EXPECT_TRUE(Eventually([&] { return base::SystemClock().Monotonic() > end; }));
  EXPECT_EQ(get(), 200);
}

TEST(PeerPort, Client_ErrorsAndBounds) {
  TestPeer a(1);
  a.transport->Handle("/large", [](const PeerRequest&, PeerTransport::Respond respond) {
    respond({200, {}, std::string(100'000, 'x')});
  });
  a.transport->Handle("/members", [](const PeerRequest&, PeerTransport::Respond respond) {
    respond({200, {}, "[]"});
  });
  std::vector<PeerTransport::Respond> held;
  a.transport->Handle("/slow", [&](const PeerRequest&, PeerTransport::Respond respond) {
    held.push_back(std::move(respond));
  });
  HttpCallOptions options;
  options.max_body_bytes = 1000;
  PeerRequest request;
  request.path = "/large";
  EXPECT_EQ(HttpCallBlocking(a.url(), request, options).status().code(),
            absl::StatusCode::kResourceExhausted);
  options.timeout = std::chrono::milliseconds(200);
  request.path = "/slow";
  EXPECT_EQ(HttpCallBlocking(a.url(), request, options).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(HttpCallBlocking("http://127.0.0.1:1", request, options).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(HttpCallBlocking("nonsense", request, options).status().code(),
            absl::StatusCode::kInvalidArgument);
  options.timeout = std::chrono::seconds(5);
  absl::StatusOr<PeerResponse> any = HttpGetFromAny({"http://127.0.0.1:1", a.url()}, "/members", options);
  ASSERT_TRUE(any.ok()) << any.status();
  EXPECT_EQ(any->body, "[]");
  any = HttpGetFromAny({a.url()}, "/absent", options);
  EXPECT_THAT(std::string(any.status().message()), HasSubstr("404"));
  a.transport->Stop();
  held.clear();
}

TEST(PeerPort, ListenTwice_SecondFails) {
  TestPeer a(1), b(2);
  EXPECT_EQ(b.transport->ListenPeer("127.0.0.1", a.port).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(b.transport->ListenPeer("127.0.0.1", 0).ok());
  EXPECT_FALSE(b.transport->ListenPeer("203.0.113.77", 0).ok());
}

}  // namespace
}  // namespace kvd::net
