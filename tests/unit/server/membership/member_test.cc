#include "server/membership/member.h"

#include <string>

#include "base/log.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvd::server {
namespace {

// The values of countless etcd documents: a single default member.
TEST(MemberId, DefaultSingleMemberIsEtcds) {
  uint64_t id = BootstrapMemberId({"http://localhost:2380"}, "etcd-cluster");
  EXPECT_EQ(base::HexId(id), "8e9e05c52164694d");
  EXPECT_EQ(base::HexId(ClusterIdOf({id})), "cdf818194e3a8c32");
}

TEST(MemberId, TheOrderOfUrlsAndIdsDoesNotMatter) {
  EXPECT_EQ(BootstrapMemberId({"http://a:1", "http://b:1"}, "t"),
            BootstrapMemberId({"http://b:1", "http://a:1"}, "t"));
  EXPECT_NE(BootstrapMemberId({"http://a:1"}, "t"), BootstrapMemberId({"http://a:1"}, "u"));
  EXPECT_EQ(ClusterIdOf({1, 2, 3}), ClusterIdOf({3, 1, 2}));
}

TEST(MemberId, AMemberAddedLaterDependsOnTheTime) {
  EXPECT_NE(RuntimeMemberId({"http://a:1"}, 1700000000), RuntimeMemberId({"http://a:1"}, 1700000001));
  // The time stands where the token would, after it.
  EXPECT_EQ(RuntimeMemberId({"http://a:1"}, 1700000000), BootstrapMemberId({"http://a:1"}, "1700000000"));
}

TEST(MemberJson, IsGos) {
  Member member{
      10276657743932975437u, {"http://localhost:2380"}, false, "default", {"http://localhost:2379"}};
  EXPECT_EQ(MemberToJson(member),
            R"({"id":10276657743932975437,"peerURLs":["http://localhost:2380"],"name":"default",)"
            R"("clientURLs":["http://localhost:2379"]})");
  EXPECT_EQ(MemberToJson({7, {"http://a:1", "http://b:1"}, true, "", {}}),
            R"({"id":7,"peerURLs":["http://a:1","http://b:1"],"isLearner":true})");
  EXPECT_EQ(
      MemberToJson({7, {"u"}, false, "a<b>&\"\\\n\x01\xff\xe2\x80\xa8", {}}),
      "{\"id\":7,\"peerURLs\":[\"u\"],\"name\":\"a\\u003cb\\u003e\\u0026\\\"\\\\\\n\\u0001\\ufffd\\u2028\"}");
}

TEST(MemberJson, ComesBackAsItWas) {
  for (const Member& member :
       {Member{UINT64_MAX, {"http://a:1"}, true, "n\xc3\xa4me <x>\t", {"http://c:1", "http://d:1"}},
        Member{1, {}, false, "", {}}}) {
    auto back = MemberFromJson(MemberToJson(member));
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(*back, member);
  }
  std::vector<Member> two = {{1, {"a"}, false, "x", {}}, {2, {"b"}, true, "", {}}};
  auto back = MembersFromJson(MembersToJson(two));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, two);
  EXPECT_TRUE(MembersFromJson("[]")->empty());
  // What other writers add or leave out.
  EXPECT_EQ(MemberFromJson(R"( { "id" : 5, "peerURLs": null, "later": {"x": [1]} } )")->id, 5u);
}

TEST(MemberJson, RefusesWhatIsNoMember) {
  for (const std::string& text :
       {std::string(""), std::string("{"), std::string("{}"), std::string(R"({"id":-1})"),
        std::string(R"({"id":"x"})"), std::string(R"({"id":18446744073709551616})"),
        std::string("404 page not found"), std::string(1 << 20, '['),
        std::string(R"({"id":1,"x":)") + std::string(1 << 16, '[')}) {
    EXPECT_EQ(MemberFromJson(text).status().code(), absl::StatusCode::kInvalidArgument) << text.substr(0, 40);
    EXPECT_FALSE(MembersFromJson(text).ok() && text != "{}") << text.substr(0, 40);
  }
}

TEST(ConfChangeContext, IsAMemberAndAFlag) {
  ConfChangeContext context{{7, {"http://a:1"}, false, "", {}}, true};
  EXPECT_EQ(ConfChangeContextToJson(context), R"({"id":7,"peerURLs":["http://a:1"],"isPromote":true})");
  auto back = ConfChangeContextFromJson(ConfChangeContextToJson(context));
  ASSERT_TRUE(back.ok());
  EXPECT_TRUE(back->is_promote);
  EXPECT_EQ(back->member, context.member);
  // A bootstrap's context is the member alone.
  EXPECT_FALSE(ConfChangeContextFromJson(MemberToJson(context.member))->is_promote);
}

TEST(MemberAttributes, HaveTheirJsonAndKey) {
  MemberAttributes attributes{"n1", {"http://a:1"}};
  EXPECT_EQ(MemberAttributesToJson(attributes), R"({"name":"n1","clientURLs":["http://a:1"]})");
  EXPECT_EQ(*MemberAttributesFromJson(MemberAttributesToJson(attributes)), attributes);
  EXPECT_EQ(MemberAttributesToJson({}), "{}");
  EXPECT_EQ(MemberAttributesKey(0x8e9e05c52164694d), "/0/members/8e9e05c52164694d/attributes");
  EXPECT_EQ(*MemberIdFromAttributesKey("/0/members/8e9e05c52164694d/attributes"), 0x8e9e05c52164694d);
  for (const char* key :
       {"", "/0/members//attributes", "/0/members/x/attributes", "/0/version", "/0/members/1/raft"}) {
    EXPECT_FALSE(MemberIdFromAttributesKey(key).ok()) << key;
  }
}

TEST(ParseHexId, TakesWhatHexIdWrites) {
  EXPECT_EQ(*ParseHexId("0"), 0u);
  EXPECT_EQ(*ParseHexId("ffffffffffffffff"), UINT64_MAX);
  for (const char* text : {"", "0x1", "-1", " 1", "g", "10000000000000000"})
    EXPECT_FALSE(ParseHexId(text).ok()) << text;
}

}  // namespace
}  // namespace kvd::server
