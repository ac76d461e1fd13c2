#include "server/membership/cluster.h"

#include <map>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvd::server {
namespace {

using absl::StatusCode;
using testing::ElementsAre;

// The tables, as a batch would leave them.
class Tables : public MemberStore {
 public:
  void Put(ClusterTable table, std::string_view key, std::string_view value) override {
    rows_[{table, std::string(key)}] = std::string(value);
  }
  void Delete(ClusterTable table, std::string_view key) override { rows_.erase({table, std::string(key)}); }
  TableRows Rows(ClusterTable table) const {
    TableRows rows;
    for (const auto& [place, value] : rows_) {
      if (place.first == table) rows.emplace_back(place.second, value);
    }
    return rows;
  }

 private:
  std::map<std::pair<ClusterTable, std::string>, std::string> rows_;
};

std::string Context(uint64_t id, std::string url, bool learner = false, bool promote = false) {
  return ConfChangeContextToJson({{id, {std::move(url)}, learner, "", {}}, promote});
}

class ClusterTest : public testing::Test {
 protected:
  void Add(uint64_t id, const std::string& url, bool learner = false) {
    ChangeType type = learner ? ChangeType::kAddLearnerNode : ChangeType::kAddNode;
    ASSERT_TRUE(cluster_.Apply(type, id, Context(id, url, learner), tables_).ok());
  }
  void Start(uint64_t id, const std::string& name) {
    ASSERT_TRUE(cluster_.SetAttributes(id, {name, {"http://client-" + name}}, tables_).ok());
  }
  void ThreeStarted() {
    for (uint64_t id : {1, 2, 3}) {
      Add(id, "http://p" + std::to_string(id));
      Start(id, "m" + std::to_string(id));
    }
  }
  // What a restart sees.
  std::shared_ptr<const ClusterView> Reloaded() {
    Cluster other({});
    absl::Status status =
        other.Load(tables_.Rows(ClusterTable::kMembers), tables_.Rows(ClusterTable::kMembersRemoved),
                   tables_.Rows(ClusterTable::kCluster));
    EXPECT_TRUE(status.ok()) << status;
    return other.View();
  }

  Cluster cluster_{{.max_learners = 1}};
  Tables tables_;
};

TEST_F(ClusterTest, AppliedChangesAreSeenAndStored) {
  ThreeStarted();
  Add(4, "http://p4", true);
  auto view = cluster_.View();
  EXPECT_EQ(view->members.size(), 4u);
  EXPECT_TRUE(view->Find(4)->is_learner);
  EXPECT_THAT(view->PeerUrls(), ElementsAre("http://p1", "http://p2", "http://p3", "http://p4"));
  EXPECT_THAT(view->ClientUrls(), ElementsAre("http://client-m1", "http://client-m2", "http://client-m3"));

  ASSERT_TRUE(cluster_.Apply(ChangeType::kAddNode, 4, Context(4, "", false, true), tables_).ok());
  ASSERT_TRUE(
      cluster_.Apply(ChangeType::kUpdateNode, 2, MemberToJson({2, {"http://q2"}, false, "", {}}), tables_)
          .ok());
  ASSERT_TRUE(cluster_.Apply(ChangeType::kRemoveNode, 3, "", tables_).ok());
  // A view taken before stays as it was.
  EXPECT_EQ(view->members.size(), 4u);

  view = cluster_.View();
  EXPECT_FALSE(view->Find(4)->is_learner);
  EXPECT_THAT(view->Find(4)->peer_urls, ElementsAre("http://p4"));
  EXPECT_THAT(view->Find(2)->peer_urls, ElementsAre("http://q2"));
  EXPECT_EQ(view->Find(2)->name, "m2");
  EXPECT_EQ(view->Find(3), nullptr);
  EXPECT_THAT(view->removed, ElementsAre(3));
  auto again = Reloaded();
  EXPECT_EQ(again->members, view->members);
  EXPECT_EQ(again->removed, view->removed);
}

TEST_F(ClusterTest, RowsAreEtcds) {
  Add(0x8e9e05c52164694d, "http://localhost:2380");
  Start(0x8e9e05c52164694d, "default");
  cluster_.SetVersion({3, 7, 0}, tables_);
  EXPECT_THAT(tables_.Rows(ClusterTable::kMembers),
              ElementsAre(testing::Pair("8e9e05c52164694d",
                                        R"({"id":10276657743932975437,"peerURLs":["http://localhost:2380"],)"
                                        R"("name":"default","clientURLs":["http://client-default"]})")));
  EXPECT_THAT(tables_.Rows(ClusterTable::kCluster), ElementsAre(testing::Pair("clusterVersion", "3.7.0")));
  Add(0x0b, "http://b");
  ASSERT_TRUE(cluster_.Apply(ChangeType::kRemoveNode, 0x0b, "", tables_).ok());
  EXPECT_THAT(tables_.Rows(ClusterTable::kMembersRemoved), ElementsAre(testing::Pair("b", "removed")));
  cluster_.SetDowngrade({true, "3.6.0"}, tables_);
  EXPECT_THAT(tables_.Rows(ClusterTable::kCluster),
              testing::Contains(testing::Pair("downgrade", R"({"target-version":"3.6.0","enabled":true})")));
  EXPECT_EQ(Reloaded()->version, (Version{3, 7, 0}));
  EXPECT_EQ(Reloaded()->downgrade, (DowngradeInfo{true, "3.6.0"}));
}

TEST_F(ClusterTest, ChangesThatAreNotAllowedGetEtcdsErrors) {
  ThreeStarted();
  Add(4, "http://p4", true);
  ASSERT_TRUE(cluster_.Apply(ChangeType::kRemoveNode, 3, "", tables_).ok());
  struct Case {
    ChangeType type;
    uint64_t id;
    std::string context;
    StatusCode code;
    std::string message;
  };
  for (const Case& c : {
           Case{ChangeType::kAddNode, 3, Context(3, "http://p9"), StatusCode::kNotFound,
                "etcdserver: member not found"},
           Case{ChangeType::kAddNode, 1, Context(1, "http://p9"), StatusCode::kFailedPrecondition,
                "etcdserver: member ID already exist"},
           Case{ChangeType::kAddNode, 9, Context(9, "http://p2"), StatusCode::kFailedPrecondition,
                "etcdserver: Peer URLs already exists"},
           Case{ChangeType::kAddLearnerNode, 9, Context(9, "http://p9", true),
                StatusCode::kFailedPrecondition, "etcdserver: too many learner members in cluster"},
           Case{ChangeType::kAddNode, 1, Context(1, "", false, true), StatusCode::kFailedPrecondition,
                "etcdserver: can only promote a learner member"},
           Case{ChangeType::kAddNode, 9, Context(9, "", false, true), StatusCode::kNotFound,
                "etcdserver: member not found"},
           Case{ChangeType::kRemoveNode, 9, "", StatusCode::kNotFound, "etcdserver: member not found"},
           Case{ChangeType::kRemoveNode, 3, "", StatusCode::kNotFound, "etcdserver: member not found"},
           Case{ChangeType::kUpdateNode, 9, Context(9, "http://p9"), StatusCode::kNotFound,
                "etcdserver: member not found"},
           Case{ChangeType::kUpdateNode, 1, Context(1, "http://p2"), StatusCode::kFailedPrecondition,
                "etcdserver: Peer URLs already exists"},
       }) {
    absl::Status status = cluster_.CheckChange(c.type, c.id, c.context);
    EXPECT_EQ(status.code(), c.code) << c.message;
    EXPECT_EQ(std::string(status.message()), c.message);
    auto before = cluster_.View()->members;
    EXPECT_EQ(cluster_.Apply(c.type, c.id, c.context, tables_), status);
    EXPECT_EQ(cluster_.View()->members, before);
  }
  EXPECT_EQ(cluster_.CheckChange(ChangeType::kAddNode, 9, "rubbish").code(), StatusCode::kInvalidArgument);
  // A member may keep its own URL.
  EXPECT_TRUE(cluster_.CheckChange(ChangeType::kUpdateNode, 1, Context(1, "http://p1")).ok());
}

TEST_F(ClusterTest, ABootstrapShowsItsMembersBeforeTheyAreApplied) {
  cluster_.SetIds(1, 99);
  std::vector<Member> members = {{1, {"http://p1"}, false, "m1", {}}, {2, {"http://p2"}, false, "m2", {}}};
  cluster_.SetBootstrapMembers(members);
  EXPECT_EQ(cluster_.View()->members.size(), 2u);
  EXPECT_EQ(cluster_.local_id(), 1u);
  EXPECT_EQ(cluster_.cluster_id(), 99u);
  // The entries that add them are allowed, though they are shown already.
  Add(1, "http://p1");
  EXPECT_EQ(cluster_.View()->members.size(), 2u);
  Add(2, "http://p2");
  EXPECT_EQ(cluster_.View()->members.size(), 2u);
  EXPECT_EQ(cluster_.CheckChange(ChangeType::kAddNode, 2, Context(2, "http://p3")).code(),
            StatusCode::kFailedPrecondition);
}

TEST_F(ClusterTest, AttributesOfAStranger) {
  ThreeStarted();
  EXPECT_EQ(cluster_.SetAttributes(9, {"x", {}}, tables_).code(), StatusCode::kNotFound);
  ASSERT_TRUE(cluster_.Apply(ChangeType::kRemoveNode, 3, "", tables_).ok());
  EXPECT_TRUE(cluster_.SetAttributes(3, {"x", {}}, tables_).ok());
  EXPECT_EQ(cluster_.View()->Find(3), nullptr);
}

TEST_F(ClusterTest, StrictReconfigurationCountsStartedVoters) {
  Add(1, "http://p1");
  // One member that has not started: nothing may be added.
  EXPECT_EQ(cluster_.CheckAddVoter().code(), StatusCode::kFailedPrecondition);
  Start(1, "m1");
  EXPECT_TRUE(cluster_.CheckAddVoter().ok());
  Add(2, "http://p2");
  EXPECT_EQ(std::string(cluster_.CheckAddVoter().message()),
            "etcdserver: re-configuration failed due to not enough started members");
  EXPECT_EQ(cluster_.CheckRemove(1).code(), StatusCode::kFailedPrecondition);
  EXPECT_TRUE(cluster_.CheckRemove(2).ok());
  Start(2, "m2");
  EXPECT_TRUE(cluster_.CheckAddVoter().ok());
  Add(3, "http://p3", true);
  EXPECT_TRUE(cluster_.CheckRemove(3).ok());
  EXPECT_TRUE(cluster_.CheckPromote(3).ok());
  EXPECT_EQ(cluster_.CheckPromote(1).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(cluster_.CheckPromote(9).code(), StatusCode::kNotFound);
}

TEST_F(ClusterTest, UnreadableRowsAreDataLoss) {
  EXPECT_EQ(cluster_.Load({{"zz", "{}"}}, {}, {}).code(), StatusCode::kDataLoss);
  EXPECT_EQ(cluster_.Load({{"1", "{"}}, {}, {}).code(), StatusCode::kDataLoss);
  EXPECT_EQ(cluster_.Load({{"1", R"({"id":2,"peerURLs":["u"]})"}}, {}, {}).code(), StatusCode::kDataLoss);
  EXPECT_EQ(cluster_.Load({}, {{"", ""}}, {}).code(), StatusCode::kDataLoss);
  EXPECT_EQ(cluster_.Load({}, {}, {{"clusterVersion", "three"}}).code(), StatusCode::kDataLoss);
  EXPECT_TRUE(cluster_.Load({}, {}, {{"later", "x"}}).ok());
}

}  // namespace
}  // namespace kvd::server
