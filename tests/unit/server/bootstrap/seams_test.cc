// The bootstrap's questions to other members, over real sockets.
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "net/grpc_server.h"
#include "net/http_call.h"
#include "net/io_threads.h"
#include "server/bootstrap/bootstrap.h"

namespace kvd::server {
namespace {

using std::chrono::seconds;
using testing::Contains;
using testing::HasSubstr;

// A member's peer port that says what a test wants.
class Peer {
 public:
  Peer(const std::string& cluster_id, const std::string& members, const std::string& version)
      : door_(threads_) {
    Serve("/members", members, cluster_id);
    Serve("/version", version, "");
    auto port = door_.Listen("127.0.0.1", 0);
    EXPECT_TRUE(port.ok()) << port.status();
    url_ = "http://127.0.0.1:" + std::to_string(*port);
    door_.Start();
  }
  ~Peer() { door_.Shutdown(seconds(0)); }
  const std::string& url() const { return url_; }

 private:
  void Serve(const std::string& path, const std::string& body, const std::string& cluster_id) {
    door_.RegisterHttp("GET", path, [body, cluster_id](const std::shared_ptr<net::HttpCall>& call) {
      net::HttpResponse response;
      if (!cluster_id.empty()) response.headers.emplace_back("X-Etcd-Cluster-ID", cluster_id);
      response.body = net::Message(body);
      call->Reply(std::move(response));
    });
  }

  net::IoThreads threads_{1};
  net::FrontDoor door_;
  std::string url_;
};

constexpr char kMembers[] = R"([{"id":7,"peerURLs":["http://10.0.0.1:2380"],"name":"m1"}])";
constexpr char kVersion[] = R"({"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"})";
constexpr char kNobody[] = "http://127.0.0.1:1";

BootstrapSeams Seams() {
  static const Config config = DefaultConfig();
  auto seams = SystemBootstrapSeams(config);
  EXPECT_TRUE(seams.ok()) << seams.status();
  return *std::move(seams);
}

TEST(SystemBootstrapSeams, TheFirstThatAnswersTellsTheMembers) {
  Peer empty("4d", "[]", kVersion);
  Peer peer("4d", kMembers, kVersion);
  auto cluster = Seams().fetch_cluster({kNobody, empty.url(), peer.url()}, seconds(5));
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->cluster_id, 0x4du);
  ASSERT_EQ(cluster->members.size(), 1u);
  EXPECT_EQ(cluster->members[0].name, "m1");
}

TEST(SystemBootstrapSeams, NoAnswerAndBadAnswersAreUnavailable) {
  Peer no_cluster("", kMembers, "");
  Peer rubbish("4d", "<html>", "<html>");
  BootstrapSeams seams = Seams();
  for (const std::string& url :
       {std::string(kNobody), no_cluster.url(), rubbish.url(), rubbish.url() + "x"}) {
    auto cluster = seams.fetch_cluster({url}, seconds(5));
    EXPECT_EQ(cluster.status().code(), absl::StatusCode::kUnavailable) << url << " " << cluster.status();
    EXPECT_THAT(std::string(cluster.status().message()), HasSubstr(url));
  }
  EXPECT_EQ(seams.fetch_cluster({}, seconds(1)).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(seams.fetch_version({rubbish.url()}, seconds(5)).ok());
}

TEST(SystemBootstrapSeams, VersionsMayBeUndecided) {
  BootstrapSeams seams = Seams();
  Peer decided("4d", kMembers, kVersion);
  auto version = seams.fetch_version({kNobody, decided.url()}, seconds(5));
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_EQ(*version, (Version{3, 7, 0}));
  Peer undecided("4d", kMembers, R"({"etcdserver":"3.7.1","etcdcluster":"not_decided"})");
  version = seams.fetch_version({undecided.url()}, seconds(5));
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_FALSE(version->has_value());
}

TEST(SystemBootstrapSeams, HostsResolve) {
  BootstrapSeams seams = Seams();
  auto addresses = seams.resolve("localhost");
  ASSERT_TRUE(addresses.ok()) << addresses.status();
  EXPECT_THAT(*addresses, testing::AnyOf(Contains("127.0.0.1"), Contains("::1")));
  EXPECT_EQ(*seams.resolve("10.1.2.3"), std::vector<std::string>{"10.1.2.3"});
  EXPECT_FALSE(seams.resolve("no-such-host.invalid").ok());
}

TEST(SystemBootstrapSeams, DnsServersMustBeAddresses) {
  Config config = DefaultConfig();
  config.discovery_dns_servers = {"127.0.0.1:53", "not an address"};
  auto seams = SystemBootstrapSeams(config);
  EXPECT_EQ(seams.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(seams.status().message()), HasSubstr("--discovery-dns-servers: "));
}

}  // namespace
}  // namespace kvd::server
