// The front door under TLS: both HTTPs and gRPC on one port, and what is no TLS.

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vector>

#include "net/startup/blocking_loop.h"
#include "net/startup/grpc_connection.h"
#include "net/tls/tls_session.h"
#include "test_server.h"
#include "tls/certificates.h"

namespace kvd::net {
namespace {

using ::testing::HasSubstr;
using Kind = TlsSession::Result::Kind;

int ConnectTo(uint16_t port) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  timeval limit{20, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  return fd;
}

std::string ReadAll(int fd) {
  std::string all;
  char buffer[4096];
  for (ssize_t n; (n = recv(fd, buffer, sizeof buffer, 0)) > 0;) all.append(buffer, static_cast<size_t>(n));
  return all;
}

class FrontDoorTlsTest : public ::testing::Test {
 protected:
  FrontDoorTlsTest() : ca_(dir_, "ca") {
    ca_.Issue("server");
    ca_.Issue("client");
    TlsOptions client;
    client.trusted_ca_file = ca_.file();
    client_ = *TlsContext::Create(client);
  }

  std::unique_ptr<TestServer> Serve(FrontDoorOptions options = {}, bool http = true) {
    TlsOptions tls;
    tls.cert_file = dir_.Path("server.pem");
    tls.key_file = dir_.Path("server.key");
    ListenOptions listen;
    listen.http = http;
    listen.tls = *TlsContext::Create(tls);
    return std::make_unique<TestServer>(options, 2, listen);
  }
  static std::string Url(const TestServer& server) {
    return "https://127.0.0.1:" + std::to_string(server.port());
  }
  static bool AwaitConnections(TestServer& server, size_t count) {
    const base::Nanos end = base::SystemClock().Monotonic() + std::chrono::seconds(20);
    while (server.door().connections() != count) {
      if (base::SystemClock().Monotonic() > end) return false;
      usleep(2000);
    }
    return true;
  }

  CertificateDir dir_;
  TestAuthority ca_;
  std::shared_ptr<const TlsContext> client_;
  BlockingLoop loop_;
};

TEST_F(FrontDoorTlsTest, HttpAndGrpcOnOnePort) {
  auto server = Serve();
  PeerRequest request;
  request.path = "/hello";
  auto hello = loop_.Http(Url(*server), request, {}, client_);
  ASSERT_TRUE(hello.ok()) << hello.status();
  EXPECT_EQ(hello->status, 200);

  auto grpc = GrpcConnection::Connect(loop_, Url(*server), {.tls = client_});
  ASSERT_TRUE(grpc.ok()) << grpc.status();
  for (size_t size : {size_t{0}, size_t{5}, size_t{20'000}, size_t{1'300'000}}) {
    std::string message(size, 'x');
    for (size_t i = 0; i < size; ++i) message[i] = static_cast<char>(i * 31 + i / 251);
    auto echoed = (*grpc)->Unary("/test.Echo/Unary", {}, message, std::chrono::seconds(20));
    ASSERT_TRUE(echoed.ok()) << echoed.status();
    EXPECT_EQ(*echoed, message);
    auto thrice = (*grpc)->Unary("/test.Echo/Pieces", {}, message, std::chrono::seconds(20));
    ASSERT_TRUE(thrice.ok()) << thrice.status();
    EXPECT_EQ(*thrice, message + message + message);
  }
}

TEST_F(FrontDoorTlsTest, ManyConnectionsAtOnce) {
  auto server = Serve();
  std::vector<std::unique_ptr<GrpcConnection>> all;
  for (int i = 0; i < 30; ++i) {
    auto one = GrpcConnection::Connect(loop_, Url(*server), {.tls = client_});
    ASSERT_TRUE(one.ok()) << one.status();
    all.push_back(*std::move(one));
  }
  for (auto& one : all) {
    EXPECT_EQ(*one->Unary("/test.Echo/Later", {}, "now", std::chrono::seconds(20)), "now");
  }
  all.clear();
  EXPECT_TRUE(AwaitConnections(*server, 0));
}

// A client that agrees on nothing is served by what it says.
TEST_F(FrontDoorTlsTest, WithoutAlpnTheFirstBytesDecide) {
  auto server = Serve();
  const int fd = ConnectTo(server->port());
  auto session = TlsSession::Connect(*client_, fd, "127.0.0.1", TlsSession::Protocols::kNone);
  ASSERT_TRUE(session.ok());
  ASSERT_EQ((*session)->Handshake().kind, Kind::kDone);
  std::string text = "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  const iovec range{text.data(), text.size()};
  ASSERT_EQ((*session)->Write(&range, 1).bytes, text.size());
  std::string answer;
  char byte;
  while ((*session)->Read(&byte, 1).kind == Kind::kDone) answer += byte;
  EXPECT_THAT(answer, HasSubstr("HTTP/1.1 200 OK"));
  close(fd);
}

TEST_F(FrontDoorTlsTest, PlaintextAndGarbageAreAnsweredOrClosed) {
  auto server = Serve();
  int fd = ConnectTo(server->port());
  const std::string text = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
  ASSERT_EQ(send(fd, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  EXPECT_EQ(ReadAll(fd), "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
  close(fd);
  fd = ConnectTo(server->port());
  ASSERT_EQ(send(fd, "\x80\x01\x02garbage", 10, 0), 10);
  EXPECT_EQ(ReadAll(fd), "");
  close(fd);
  // And the server is as well as before.
  EXPECT_TRUE(GrpcConnection::Connect(loop_, Url(*server), {.tls = client_}).ok());
  EXPECT_TRUE(AwaitConnections(*server, 0));
}

// Handshakes that never get anywhere cost nothing for long.
TEST_F(FrontDoorTlsTest, HalfOpenHandshakesEnd) {
  FrontDoorOptions options;
  options.first_bytes_timeout = std::chrono::milliseconds(300);
  auto server = Serve(options);
  std::vector<int> silent;
  for (int i = 0; i < 100; ++i) {
    silent.push_back(ConnectTo(server->port()));
    // Nothing, or the beginning of a record.
    if (i % 2 == 0) {
      EXPECT_EQ(send(silent.back(), "\x16\x03\x01\x01\x00\x01", 6, 0), 6);
    }
  }
  for (int fd : silent) {
    EXPECT_EQ(ReadAll(fd), "");
    close(fd);
  }
  EXPECT_TRUE(AwaitConnections(*server, 0));
}

TEST_F(FrontDoorTlsTest, ClientsAreToldWhatIsWrong) {
  auto server = Serve();
  TlsOptions stranger;
  CertificateDir other_dir;
  TestAuthority other(other_dir, "other");
  stranger.trusted_ca_file = other.file();
  PeerRequest request;
  request.path = "/hello";
  auto refused = loop_.Http(Url(*server), request, {}, *TlsContext::Create(stranger));
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("TLS handshake: tls: failed to verify"));
  EXPECT_EQ(loop_.Http(Url(*server), request, {}).status().code(), absl::StatusCode::kUnimplemented);
  // A client of TLS at a port without it.
  TestServer plain;
  EXPECT_EQ(
      loop_.Http("https://127.0.0.1:" + std::to_string(plain.port()), request, {}, client_).status().code(),
      absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace kvd::net
