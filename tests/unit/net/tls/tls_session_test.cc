#include "net/tls/tls_session.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "tls/certificates.h"

namespace kvd::net {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Kind = TlsSession::Result::Kind;

std::string ReadText(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

// Two sessions on the ends of one pair of sockets.
struct Pair {
  Pair() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0); }
  ~Pair() {
    for (int fd : fds) {
      if (fd >= 0) close(fd);
    }
  }

  // False: one of the two has failed; the other one has then seen its end.
  bool Shake(const TlsContext& server_context, const TlsContext& client_context,
             const std::string& host = "127.0.0.1") {
    auto accepted = TlsSession::Accept(server_context, fds[0], TlsSession::Protocols::kHttp1AndHttp2);
    auto connected = TlsSession::Connect(client_context, fds[1], host, TlsSession::Protocols::kHttp2);
    EXPECT_TRUE(accepted.ok()) << accepted.status();
    EXPECT_TRUE(connected.ok()) << connected.status();
    server = *std::move(accepted);
    client = *std::move(connected);
    bool server_done = false, client_done = false;
    for (int i = 0; i < 20 && !(server_done && client_done); ++i) {
      if (!client_done) client_done = Step(*client, fds[1]);
      if (!server_done) server_done = Step(*server, fds[0]);
      if (failed) break;
    }
    if (failed) {
      // The other side learns of it.
      char byte;
      if (client->error().ok()) (void)(client_done ? client->Read(&byte, 1) : client->Handshake());
      if (server->error().ok()) (void)(server_done ? server->Read(&byte, 1) : server->Handshake());
    }
    return server_done && client_done;
  }

  bool Step(TlsSession& session, int fd) {
    const TlsSession::Result result = session.Handshake();
    if (result.kind == Kind::kFailed) {
      failed = true;
      shutdown(fd, SHUT_WR);
    }
    return result.kind == Kind::kDone;
  }

  int fds[2] = {-1, -1};
  bool failed = false;
  std::unique_ptr<TlsSession> server, client;
};

class TlsSessionTest : public ::testing::Test {
 protected:
  TlsSessionTest() : ca_(dir_, "ca"), other_ca_(dir_, "other-ca") {
    ca_.Issue("server", {.common_name = "server"});
    ca_.Issue("client", {.common_name = "client"});
  }

  TlsOptions ServerOptions(const std::string& name = "server") {
    TlsOptions options;
    options.cert_file = dir_.Path(name + ".pem");
    options.key_file = dir_.Path(name + ".key");
    return options;
  }
  TlsOptions ClientOptions(const std::string& name = "") {
    TlsOptions options;
    if (!name.empty()) options = ServerOptions(name);
    options.trusted_ca_file = ca_.file();
    return options;
  }
  static std::shared_ptr<const TlsContext> Make(const TlsOptions& options) {
    auto context = TlsContext::Create(options);
    EXPECT_TRUE(context.ok()) << context.status();
    return *context;
  }
  // The text of the side that refuses; "" if the two agree.
  std::string ServerRefusal(const TlsContext& server, const TlsContext& client) {
    Pair pair;
    if (pair.Shake(server, client)) return "";
    EXPECT_FALSE(pair.client->error().ok());
    return std::string(pair.server->error().message());
  }
  std::string ClientRefusal(const TlsContext& server, const TlsContext& client,
                            const std::string& host = "127.0.0.1") {
    Pair pair;
    if (pair.Shake(server, client, host)) return "";
    EXPECT_FALSE(pair.server->error().ok());
    return std::string(pair.client->error().message());
  }

  CertificateDir dir_;
  TestAuthority ca_, other_ca_;
};

TEST_F(TlsSessionTest, BytesGoBothWays) {
  Pair pair;
  ASSERT_TRUE(pair.Shake(*Make(ServerOptions()), *Make(ClientOptions())));
  std::string ping = "ping";
  const iovec ranges[] = {{ping.data(), 2}, {nullptr, 0}, {ping.data() + 2, 2}};
  EXPECT_EQ(pair.client->Write(ranges, 3).bytes, 4u);
  char got[16];
  TlsSession::Result read = pair.server->Read(got, sizeof got);
  EXPECT_EQ(std::string(got, read.bytes), "ping");
  EXPECT_EQ(pair.server->Read(got, sizeof got).kind, Kind::kWantRead);
  const iovec back[] = {{ping.data(), 4}};
  EXPECT_EQ(pair.server->Write(back, 1).bytes, 4u);
  EXPECT_EQ(pair.client->Read(got, 3).bytes, 3u);
  EXPECT_EQ(pair.client->Read(got, sizeof got).bytes, 1u);
  // An end in order, and one that cuts the stream off, are told apart.
  pair.client->Shutdown();
  EXPECT_EQ(pair.server->Read(got, sizeof got).kind, Kind::kEnd);
  shutdown(pair.fds[0], SHUT_WR);
  EXPECT_EQ(pair.client->Read(got, sizeof got).kind, Kind::kFailed);
}

// Many ranges of all sizes into a socket that takes a little at a time.
TEST_F(TlsSessionTest, WritesThatBlockGoOnWhereTheyWere) {
  Pair pair;
  ASSERT_TRUE(pair.Shake(*Make(ServerOptions()), *Make(ClientOptions())));
  std::string sent;
  for (size_t i = 0; sent.size() < 3'000'000; ++i) sent += std::to_string(i) + ",";
  std::string got;
  size_t at = 0, blocked = 0;
  for (size_t turn = 0; got.size() < sent.size() && turn < 1'000'000; ++turn) {
    std::vector<iovec> ranges;
    const size_t sizes[] = {1, 70'000, 3, 500, 20'000, 16'384, 9};
    size_t from = at;
    for (size_t i = 0; i < 7 && from < sent.size(); ++i) {
      const size_t n = std::min(sizes[i], sent.size() - from);
      ranges.push_back({sent.data() + from, n});
      from += n;
    }
    if (!ranges.empty()) {
      const TlsSession::Result written = pair.server->Write(ranges.data(), static_cast<int>(ranges.size()));
      ASSERT_NE(written.kind, Kind::kFailed) << pair.server->error();
      if (written.kind == Kind::kDone) {
        at += written.bytes;
        continue;
      }
      ++blocked;
    }
    char buffer[10'000];
    const TlsSession::Result read = pair.client->Read(buffer, sizeof buffer);
    ASSERT_NE(read.kind, Kind::kFailed);
    if (read.kind == Kind::kDone) got.append(buffer, read.bytes);
  }
  EXPECT_GT(blocked, 0u);
  EXPECT_EQ(got, sent);
}

TEST_F(TlsSessionTest, TheServersCertificateMustBeGood) {
  auto client = Make(ClientOptions());
  EXPECT_THAT(ClientRefusal(*Make(ServerOptions()), *client), IsEmpty());
  EXPECT_THAT(ClientRefusal(*Make(ServerOptions()), *client, "localhost"), IsEmpty());
  EXPECT_THAT(ClientRefusal(*Make(ServerOptions()), *client, "elsewhere.example"), HasSubstr("mismatch"));
  EXPECT_THAT(ClientRefusal(*Make(ServerOptions()), *client, "10.0.0.1"), HasSubstr("mismatch"));
  other_ca_.Issue("foreign");
  EXPECT_THAT(ClientRefusal(*Make(ServerOptions("foreign")), *client),
              HasSubstr("tls: failed to verify certificate: unable to get local issuer"));
  ca_.Issue("old", {.days = -1});
  EXPECT_THAT(ClientRefusal(*Make(ServerOptions("old")), *client), HasSubstr("expired"));
  ca_.Issue("for-clients", {.usages = "clientAuth"});
  EXPECT_THAT(ClientRefusal(*Make(ServerOptions("for-clients")), *client), HasSubstr("verify"));
  // A host's name in the place of the common name counts for nothing.
  ca_.Issue("named", {.common_name = "localhost", .alt_names = ""});
  EXPECT_THAT(ClientRefusal(*Make(ServerOptions("named")), *client, "localhost"), HasSubstr("mismatch"));

  TlsOptions renamed = ClientOptions();
  renamed.server_name = "localhost";
  EXPECT_THAT(ClientRefusal(*Make(ServerOptions()), *Make(renamed), "10.0.0.1"), IsEmpty());
  TlsOptions trusting;
  trusting.skip_verify = true;
  EXPECT_THAT(ClientRefusal(*Make(ServerOptions("old")), *Make(trusting), "elsewhere.example"), IsEmpty());
}

TEST_F(TlsSessionTest, ClientsMustHaveACertificateWhereThereIsAnAuthority) {
  TlsOptions options = ServerOptions();
  options.trusted_ca_file = ca_.file();
  auto server = Make(options);
  EXPECT_THAT(ServerRefusal(*server, *Make(ClientOptions("client"))), IsEmpty());
  EXPECT_THAT(ServerRefusal(*server, *Make(ClientOptions())),
              HasSubstr("client didn't provide a certificate"));
  other_ca_.Issue("foreign");
  EXPECT_THAT(ServerRefusal(*server, *Make(ClientOptions("foreign"))),
              HasSubstr("failed to verify certificate"));
  ca_.Issue("old", {.days = -1});
  EXPECT_THAT(ServerRefusal(*server, *Make(ClientOptions("old"))), HasSubstr("expired"));
  ca_.Issue("for-servers", {.usages = "serverAuth"});
  EXPECT_THAT(ServerRefusal(*server, *Make(ClientOptions("for-servers"))), HasSubstr("verify"));
  // The certificate to dial with may be another one than that to serve with.
  TlsOptions two = ClientOptions("server");
  two.client_cert_file = dir_.Path("client.pem");
  two.client_key_file = dir_.Path("client.key");
  options.allowed_cns = {"client"};
  EXPECT_THAT(ServerRefusal(*Make(options), *Make(two)), IsEmpty());
  EXPECT_THAT(ServerRefusal(*Make(options), *Make(ClientOptions("server"))),
              HasSubstr("CommonName authentication failed"));
  TlsOptions demanding = ServerOptions();
  demanding.client_cert_auth = true;
  EXPECT_THAT(ServerRefusal(*Make(demanding), *Make(ClientOptions())), HasSubstr("didn't provide"));
}

TEST_F(TlsSessionTest, NamesOfClientsMayBeLimited) {
  ca_.Issue("web", {.alt_names = "DNS:web.kvd.example"});
  ca_.Issue("wild", {.alt_names = "DNS:*.kvd.example"});
  TlsOptions options = ServerOptions();
  options.trusted_ca_file = ca_.file();
  options.allowed_hostnames = {"web.kvd.example", "10.9.8.7"};
  auto server = Make(options);
  EXPECT_THAT(ServerRefusal(*server, *Make(ClientOptions("web"))), IsEmpty());
  EXPECT_THAT(ServerRefusal(*server, *Make(ClientOptions("wild"))), IsEmpty());
  EXPECT_EQ(ServerRefusal(*server, *Make(ClientOptions("client"))),
            "client certificate authentication failed");
}

TEST_F(TlsSessionTest, RevokedCertificatesAreRefused) {
  const long serial = ca_.Issue("lost");
  for (bool der : {false, true}) {
    ca_.Revoke("crl", {}, der);
    TlsOptions options = ServerOptions();
    options.trusted_ca_file = ca_.file();
    options.crl_file = dir_.Path("crl");
    auto server = Make(options);
    EXPECT_THAT(ServerRefusal(*server, *Make(ClientOptions("lost"))), IsEmpty());
    ca_.Revoke("crl", {7, serial}, der);
    EXPECT_EQ(ServerRefusal(*server, *Make(ClientOptions("lost"))),
              "transport: certificate serial 1003 revoked");
    EXPECT_THAT(ServerRefusal(*server, *Make(ClientOptions("client"))), IsEmpty());
  }
}

TEST_F(TlsSessionTest, RenewedFilesAreTakenAtTheNextHandshake) {
  auto server = Make(ServerOptions());
  auto client = Make(ClientOptions());
  other_ca_.Issue("next");
  const std::string key = ReadText(dir_.Path("next.key")), cert = ReadText(dir_.Path("next.pem"));
  EXPECT_THAT(ClientRefusal(*server, *client), IsEmpty());
  // The certificate alone does not fit the key: what was there serves on.
  dir_.Write("server.pem", cert);
  EXPECT_THAT(ClientRefusal(*server, *client), IsEmpty());
  dir_.Write("server.key", key);
  EXPECT_THAT(ClientRefusal(*server, *client), HasSubstr("failed to verify certificate"));
  // The client's authorities are renewed, too.
  dir_.Write("ca.pem", ReadText(ca_.file()) + ReadText(other_ca_.file()));
  EXPECT_THAT(ClientRefusal(*server, *client), IsEmpty());
}

TEST_F(TlsSessionTest, VersionsAndCipherSuitesAreAgreedOn) {
  TlsOptions old_server = ServerOptions(), new_client = ClientOptions();
  old_server.max_version = "TLS1.2";
  new_client.min_version = "TLS1.3";
  EXPECT_THAT(ServerRefusal(*Make(old_server), *Make(new_client)), HasSubstr("tls: "));
  new_client.min_version = "TLS1.2";
  EXPECT_THAT(ServerRefusal(*Make(old_server), *Make(new_client)), IsEmpty());
  old_server.cipher_suites = {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"};
  new_client.cipher_suites = {"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"};
  EXPECT_THAT(ServerRefusal(*Make(old_server), *Make(new_client)), HasSubstr("no shared cipher"));
  new_client.cipher_suites.push_back("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
  EXPECT_THAT(ServerRefusal(*Make(old_server), *Make(new_client)), IsEmpty());
}

TEST_F(TlsSessionTest, WhatIsNoHandshakeIsRefusedAtOnce) {
  auto server = Make(ServerOptions());
  for (const std::string& bytes :
       {std::string("GET / HTTP/1.1\r\n\r\n"), std::string("PRI * HTTP/2.0"), std::string("\0\0\0\0", 4),
        std::string("\x16\x03\x01\x00\x05hello", 10), std::string("\x16\xff\xff\xff\xff garbage", 13)}) {
    Pair pair;
    auto session = TlsSession::Accept(*server, pair.fds[0], TlsSession::Protocols::kHttp1);
    ASSERT_TRUE(session.ok());
    EXPECT_EQ((*session)->Handshake().kind, Kind::kWantRead);
    ASSERT_EQ(write(pair.fds[1], bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    EXPECT_EQ((*session)->Handshake().kind, Kind::kFailed);
    EXPECT_THAT(std::string((*session)->error().message()), HasSubstr("tls: "));
    (*session)->AnswerPlainHttp();
    char answer[200];
    const ssize_t n = recv(pair.fds[1], answer, sizeof answer, 0);
    const std::string text(answer, n < 0 ? 0 : static_cast<size_t>(n));
    if (bytes[0] == 'G' || bytes[0] == 'P') {
      EXPECT_THAT(text, HasSubstr("Client sent an HTTP request to an HTTPS server."));
    }
  }
  Pair gone;
  auto session = TlsSession::Accept(*server, gone.fds[0], TlsSession::Protocols::kHttp1);
  shutdown(gone.fds[1], SHUT_WR);
  EXPECT_EQ((*session)->Handshake().kind, Kind::kFailed);
  EXPECT_TRUE((*session)->ended_silently());
}

TEST_F(TlsSessionTest, FilesThatCannotBeUsedAreNamed) {
  auto text = [](const TlsOptions& options) {
    return std::string(TlsContext::Create(options).status().message());
  };
  TlsOptions options = ServerOptions("absent");
  EXPECT_EQ(text(options), "open " + dir_.Path("absent.pem") + ": no such file or directory");
  options = ServerOptions();
  options.key_file = dir_.Path("client.key");
  EXPECT_THAT(text(options), HasSubstr(dir_.Path("client.key") + ": no key of the certificate in"));
  options.key_file = "";
  EXPECT_THAT(text(options),
              HasSubstr("KeyFile and CertFile must both be present[key: , cert: " + dir_.Path("")));
  dir_.Write("garbage", "nothing");
  options = ServerOptions();
  options.cert_file = dir_.Path("garbage");
  EXPECT_THAT(text(options), HasSubstr("garbage: no certificate in PEM form"));
  options = ServerOptions();
  options.trusted_ca_file = dir_.Path("garbage");
  EXPECT_THAT(text(options), HasSubstr("garbage: no certificates in PEM form"));
  options = ServerOptions();
  options.crl_file = dir_.Path("garbage");
  EXPECT_THAT(text(options), HasSubstr("garbage: no revocation list in PEM or DER form"));
  options = ServerOptions();
  options.cipher_suites = {"TLS_NONE"};
  EXPECT_EQ(text(options), "unexpected TLS cipher suite \"TLS_NONE\"");
  EXPECT_THAT(std::string(CheckTlsCipherSuites({"TLS_RSA_WITH_RC4_128_SHA"}).message()),
              HasSubstr("too weak"));
}

TEST_F(TlsSessionTest, ASelfSignedCertificateIsMadeOnceAndServes) {
  const std::string dir = dir_.Path("fixtures/client");
  ASSERT_TRUE(MakeSelfSignedCertificate(dir, {"127.0.0.1", "::1", "localhost"}, 1).ok());
  struct stat found {};
  ASSERT_EQ(stat((dir + "/key.pem").c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777U, 0600u);
  const std::string made = ReadText(dir + "/cert.pem");
  ASSERT_TRUE(MakeSelfSignedCertificate(dir, {"10.0.0.1"}, 1).ok());
  EXPECT_EQ(ReadText(dir + "/cert.pem"), made);

  TlsOptions options;
  options.cert_file = dir + "/cert.pem";
  options.key_file = dir + "/key.pem";
  TlsOptions client;
  client.trusted_ca_file = options.cert_file;  // vouches for itself
  for (const char* host : {"127.0.0.1", "::1", "localhost"}) {
    EXPECT_THAT(ClientRefusal(*Make(options), *Make(client), host), IsEmpty()) << host;
  }
  EXPECT_THAT(ClientRefusal(*Make(options), *Make(client), "10.0.0.1"), HasSubstr("mismatch"));
}

}  // namespace
}  // namespace kvd::net
