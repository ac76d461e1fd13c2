// Both protocols of discovery over real sockets, against services that answer what a test wants: also
// rubbish.
#include <unistd.h>

#include <functional>
#include <map>
#include <string>

#include "etcdserverpb/rpc.pb.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "net/grpc_server.h"
#include "net/http_call.h"
#include "net/io_threads.h"
#include "net/startup/blocking_loop.h"
#include "server/bootstrap/discovery.h"

namespace kvd::server {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

struct Canned {
  int status = 200;
  std::string body;
  net::HttpHeaders headers = {};
};

// A server that answers every plain request with what `answer` makes of it.
class Server {
 public:
  Server() : door_(threads_) {
    door_.RegisterHttp("", "/", [this](const std::shared_ptr<net::HttpCall>& call) {
      Canned canned = answer(call->request());
      net::HttpResponse response;
      response.status = canned.status;
      response.headers = canned.headers;
      response.body = net::Message(canned.body);
      call->Reply(std::move(response));
    });
  }
  ~Server() { door_.Shutdown(seconds(0)); }

  net::FrontDoor& door() { return door_; }
  void Start() {
    auto port = door_.Listen("127.0.0.1", 0);
    ASSERT_TRUE(port.ok()) << port.status();
    url = "http://127.0.0.1:" + std::to_string(*port);
    door_.Start();
  }

  std::function<Canned(const net::HttpRequest&)> answer = [](const net::HttpRequest&) {
    return Canned{404, ""};
  };
  std::string url;

 private:
  net::IoThreads threads_{1};
  net::FrontDoor door_;
};

class V2Wire : public testing::Test {
 protected:
  V2Wire() { server_.Start(); }
  std::unique_ptr<DiscoveryService> Service(const std::string& proxy = "") {
    config_ = DefaultConfig();
    config_.discovery_url = server_.url + "/a/token";
    config_.discovery_proxy = proxy;
    return NewV2Discovery(config_, loop_);
  }
  void Always(Canned canned) {
    server_.answer = [canned](const net::HttpRequest&) { return canned; };
  }

  Server server_;
  Config config_;
  net::BlockingLoop loop_;
};

TEST_F(V2Wire, RequestsAreThoseOfEtcdsClient) {
  std::vector<std::string> seen;
  server_.answer = [&seen](const net::HttpRequest& request) -> Canned {
    seen.push_back(request.method + " " + request.target + " " + request.body);
    if (request.method == "PUT") return {201, R"({"action":"create","node":{"key":"/a/token/7"}})"};
    if (request.path == "/a/token/_config/size") return {200, R"({"action":"get","node":{"value":"3"}})"};
    return {
        200,
        R"({"action":"get","node":{"dir":true,"nodes":[{"key":"/a/token/b","value":"m2=u","createdIndex":9},)"
        R"({"key":"/a/token/_config","dir":true},{"key":"/a/token/a","value":"m1=u","createdIndex":8}]}})",
        {{"X-Etcd-Index", "12"}}};
  };
  auto service = Service();
  EXPECT_EQ(*service->Size(), "3");
  EXPECT_TRUE(service->Register("7", "m1=http://h:1,m1=http://i:2").ok());
  auto listing = service->List();
  ASSERT_TRUE(listing.ok()) << listing.status();
  EXPECT_EQ(listing->index, 12u);
  EXPECT_THAT(listing->entries, testing::ElementsAre(DiscoveryService::Entry{"b", "m2=u", 9},
                                                     DiscoveryService::Entry{"a", "m1=u", 8}));
  EXPECT_TRUE(service->AwaitChange(12).ok());
  EXPECT_THAT(seen,
              testing::ElementsAre(
                  "GET /a/token/_config/size?quorum=false&recursive=false&sorted=false ",
                  "PUT /a/token/7?prevExist=false value=m1%3Dhttp%3A%2F%2Fh%3A1%2Cm1%3Dhttp%3A%2F%2Fi%3A2",
                  "GET /a/token?quorum=false&recursive=false&sorted=false ",
                  "GET /a/token?recursive=true&wait=true&waitIndex=13 "));
}

TEST_F(V2Wire, ErrorsHaveEtcdsMeaning) {
  auto service = Service();
  Always({404, R"({"errorCode":100,"message":"Key not found","cause":"/x","index":3})"});
  EXPECT_TRUE(absl::IsNotFound(service->Size().status()));
  Always({412, R"({"errorCode":105,"message":"Key already exists","cause":"/x","index":3})"});
  EXPECT_TRUE(absl::IsAlreadyExists(service->Register("7", "v")));
  Always({400, R"({"errorCode":401,"message":"outdated","cause":"/x","index":3})"});
  EXPECT_TRUE(service->AwaitChange(1).ok());
  Always({200, ""});
  EXPECT_TRUE(service->AwaitChange(1).ok());
  for (int status : {500, 502, 503}) {
    Always({status, "busy"});
    EXPECT_TRUE(absl::IsUnavailable(service->Size().status())) << status;
  }
}

TEST_F(V2Wire, WhatIsNotTheProtocolIsABadEndpoint) {
  auto service = Service();
  const Canned kBad[] = {
      {200, "<html>"},
      {404, "404 page not found"},
      {200, "{}"},
      {200, ""},
      {200, "[1,2"},
      {200, std::string(2 << 20, 'x')},
      {200, std::string(100'000, '[')},
      {302, "", {{"Location", "ftp://elsewhere/x"}}},
      {302, ""},
      {302, "", {{"Location", server_.url + "/round/and/round"}}},
      {200, R"({"node":{"value":"3"}})", {{"X-Etcd-Index", "many"}}},
  };
  for (const Canned& canned : kBad) {
    Always(canned);
    absl::Status status = service->Size().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << canned.body.substr(0, 20);
    EXPECT_THAT(std::string(status.message()), HasSubstr("discovery: bad discovery endpoint"));
  }
  Always({200, R"({"node":{"nodes":[{"key":"/a/token/b","value":"m2=u","createdIndex":"x"}]}})"});
  EXPECT_THAT(std::string(service->List().status().message()), HasSubstr("without createdIndex"));
}

TEST_F(V2Wire, RedirectsAndProxiesAreFollowed) {
  server_.answer = [this](const net::HttpRequest& request) -> Canned {
    if (request.path == "/a/token/_config/size") {
      return {307, "", {{"Location", server_.url + "/moved?x=1"}}};
    }
    return {200, R"({"node":{"value":")" + request.target + R"("}})"};
  };
  EXPECT_EQ(*Service()->Size(), "/moved?x=1");

  Server proxy;
  std::string asked;
  proxy.answer = [&asked](const net::HttpRequest& request) -> Canned {
    asked = request.target;
    return {200, R"({"node":{"value":"5"}})"};
  };
  proxy.Start();
  EXPECT_EQ(*Service(proxy.url.substr(7))->Size(), "5");
  EXPECT_EQ(asked, server_.url + "/a/token/_config/size?quorum=false&recursive=false&sorted=false");
}

TEST_F(V2Wire, NobodyThereIsUnavailable) {
  config_ = DefaultConfig();
  config_.discovery_url = "http://127.0.0.1:1/token";
  EXPECT_TRUE(absl::IsUnavailable(NewV2Discovery(config_, loop_)->Size().status()));
}

// --- v3.

class V3Wire : public testing::Test {
 protected:
  std::unique_ptr<DiscoveryService> Service(std::vector<std::string> endpoints) {
    config_ = DefaultConfig();
    config_.discovery.endpoints = std::move(endpoints);
    config_.discovery.token = "tok";
    config_.discovery.request_timeout = seconds(2);
    config_.discovery.user = user_;
    return NewV3Discovery(config_, loop_);
  }

  std::string user_;
  Config config_;
  net::BlockingLoop loop_;
};

TEST_F(V3Wire, KeysAndTokensAreEtcds) {
  Server server;
  std::string asked, token;
  server.door().RegisterUnary("/etcdserverpb.Auth/Authenticate", [](net::UnaryCall call) {
    etcdserverpb::AuthenticateRequest request;
    request.ParseFromArray(call.request().data(), static_cast<int>(call.request().size()));
    etcdserverpb::AuthenticateResponse response;
    response.set_token(request.name() + "/" + request.password());
    call.Reply(net::Message(response.SerializeAsString()));
  });
  server.door().RegisterUnary("/etcdserverpb.KV/Range", [&](net::UnaryCall call) {
    etcdserverpb::RangeRequest request;
    request.ParseFromArray(call.request().data(), static_cast<int>(call.request().size()));
    asked = request.key() + " " + request.range_end();
    token = std::string(call.metadata("token").value_or(""));
    etcdserverpb::RangeResponse response;
    response.mutable_header()->set_revision(44);
    auto& kv = *response.add_kvs();
    kv.set_key(request.key() + (request.range_end().empty() ? "" : "abc"));
    kv.set_value("3");
    kv.set_create_revision(40);
    call.Reply(net::Message(response.SerializeAsString()));
  });
  server.Start();
  user_ = "root:secret";
  auto service = Service({"127.0.0.1:1", server.url.substr(7)});
  auto size = service->Size();
  ASSERT_TRUE(size.ok()) << size.status();
  EXPECT_EQ(*size, "3");
  EXPECT_EQ(asked, "/_etcd/registry/tok/_config/size ");
  EXPECT_EQ(token, "root/secret");
  auto listing = service->List();
  ASSERT_TRUE(listing.ok()) << listing.status();
  EXPECT_EQ(asked, "/_etcd/registry/tok/members/ /_etcd/registry/tok/members0");
  EXPECT_EQ(listing->index, 44u);
  EXPECT_THAT(listing->entries, testing::ElementsAre(DiscoveryService::Entry{"abc", "3", 40}));
}

TEST_F(V3Wire, FailuresAreWorthARetryOrTheEnd) {
  EXPECT_TRUE(absl::IsUnavailable(Service({"127.0.0.1:1"})->Size().status()));

  Server plain;  // no gRPC service at all
  plain.Start();
  absl::Status status = Service({plain.url})->Size().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("discovery: " + plain.url + ": "));

  Server busy;
  busy.door().RegisterUnary("/etcdserverpb.KV/Range", [](net::UnaryCall call) {
    call.Fail(net::StatusCode::kUnavailable, "etcdserver: leader changed");
  });
  busy.door().RegisterUnary("/etcdserverpb.KV/Txn", [](net::UnaryCall call) {
    call.Fail(net::StatusCode::kInvalidArgument, "etcdserver: 100% wrong");
  });
  busy.Start();
  auto service = Service({busy.url});
  EXPECT_TRUE(absl::IsUnavailable(service->Size().status()));
  EXPECT_TRUE(absl::IsUnavailable(service->List().status()));
  EXPECT_EQ(service->Register("a", "v").message(), "discovery: " + busy.url + ": etcdserver: 100% wrong");
}

TEST_F(V3Wire, AnswersThatMakeNoSenseEndIt) {
  Server server;
  std::string body;
  server.door().RegisterUnary("/etcdserverpb.KV/Range",
                              [&body](net::UnaryCall call) { call.Reply(net::Message(body)); });
  server.Start();
  auto service = Service({server.url});
  body = "\xff\xff\xff";
  EXPECT_EQ(service->Size().status().code(), absl::StatusCode::kFailedPrecondition);
  etcdserverpb::RangeResponse foreign;
  foreign.add_kvs()->set_key("/elsewhere");
  body = foreign.SerializeAsString();
  EXPECT_EQ(service->List().status().code(), absl::StatusCode::kFailedPrecondition);
  body.clear();
  EXPECT_TRUE(absl::IsNotFound(service->Size().status()));
}

// --- The loop below them.

TEST(BlockingLoop, AnInterruptEndsWhatWaits) {
  int pipe_fds[2];
  ASSERT_EQ(::pipe(pipe_fds), 0);
  Server silent;  // accepts, and never answers
  silent.answer = [](const net::HttpRequest&) { return Canned{200, "x"}; };
  silent.Start();
  net::BlockingLoop loop(pipe_fds[0]);
  EXPECT_TRUE(loop.Pause(std::chrono::milliseconds(1)).ok());
  ASSERT_EQ(::write(pipe_fds[1], "x", 1), 1);
  EXPECT_TRUE(absl::IsCancelled(loop.Pause(seconds(60))));
  EXPECT_TRUE(absl::IsCancelled(loop.Http(silent.url, {}, {}).status()));
  ::close(pipe_fds[0]);
  ::close(pipe_fds[1]);
}

}  // namespace
}  // namespace kvd::server
