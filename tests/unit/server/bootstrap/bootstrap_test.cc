#include "server/bootstrap/bootstrap.h"

#include <map>
#include <memory>
#include <string>

#include "base/log.h"
#include "base/mem_file_system.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/bootstrap/discovery.h"
#include "server/bootstrap/recovery.h"

namespace kvd::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr char kThree[] = "m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380,m3=http://10.0.0.3:2380";

// A machine with an empty disk, a resolver that knows a few names, and the peers that a test puts there.
class BootstrapTest : public testing::Test {
 protected:
  BootstrapTest() {
    seams_.fs = &fs_;
    seams_.log_exists = [this](const std::string& dir) -> absl::StatusOr<bool> { return fs_.Exists(dir); };
    seams_.fetch_cluster = [this](const std::vector<std::string>& urls,
                                  Duration) -> absl::StatusOr<RemoteCluster> {
      asked_ = urls;
      if (!remote_) return absl::UnavailableError("connection refused");
      return *remote_;
    };
    seams_.fetch_version = [this](const std::vector<std::string>& urls,
                                  Duration) -> absl::StatusOr<std::optional<Version>> {
      auto it = versions_.find(urls.at(0));
      if (it == versions_.end()) return absl::UnavailableError("connection refused");
      return it->second;
    };
    seams_.resolve = [this](const std::string& host) -> absl::StatusOr<std::vector<std::string>> {
      auto it = hosts_.find(host);
      if (it == hosts_.end()) return absl::UnavailableError("no such host " + host);
      return std::vector<std::string>{it->second};
    };
    seams_.services = [this](const std::string& name) -> absl::StatusOr<std::vector<net::SrvRecord>> {
      auto it = services_.find(name);
      if (it == services_.end()) return absl::NotFoundError("lookup " + name + ": no such host");
      return it->second;
    };
    seams_.discovery = [this](const Config&) { return std::make_unique<Registry>(entries_); };
    seams_.pause = [](Duration) { return absl::CancelledError("interrupted"); };
    hosts_ = {{"10.0.0.1", "10.0.0.1"},
              {"10.0.0.2", "10.0.0.2"},
              {"10.0.0.3", "10.0.0.3"},
              {"one.example", "10.0.0.1"}};
  }

  // A discovery service where everybody has registered.
  class Registry final : public DiscoveryService {
   public:
    explicit Registry(std::vector<Entry> entries) : entries_(std::move(entries)) {}
    std::string Name() const override { return "http://d.example/token"; }
    bool Reclaims() const override { return true; }
    absl::StatusOr<std::string> Size() override { return std::to_string(entries_.size()); }
    absl::StatusOr<Listing> List() override { return Listing{entries_, 9}; }
    absl::Status Register(const std::string& id, const std::string& value) override {
      for (const Entry& entry : entries_) {
        if (entry.id == id && entry.value == value) return absl::AlreadyExistsError(id);
      }
      return absl::InternalError("the test expects another member: " + id + " " + value);
    }
    absl::Status AwaitChange(uint64_t) override { return absl::InternalError("everybody is there"); }

   private:
    const std::vector<Entry> entries_;
  };

  // m1 with the other two, each as it registers.
  Config Discovering() {
    Config config = Settings("m1", "http://10.0.0.1:2380", "");
    config.discovery_url = "http://d.example/token";
    for (const char* member :
         {"m2=http://10.0.0.2:2380", "m1=http://10.0.0.1:2380", "m3=http://10.0.0.3:2380"}) {
      const std::string text = member;
      entries_.push_back({base::HexId(BootstrapMemberId({text.substr(3)}, config.discovery_url)), text,
                          entries_.size() + 1});
    }
    return config;
  }
  Config FromDns(const std::string& name = "m1", const std::string& advertise = "http://10.0.0.1:2380") {
    Config config = Settings(name, advertise, "");
    config.discovery_srv = "example.com";
    return config;
  }
  static Config Settings(const std::string& name, const std::string& advertise, const std::string& cluster,
                         ClusterState state = ClusterState::kNew) {
    Config config = DefaultConfig();
    config.name = name;
    config.data_dir = "/data";
    config.advertise_peer_urls = *ParseUrlList(advertise);
    config.initial_cluster = cluster;
    config.initial_cluster_state = state;
    return config;
  }
  static Config First(ClusterState state = ClusterState::kNew) {
    return Settings("m1", "http://10.0.0.1:2380", kThree, state);
  }
  std::string Failure(const Config& config) {
    auto result = Bootstrap(config, seams_);
    return result.ok() ? "it started" : std::string(result.status().message());
  }
  // Three members that run, the first added but not started.
  RemoteCluster Running() const {
    RemoteCluster remote;
    remote.cluster_id = 77;
    remote.members = {{103, {"http://10.0.0.3:2380"}, false, "m3", {"http://10.0.0.3:2379"}},
                      {101, {"http://10.0.0.1:2380"}, true, "", {}},
                      {102, {"http://10.0.0.2:2380"}, false, "m2", {"http://10.0.0.2:2379"}}};
    return remote;
  }

  base::MemFileSystem fs_;
  BootstrapSeams seams_;
  std::optional<RemoteCluster> remote_;
  std::map<std::string, std::optional<Version>> versions_;
  std::map<std::string, std::string> hosts_;
  std::vector<std::string> asked_;
  std::map<std::string, std::vector<net::SrvRecord>> services_;
  std::vector<DiscoveryService::Entry> entries_;
};

TEST_F(BootstrapTest, ADefaultMemberHasEtcdsIds) {
  Config config = DefaultConfig();
  config.data_dir = "/data";
  auto result = Bootstrap(config, seams_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->mode, StartMode::kNew);
  EXPECT_EQ(base::HexId(result->local_id), "8e9e05c52164694d");
  EXPECT_EQ(base::HexId(result->cluster_id), "cdf818194e3a8c32");
  ASSERT_EQ(result->members.size(), 1u);
  EXPECT_EQ(MemberToJson(result->members[0]),
            R"({"id":10276657743932975437,"peerURLs":["http://localhost:2380"],"name":"default"})");
  EXPECT_TRUE(*fs_.Exists("/data/member/snap"));
  EXPECT_FALSE(*fs_.Exists("/data/member/.touch"));
}

TEST_F(BootstrapTest, EveryMemberOfANewClusterComputesTheSame) {
  auto one = Bootstrap(First(), seams_);
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_THAT(asked_, ElementsAre("http://10.0.0.2:2380", "http://10.0.0.3:2380"));
  auto two = Bootstrap(Settings("m2", "http://10.0.0.2:2380", kThree), seams_);
  ASSERT_TRUE(two.ok()) << two.status();
  EXPECT_EQ(one->cluster_id, two->cluster_id);
  EXPECT_EQ(one->members, two->members);
  EXPECT_NE(one->local_id, two->local_id);
  Config other_token = First();
  other_token.initial_cluster_token = "another";
  EXPECT_NE(Bootstrap(other_token, seams_)->cluster_id, one->cluster_id);
}

TEST_F(BootstrapTest, WrongClustersAreToldAsEtcdDoes) {
  EXPECT_EQ(Failure(Settings("m4", "http://10.0.0.1:2380", kThree)),
            "couldn't find local name \"m4\" in the initial cluster configuration");
  EXPECT_EQ(Failure(Settings("m1", "http://10.0.0.2:2380", kThree)),
            "--initial-cluster has m1=http://10.0.0.1:2380 but missing from "
            "--initial-advertise-peer-urls=http://10.0.0.2:2380");
  EXPECT_EQ(Failure(Settings("m1", "http://10.0.0.1:2380,http://10.0.0.1:9", "m1=http://10.0.0.1:2380")),
            "--initial-advertise-peer-urls has m1=http://10.0.0.1:9 but missing from "
            "--initial-cluster=m1=http://10.0.0.1:2380");
  EXPECT_EQ(
      Failure(Settings("m1", "http://10.0.0.1:2380", "m1=http://10.0.0.1:2380,m2=http://10.0.0.1:2380")),
      "initial cluster m1=http://10.0.0.1:2380,m2=http://10.0.0.1:2380 has duplicate url");
  EXPECT_EQ(Failure(Settings("m1", "http://10.0.0.1:2380", "")),
            "initial cluster unset and no discovery endpoints found");
}

TEST_F(BootstrapTest, NamesOfOneAddressAreTheSame) {
  EXPECT_TRUE(Bootstrap(Settings("m1", "http://one.example:2380", kThree), seams_).ok());
  EXPECT_THAT(Failure(Settings("m1", "http://two.example:2380", kThree)),
              HasSubstr("no such host two.example"));
  // The same machine, but another port.
  EXPECT_THAT(Failure(Settings("m1", "http://one.example:2390", kThree)),
              HasSubstr("--initial-cluster has m1="));
}

TEST_F(BootstrapTest, AMemberThatRunsAlreadyIsNotStartedAnew) {
  auto first = Bootstrap(First(), seams_);
  ASSERT_TRUE(first.ok());
  remote_ = RemoteCluster{first->cluster_id, first->members};
  EXPECT_TRUE(Bootstrap(First(), seams_).ok());  // known, but never started
  for (Member& member : remote_->members) {
    if (member.id == first->local_id) member.client_urls = {"http://10.0.0.1:2379"};
  }
  EXPECT_THAT(Failure(First()),
              StartsWith("member " + base::HexId(first->local_id) + " has already been bootstrapped"));
  EXPECT_THAT(Failure(First()), HasSubstr("member recover"));
  // Removed and added again since, it has another ID.
  for (Member& member : remote_->members) {
    if (member.id == first->local_id) member.id = 4711;
  }
  EXPECT_THAT(Failure(First()), StartsWith("member 1267 has already been bootstrapped"));
}

TEST_F(BootstrapTest, JoiningTakesTheIdsOfTheRunningCluster) {
  remote_ = Running();
  versions_ = {{"http://10.0.0.2:2380", Version{3, 6, 0}}};
  auto result = Bootstrap(First(ClusterState::kExisting), seams_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->mode, StartMode::kJoin);
  EXPECT_EQ(result->local_id, 101u);
  EXPECT_EQ(result->cluster_id, 77u);
  ASSERT_EQ(result->members.size(), 3u);
  EXPECT_EQ(result->members[0].id, 101u);
  EXPECT_TRUE(result->members[0].is_learner);
  EXPECT_THAT(asked_, ElementsAre("http://10.0.0.2:2380", "http://10.0.0.3:2380"));
}

TEST_F(BootstrapTest, JoiningFailsWithEtcdsMessages) {
  Config config = First(ClusterState::kExisting);
  EXPECT_EQ(Failure(config), "cannot fetch cluster info from peer urls: connection refused");
  remote_ = Running();
  EXPECT_EQ(Failure(config), "incompatible with current running cluster");
  versions_ = {{"http://10.0.0.2:2380", Version{3, 8, 0}}, {"http://10.0.0.3:2380", Version{3, 7, 0}}};
  EXPECT_EQ(Failure(config), "incompatible with current running cluster");
  versions_ = {{"http://10.0.0.2:2380", std::nullopt}, {"http://10.0.0.3:2380", Version{3, 7, 0}}};
  EXPECT_TRUE(Bootstrap(config, seams_).ok());

  remote_->members[1].peer_urls = {"http://10.0.0.9:2380"};
  EXPECT_THAT(Failure(config),
              HasSubstr("PeerURLs: no match found for existing member (65, [http://10.0.0.9:2380])"));
  remote_->members.pop_back();
  EXPECT_THAT(Failure(config), HasSubstr("member count is unequal"));
}

TEST_F(BootstrapTest, JoiningWaitsForAClusterThatHasNotDecidedItsVersion) {
  const Config config = First(ClusterState::kExisting);
  remote_ = Running();
  versions_ = {{"http://10.0.0.2:2380", std::nullopt}, {"http://10.0.0.3:2380", std::nullopt}};
  int pauses = 0;
  seams_.pause = [&](Duration) {
    if (++pauses == 3) versions_["http://10.0.0.3:2380"] = Version{3, 7, 0};
    return absl::OkStatus();
  };
  EXPECT_TRUE(Bootstrap(config, seams_).ok());
  EXPECT_EQ(pauses, 3);
  versions_["http://10.0.0.3:2380"] = std::nullopt;
  EXPECT_EQ(Failure(config), "incompatible with current running cluster");
  seams_.pause = [](Duration) { return absl::CancelledError("interrupted"); };
  EXPECT_EQ(Failure(config), "interrupted");
}

TEST_F(BootstrapTest, AMemberThatHasLostItsDataDoesNotJoinUnderItsOldId) {
  remote_ = Running();
  versions_ = {{"http://10.0.0.2:2380", Version{3, 7, 0}}};
  remote_->members[1].name = "m1";
  EXPECT_THAT(Failure(First(ClusterState::kExisting)), HasSubstr("member 65 has already been bootstrapped"));
}

TEST_F(BootstrapTest, ALogMeansARestart) {
  ASSERT_TRUE(fs_.CreateDirs("/data/member/wal").ok());
  auto result = Bootstrap(First(), seams_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->mode, StartMode::kRestart);
  EXPECT_TRUE(result->backend_missing);
  EXPECT_TRUE(asked_.empty());
  EXPECT_THAT(std::string(BackendMissing(First()).message()), HasSubstr("/data/member/rocksdb"));
  ASSERT_TRUE(fs_.CreateDirs("/data/member/rocksdb").ok());
  // What the settings say of the cluster does not matter any more.
  result = Bootstrap(Settings("m9", "http://10.0.0.9:1", "m1=http://10.0.0.1:2380", ClusterState::kExisting),
                     seams_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->backend_missing);
}

TEST_F(BootstrapTest, ADataDirectoryThatCannotBeUsedIsNamed) {
  ASSERT_TRUE(fs_.CreateDirs("/data/proxy").ok());
  EXPECT_THAT(Failure(First()), HasSubstr("/data is that of a v2 proxy"));
  ASSERT_TRUE(fs_.RemoveAll("/data/proxy").ok());
  fs_.SetFaultHook([](base::MemFileSystem::Op op, const std::string& path) {
    if (op != base::MemFileSystem::Op::kOpen || path.find(".touch") == std::string::npos)
      return absl::OkStatus();
    return absl::PermissionDeniedError("open " + path + ": permission denied");
  });
  EXPECT_EQ(Failure(First()),
            "cannot write to member directory: open /data/member/.touch: permission denied");
}

TEST_F(BootstrapTest, AStartThatFailsLeavesTheDiskAsItWas) {
  EXPECT_NE(Failure(Settings("m4", "http://10.0.0.1:2380", kThree)), "it started");
  EXPECT_NE(Failure(First(ClusterState::kExisting)), "it started");
  Config config = Discovering();
  entries_[0].value = "rubbish";
  EXPECT_NE(Failure(config), "it started");
  EXPECT_FALSE(*fs_.Exists("/data"));
}

// --- DNS.

TEST_F(BootstrapTest, SrvRecordsNameTheMembers) {
  services_["_etcd-server._tcp.example.com"] = {
      {"one.example", 2380, 0, 0}, {"10.0.0.2", 2380, 0, 0}, {"10.0.0.3", 2380, 1, 0}};
  auto result = Bootstrap(FromDns(), seams_);
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->members.size(), 3u);
  std::vector<std::string> urls;
  for (const Member& member : result->members) {
    urls.push_back(member.peer_urls.at(0));
    EXPECT_TRUE(member.name.empty());  // each member numbers the others in its own way
  }
  EXPECT_THAT(urls, testing::UnorderedElementsAre("http://one.example:2380", "http://10.0.0.2:2380",
                                                  "http://10.0.0.3:2380"));
  EXPECT_EQ(result->local_id, BootstrapMemberId({"http://one.example:2380"}, "etcd-cluster"));
  auto second = Bootstrap(FromDns("0", "http://10.0.0.2:2380"), seams_);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->cluster_id, result->cluster_id);
  EXPECT_EQ(second->members, result->members);
}

TEST_F(BootstrapTest, TheServiceNameHasASuffix) {
  services_["_etcd-server-blue._tcp.example.com"] = {{"10.0.0.1", 2380, 0, 0}};
  Config config = FromDns();
  EXPECT_THAT(Failure(config), HasSubstr("error querying DNS SRV records for _etcd-server-ssl lookup "
                                         "_etcd-server-ssl._tcp.example.com: no such host; error querying"));
  config.discovery_srv_name = "blue";
  EXPECT_TRUE(Bootstrap(config, seams_).ok());
}

TEST_F(BootstrapTest, RecordsThatDoNotFitAreRefused) {
  services_["_etcd-server._tcp.example.com"] = {{"10.0.0.2", 2380, 0, 0}, {"10.0.0.1", 9, 0, 0}};
  EXPECT_EQ(Failure(FromDns()),
            "error setting up initial cluster: cannot find local etcd member \"m1\" in SRV records: none has "
            "the host and port of http://10.0.0.1:2380");
  services_["_etcd-server._tcp.example.com"].push_back({"nobody.example", 2380, 0, 0});
  EXPECT_THAT(Failure(FromDns()), HasSubstr("in SRV records (no such host nobody.example)"));
  services_.clear();
  services_["_etcd-server-ssl._tcp.example.com"] = {{"10.0.0.1", 2380, 0, 0}};
  EXPECT_THAT(Failure(FromDns()),
              HasSubstr("in SRV records (bootstrap at https://10.0.0.1:2380 from DNS for etcd-server-ssl has "
                        "scheme mismatch with expected peer http://10.0.0.1:2380)"));
}

TEST_F(BootstrapTest, RecordsOfBothKindsMakeOneCluster) {
  services_["_etcd-server._tcp.example.com"] = {{"10.0.0.2", 2380, 0, 0}};
  services_["_etcd-server-ssl._tcp.example.com"] = {{"10.0.0.1", 2380, 0, 0}};
  Config config = FromDns();
  config.advertise_peer_urls = *ParseUrlList("https://10.0.0.1:2380");
  auto result = Bootstrap(config, seams_);
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->members.size(), 2u);
  EXPECT_EQ(result->local_id, BootstrapMemberId({"https://10.0.0.1:2380"}, config.initial_cluster_token));
}

TEST_F(BootstrapTest, JoiningThroughDnsMatchesByUrls) {
  services_["_etcd-server._tcp.example.com"] = {
      {"one.example", 2380, 0, 0}, {"10.0.0.2", 2380, 0, 0}, {"10.0.0.3", 2380, 0, 0}};
  Config config = FromDns();
  config.initial_cluster_state = ClusterState::kExisting;
  remote_ = Running();
  versions_ = {{"http://10.0.0.2:2380", Version{3, 6, 0}}};
  auto result = Bootstrap(config, seams_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->mode, StartMode::kJoin);
  EXPECT_EQ(result->local_id, 101u);
}

// --- Discovery.

TEST_F(BootstrapTest, DiscoveredMembersFormTheCluster) {
  auto result = Bootstrap(Discovering(), seams_);
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->members.size(), 3u);
  EXPECT_EQ(result->local_id, BootstrapMemberId({"http://10.0.0.1:2380"}, "http://d.example/token"));
  EXPECT_THAT(asked_, ElementsAre("http://10.0.0.2:2380", "http://10.0.0.3:2380"));
  EXPECT_TRUE(*fs_.Exists("/data/member/snap"));
}

TEST_F(BootstrapTest, WhatOthersHaveRegisteredIsChecked) {
  const struct {
    const char* value;
    const char* error;
  } kCases[] = {
      {"", "discovery: invalid peer URL"},
      {"m2", "discovery: invalid peer URL"},
      {"m2=ftp://10.0.0.2:1", "discovery: invalid peer URL"},
      {"m2=http://10.0.0.2:2380,m4=http://10.0.0.4:2380", "discovery: invalid peer URL"},
      {"m2=http://10.0.0.9:2380", "discovery: member \"m2\" has registered as"},
      {"m1=http://10.0.0.2:2380", "discovery: found duplicate name \"m1\""},
  };
  const Config config = Discovering();
  for (const auto& [value, error] : kCases) {
    entries_[0].value = value;
    EXPECT_THAT(Failure(config), HasSubstr(std::string("failed to join discovery cluster (") + error))
        << value;
  }
  EXPECT_FALSE(*fs_.Exists("/data"));
}

TEST_F(BootstrapTest, DiscoveryIsForNewClusters) {
  Config config = Discovering();
  config.initial_cluster_state = ClusterState::kExisting;
  EXPECT_EQ(Failure(config), "discovery URL should not be set when joining existing initial cluster");
  ASSERT_TRUE(fs_.CreateDirs("/data/member/wal").ok());
  EXPECT_TRUE(Bootstrap(config, seams_).ok());  // a restart asks nobody
}

TEST_F(BootstrapTest, ADiscoveredMemberThatHasLostItsDataDoesNotStartAnew) {
  Config config = Discovering();
  auto first = Bootstrap(config, seams_);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(fs_.RemoveAll("/data").ok());
  remote_ = RemoteCluster{first->cluster_id, first->members};
  for (Member& member : remote_->members) member.client_urls = {"http://10.0.0.1:2379"};
  EXPECT_THAT(Failure(config),
              StartsWith("member " + base::HexId(first->local_id) + " has already been bootstrapped"));
  EXPECT_FALSE(*fs_.Exists("/data"));
}

TEST_F(BootstrapTest, AnUnusableDirectoryIsToldBeforeRegistering) {
  Config config = Discovering();
  bool asked = false;
  seams_.discovery = [&asked, this](const Config&) {
    asked = true;
    return std::make_unique<Registry>(entries_);
  };
  ASSERT_TRUE(fs_.CreateDirs("/data/proxy").ok());
  EXPECT_THAT(Failure(config), HasSubstr("/data is that of a v2 proxy"));
  EXPECT_FALSE(asked);
}

TEST(CheckIdentity, AnotherMembersDirectoryIsRefused) {
  Config config = DefaultConfig();
  config.name = "m1";
  config.data_dir = "/data";
  config.advertise_peer_urls = *ParseUrlList("http://10.0.0.1:2380");
  config.initial_cluster = kThree;
  auto members = InitialMembers(config);
  ASSERT_TRUE(members.ok());
  std::map<std::string, uint64_t> ids;
  for (const Member& member : *members) ids[member.name] = member.id;

  EXPECT_TRUE(CheckIdentity(config, ids["m1"], 7, *members).ok());
  absl::Status status = CheckIdentity(config, ids["m2"], 7, *members);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("the data directory /data belongs to member " + base::HexId(ids["m2"]) +
                        " (\"m2\", http://10.0.0.2:2380)"));
  // Before any member is stored, the settings alone tell.
  EXPECT_FALSE(CheckIdentity(config, ids["m2"], 7, {}).ok());
  EXPECT_TRUE(CheckIdentity(config, ids["m1"], 7, {}).ok());
  EXPECT_TRUE(CheckIdentity(config, 12345, 7, {}).ok());
  // A member whose URLs have been changed, or that was renamed, is still itself.
  config.advertise_peer_urls = *ParseUrlList("http://10.0.0.8:2380");
  config.name = "other";
  EXPECT_TRUE(CheckIdentity(config, ids["m2"], 7, *members).ok());
}

TEST(CheckIdentity, AnotherClustersDirectoryIsRefused) {
  Config config = DefaultConfig();
  config.name = "m1";
  config.data_dir = "/data";
  config.advertise_peer_urls = *ParseUrlList("http://10.0.0.1:2380");
  config.initial_cluster = kThree;
  const std::vector<Member> others = {{41, {"http://10.9.9.1:2380"}, false, "m1", {}},
                                      {42, {"http://10.9.9.2:2380"}, false, "m2", {}}};
  absl::Status status = CheckIdentity(config, 41, 7, others);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("--initial-cluster names other members"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("member recover m1 --data-dir=/data"));
  // Naming nobody else, it may have moved.
  config.initial_cluster = "m1=http://10.0.0.1:2380";
  EXPECT_TRUE(CheckIdentity(config, 41, 7, others).ok());
}

TEST(HowToRecover, NamesTheOthersOrSaysThatThereAreNone) {
  Config config = DefaultConfig();
  config.name = "m1";
  config.data_dir = "/data";
  const std::vector<Member> three = {{1, {"http://a:1"}, false, "m1", {"http://a:2"}},
                                     {2, {"http://b:1"}, false, "m2", {"http://b:2"}},
                                     {3, {"http://c:1"}, false, "m3", {"http://c:2"}}};
  const std::string text = HowToRecover(config, three, 0, true);
  EXPECT_THAT(text, HasSubstr("kvctl --endpoints=http://b:2,http://c:2 member recover m1 --data-dir=/data`"));
  EXPECT_THAT(text, HasSubstr("--force-new-cluster"));
  EXPECT_THAT(HowToRecover(config, {}, 0, false), HasSubstr("restore a backup"));
  EXPECT_THAT(HowToRecover(config, {three[0]}, 0, true), ::testing::Not(HasSubstr("member recover")));
}

}  // namespace
}  // namespace kvd::server
