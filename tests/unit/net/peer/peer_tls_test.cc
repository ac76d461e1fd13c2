// Members that speak TLS with one another.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "net/peer/peer_transport.h"
#include "net/tls/tls_context.h"
#include "test_peers.h"
#include "tls/certificates.h"

namespace kvd::net {
namespace {

using ::testing::HasSubstr;

class PeerTlsTest : public ::testing::Test {
 protected:
  PeerTlsTest() : ca_(dir_, "ca") { ca_.Issue("member"); }

  std::function<void(PeerTransportOptions&)> With(const std::string& name, bool check_address = true) {
    TlsOptions tls;
    tls.cert_file = dir_.Path(name + ".pem");
    tls.key_file = dir_.Path(name + ".key");
    tls.trusted_ca_file = ca_.file();
    tls.client_cert_auth = true;
    auto context = TlsContext::Create(tls);
    EXPECT_TRUE(context.ok()) << context.status();
    return [context = *context, check_address](PeerTransportOptions& options) {
      options.tls = context;
      options.check_client_address = check_address;
      options.read_timeout = std::chrono::milliseconds(500);
      options.heartbeat_interval = std::chrono::milliseconds(50);
    };
  }

  CertificateDir dir_;
  TestAuthority ca_;
};

TEST_F(PeerTlsTest, MessagesOfAllSizesArrive) {
  TestPeer a(1, With("member")), b(2, With("member"));
  ASSERT_EQ(a.url().substr(0, 8), "https://");
  Join(a, b);
  ASSERT_TRUE(a.WaitForStreams(2));
  ASSERT_TRUE(b.WaitForStreams(1));
  size_t sent = 0;
  for (size_t size : {size_t{0}, size_t{100}, size_t{100'000}, size_t{5'000'000}}) {
    std::vector<OutgoingMessage> messages;
    messages.push_back(TestMessage(raftpb::MsgApp, 1, 2, size, std::string(size, 'v')));
    a.Send(2, std::move(messages));
    ++sent;
  }
  ASSERT_TRUE(b.handler.WaitFor([&](RecordingHandler& h) { return h.messages.size() == sent; }));
  EXPECT_EQ(b.handler.messages.back().entries(0).data().size(), 5'000'000u);
  EXPECT_TRUE(Eventually([&] { return a.transport->ActiveSince(2).has_value(); }));
}

TEST_F(PeerTlsTest, RenewedCertificatesServeTheNextConnection) {
  TestPeer a(1, With("member")), b(2, With("member"));
  ca_.Issue("member", {.common_name = "renewed"});
  Join(a, b);
  EXPECT_TRUE(a.WaitForStreams(2));
  EXPECT_TRUE(b.WaitForStreams(1));
}

TEST_F(PeerTlsTest, ACertificateOfAnotherAuthorityIsRefused) {
  TestPeer a(1, With("member"));
  CertificateDir other_dir;
  TestAuthority other(other_dir, "other");
  other.Issue("stranger");
  TlsOptions tls;
  tls.cert_file = other_dir.Path("stranger.pem");
  tls.key_file = other_dir.Path("stranger.key");
  tls.trusted_ca_file = ca_.file();
  HttpCallOptions options;
  auto call = [&](const TlsOptions& with) {
    IoThreads threads(1);
    HttpClient client(threads.thread(0), *TlsContext::Create(with));
    PeerRequest request;
    request.path = "/raft/probing";
    absl::StatusOr<PeerResponse> result = absl::UnknownError("");
    std::atomic<bool> done{false};
    client.Call(a.url(), request, options, [&](absl::StatusOr<PeerResponse> response) {
      result = std::move(response);
      done = true;
    });
    EXPECT_TRUE(Eventually([&] { return done.load(); }));
    threads.Stop();
    return result;
  };
  EXPECT_EQ(call(tls).status().code(), absl::StatusCode::kUnavailable);
  tls.cert_file = tls.key_file = "";
  const auto without = call(tls);
  EXPECT_THAT(std::string(without.status().message()), HasSubstr("remote error: tls: "));
  tls.cert_file = dir_.Path("member.pem");
  tls.key_file = dir_.Path("member.key");
  const auto good = call(tls);
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_EQ(good->status, 200);
}

// As etcd's: the certificate of who connects is for another machine.
TEST_F(PeerTlsTest, ACertificateForAnotherAddressIsRefused) {
  ca_.Issue("far", {.alt_names = "IP:192.0.2.7"});
  ca_.Issue("named", {.alt_names = "DNS:localhost,IP:192.0.2.7"});
  ca_.Issue("nobody", {.alt_names = "DNS:*.nowhere.invalid,DNS:nowhere.invalid"});
  ca_.Issue("anybody", {.alt_names = ""});
  auto reaches = [&](const std::string& name, bool check) {
    TestPeer server(1, With("member", check));
    TlsOptions tls;
    tls.client_cert_file = dir_.Path(name + ".pem");
    tls.client_key_file = dir_.Path(name + ".key");
    tls.trusted_ca_file = ca_.file();
    IoThreads threads(1);
    HttpClient client(threads.thread(0), *TlsContext::Create(tls));
    PeerRequest request;
    request.path = "/raft/probing";
    std::atomic<int> status{-1};
    client.Call(server.url(), request, {}, [&](const absl::StatusOr<PeerResponse>& response) {
      status = response.ok() ? response->status : 0;
    });
    EXPECT_TRUE(Eventually([&] { return status.load() >= 0; }));
    threads.Stop();
    return status.load() == 200;
  };
  EXPECT_TRUE(reaches("member", true));
  EXPECT_TRUE(reaches("anybody", true));
  EXPECT_TRUE(reaches("named", true));
  EXPECT_FALSE(reaches("far", true));
  EXPECT_FALSE(reaches("nobody", true));
  EXPECT_TRUE(reaches("far", false));
}

TEST_F(PeerTlsTest, PlaintextAndSilenceEnd) {
  TestPeer a(1, With("member"));
  RawSocket plain(a.port);
  ASSERT_TRUE(plain.Send("GET /version HTTP/1.1\r\n\r\n"));
  EXPECT_THAT(plain.ReadAll(), HasSubstr("Client sent an HTTP request to an HTTPS server."));
  RawSocket silent(a.port), half(a.port);
  ASSERT_TRUE(half.Send("\x16\x03\x01\x01"));
  EXPECT_EQ(silent.ReadAll(), "");
  EXPECT_EQ(half.ReadAll(), "");
}

}  // namespace
}  // namespace kvd::net
