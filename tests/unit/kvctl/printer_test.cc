#include "printer.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <sstream>

namespace kvd::ctl {
namespace {

template <typename Message>
Message Parse(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
  return message;
}

// What a format shows of something; "unsupported" if it has no form for it.
template <typename F>
std::string Show(const std::string& format, F print, PrintOptions options = {}) {
  std::ostringstream out;
  const std::unique_ptr<Printer> printer = MakePrinter(format, options, out);
  return print(*printer).ok() ? out.str() : "unsupported";
}

constexpr char kHeader[] =
    "header { cluster_id: 14841639068965178418 member_id: 10276657743932975437 revision: 7 raft_term: 2 }";
constexpr char kJsonHeader[] =
    R"("header":{"cluster_id":14841639068965178418,"member_id":10276657743932975437,"revision":7,"raft_term":2})";
constexpr char kFieldsHeader[] =
    "\"ClusterID\" : 14841639068965178418\n\"MemberID\" : 10276657743932975437\n\"Revision\" : "
    "7\n\"RaftTerm\" : 2\n";

std::string With(const std::string& text) {
  return kHeader + text;
}

TEST(Printer, UnknownFormat_IsNone) {
  std::ostringstream out;
  EXPECT_EQ(MakePrinter("xml", {}, out), nullptr);
}

TEST(Printer, Range) {
  const auto response = Parse<etcdserverpb::RangeResponse>(
      With(R"(kvs { key: "foo" create_revision: 2 mod_revision: 3 version: 2 value: "b\"r" } count: 1)"));
  const auto print = [&](Printer& p) { return p.Get(response); };
  EXPECT_EQ(Show("simple", print), "foo\nb\"r\n");
  EXPECT_EQ(Show("simple", print, {.values_only = true}), "b\"r\n");
  EXPECT_EQ(Show("simple", print, {.hex = true}), "\\x66\\x6f\\x6f\n\\x62\\x22\\x72\n");
  EXPECT_EQ(
      Show("json", print),
      std::string("{") + kJsonHeader +
          R"(,"kvs":[{"key":"Zm9v","create_revision":2,"mod_revision":3,"version":2,"value":"YiJy"}],"count":1})"
          "\n");
  EXPECT_EQ(Show("fields", print),
            std::string(kFieldsHeader) +
                "\"Key\" : \"foo\"\n\"CreateRevision\" : 2\n\"ModRevision\" : 3\n\"Version\" : 2\n"
                "\"Value\" : \"b\\\"r\"\n\"Lease\" : 0\n\"More\" : false\n\"Count\" : 1\n");
  EXPECT_EQ(Show("table", print), "unsupported");
  EXPECT_EQ(Show("protobuf", print), response.SerializeAsString());
}

TEST(Printer, PutAndDel_WithPrevious) {
  const auto put = Parse<etcdserverpb::PutResponse>(With(R"(prev_kv { key: "k" value: "v" lease: 9 })"));
  EXPECT_EQ(Show("simple", [&](Printer& p) { return p.Put(put); }), "OK\nk\nv\n");
  EXPECT_EQ(Show("json", [&](Printer& p) { return p.Put(put); }),
            std::string("{") + kJsonHeader + R"(,"prev_kv":{"key":"aw==","value":"dg==","lease":9}})" + "\n");
  const auto del = Parse<etcdserverpb::DeleteRangeResponse>(With(R"(deleted: 1 prev_kvs { key: "k" })"));
  EXPECT_EQ(Show("simple", [&](Printer& p) { return p.Del(del); }), "1\nk\n\n");
  EXPECT_EQ(Show("fields", [&](Printer& p) { return p.Del(del); }),
            std::string(kFieldsHeader) +
                "\"Deleted\" : 1\n\"PrevKey\" : \"k\"\n\"PrevCreateRevision\" : 0\n\"PrevModRevision\" : 0\n"
                "\"PrevVersion\" : 0\n\"PrevValue\" : \"\"\n\"PrevLease\" : 0\n");
}

TEST(Printer, Txn) {
  const auto response = Parse<etcdserverpb::TxnResponse>(
      With(R"(succeeded: true responses { response_put { header { revision: 7 } } }
              responses { response_delete_range { deleted: 2 } })"));
  const auto print = [&](Printer& p) { return p.Txn(response); };
  EXPECT_EQ(Show("simple", print), "SUCCESS\n\nOK\n\n2\n");
  EXPECT_EQ(Show("json", print),
            std::string("{") + kJsonHeader +
                R"(,"succeeded":true,"responses":[{"Response":{"response_put":{"header":{"revision":7}}}},)"
                R"({"Response":{"response_delete_range":{"deleted":2}}}]})"
                "\n");
}

TEST(Printer, Watch) {
  const auto response = Parse<etcdserverpb::WatchResponse>(With(
      R"(events { kv { key: "x" mod_revision: 6 value: "y" } } events { type: DELETE kv { key: "x" } })"));
  const auto print = [&](Printer& p) { return p.Watch(response); };
  EXPECT_EQ(Show("simple", print), "PUT\nx\ny\nDELETE\nx\n\n");
  EXPECT_EQ(
      Show("json", print),
      R"({"Header":{"cluster_id":14841639068965178418,"member_id":10276657743932975437,"revision":7,"raft_term":2},)"
      R"("Events":[{"kv":{"key":"eA==","mod_revision":6,"value":"eQ=="}},{"type":1,"kv":{"key":"eA=="}}],)"
      R"("CompactRevision":0,"Canceled":false,"Created":false})"
      "\n");
}

TEST(Printer, Lease) {
  const auto grant = Parse<etcdserverpb::LeaseGrantResponse>("header { revision: 7 } ID: 255 TTL: 10");
  EXPECT_EQ(Show("simple", [&](Printer& p) { return p.Grant(grant); }),
            "lease 00000000000000ff granted with TTL(10s)\n");
  EXPECT_EQ(Show("json", [&](Printer& p) { return p.Grant(grant); }),
            R"({"revision":7,"ID":255,"TTL":10,"Error":""})"
            "\n");
  const auto alive =
      Parse<etcdserverpb::LeaseTimeToLiveResponse>(R"(ID: 255 TTL: 9 grantedTTL: 10 keys: "a" keys: "b")");
  EXPECT_EQ(Show("simple", [&](Printer& p) { return p.TimeToLive(alive, true); }),
            "lease 00000000000000ff granted with TTL(10s), remaining(9s), attached keys([a b])\n");
  EXPECT_EQ(Show("json", [&](Printer& p) { return p.TimeToLive(alive, true); }),
            R"({"id":255,"ttl":9,"granted-ttl":10,"keys":["YQ==","Yg=="]})"
            "\n");
  const auto gone = Parse<etcdserverpb::LeaseTimeToLiveResponse>("ID: 255 TTL: -1");
  EXPECT_EQ(Show("simple", [&](Printer& p) { return p.TimeToLive(gone, false); }),
            "lease 00000000000000ff already expired\n");
  EXPECT_EQ(Show("json", [&](Printer& p) { return p.TimeToLive(gone, false); }),
            R"({"id":255,"ttl":-1,"granted-ttl":0,"keys":null})"
            "\n");
  EXPECT_EQ(Show("json", [&](Printer& p) { return p.Leases({}); }), "{\"leases\":[]}\n");
}

TEST(Printer, MemberList) {
  const auto response = Parse<etcdserverpb::MemberListResponse>(
      R"(header { member_id: 255 raft_term: 2 }
         members { ID: 255 name: "a" peerURLs: "http://h:1" peerURLs: "http://h:2" clientURLs: "http://h:3" }
         members { ID: 16 isLearner: true })");
  const auto print = [&](Printer& p) { return p.MemberList(response); };
  EXPECT_EQ(Show("simple", print),
            "ff, started, a, http://h:1,http://h:2, http://h:3, false\n10, unstarted, , , , true\n");
  EXPECT_EQ(Show("table", print),
            "+----+-----------+------+-----------------------+--------------+------------+\n"
            "| ID |  STATUS   | NAME |      PEER ADDRS       | CLIENT ADDRS | IS LEARNER |\n"
            "+----+-----------+------+-----------------------+--------------+------------+\n"
            "| ff |   started |    a | http://h:1,http://h:2 |   http://h:3 |      false |\n"
            "| 10 | unstarted |      |                       |              |       true |\n"
            "+----+-----------+------+-----------------------+--------------+------------+\n");
  EXPECT_EQ(Show("json", print, {.hex = true}),
            R"({"header":{"cluster_id":"0","member_id":"ff","raft_term":2},"members":[)"
            R"({"ID":"ff","name":"a","peerURLs":["http://h:1","http://h:2"],"clientURLs":["http://h:3"]},)"
            R"({"ID":"10","isLearner":true}]})"
            "\n");
}

TEST(Printer, Health_ErrorIsWrappedInTheTable) {
  EndpointHealth good{"h:1", true, absl::Microseconds(1500), ""};
  EndpointHealth bad{"h:2", false, absl::Seconds(5),
                     "rpc error: code = Unavailable desc = no connection at all"};
  const auto print = [&](Printer& p) { return p.Health({good, bad}); };
  EXPECT_EQ(Show("simple", print), "h:1 is healthy: successfully committed proposal: took = 1.5ms\n");
  EXPECT_EQ(
      Show("json", print),
      R"([{"endpoint":"h:1","health":true,"took":"1.5ms"},{"endpoint":"h:2","health":false,"took":"5s",)"
      R"("error":"rpc error: code = Unavailable desc = no connection at all"}])"
      "\n");
  EXPECT_EQ(Show("table", print),
            "+----------+--------+-------+-------------------------------+\n"
            "| ENDPOINT | HEALTH | TOOK  |             ERROR             |\n"
            "+----------+--------+-------+-------------------------------+\n"
            "|      h:1 |   true | 1.5ms |                               |\n"
            "|      h:2 |  false |    5s | rpc error: code = Unavailable |\n"
            "|          |        |       |   desc = no connection at all |\n"
            "+----------+--------+-------+-------------------------------+\n");
}

TEST(Printer, Status) {
  EndpointStatus entry{"h:1", Parse<etcdserverpb::StatusResponse>(
                                  R"(header { member_id: 255 revision: 7 } version: "3.7.1" dbSize: 20480
                                     leader: 255 raftIndex: 9 raftTerm: 2 raftAppliedIndex: 8 dbSizeInUse: 16384
                                     storageVersion: "3.7.0" dbSizeQuota: 2147483648
                                     errors: "etcdserver: no leader")")};
  const auto print = [&](Printer& p) { return p.Status({entry}); };
  EXPECT_EQ(Show("simple", print),
            "h:1, ff, 3.7.1, 3.7.0, 20 kB, 16 kB, 20%, 2.1 GB, true, false, 2, 9, 8, etcdserver: no leader, "
            ", false\n");
  EXPECT_EQ(
      Show("json", print),
      R"([{"Endpoint":"h:1","Status":{"header":{"member_id":255,"revision":7},"version":"3.7.1","dbSize":20480,)"
      R"("leader":255,"raftIndex":9,"raftTerm":2,"raftAppliedIndex":8,"errors":["etcdserver: no leader"],)"
      R"("dbSizeInUse":16384,"storageVersion":"3.7.0","dbSizeQuota":2147483648}}])"
      "\n");
}

TEST(Printer, Alarm) {
  const auto response = Parse<etcdserverpb::AlarmResponse>("alarms { memberID: 255 alarm: NOSPACE }");
  const auto print = [&](Printer& p) { return p.Alarm(response); };
  EXPECT_EQ(Show("simple", print), "memberID:255 alarm:NOSPACE \n");
  EXPECT_EQ(Show("json", print), "{\"alarms\":[{\"memberID\":255,\"alarm\":1}]}\n");
}

TEST(Printer, MemberChanges) {
  const std::string member = R"(ID: 6211450166421160842 peerURLs: "http://a:1" isLearner: true)";
  const auto added =
      Parse<etcdserverpb::MemberAddResponse>(With(" member { " + member + " } members { " + member + " }"));
  const auto add = [&](Printer& p) { return p.MemberAdd(added); };
  EXPECT_EQ(Show("simple", add), "Member 563381044593038a added as learner to cluster cdf818194e3a8c32\n");
  EXPECT_EQ(Show("fields", add), "unsupported");
  EXPECT_EQ(Show("table", add), "unsupported");
  EXPECT_EQ(Show("protobuf", add), added.SerializeAsString());
  EXPECT_THAT(Show("json", add, {.hex = true}),
              ::testing::HasSubstr(
                  R"("member":{"ID":"563381044593038a","peerURLs":["http://a:1"],"isLearner":true})"));

  const auto removed = Parse<etcdserverpb::MemberRemoveResponse>(kHeader);
  EXPECT_EQ(Show("simple", [&](Printer& p) { return p.MemberRemove(0xabc, removed); }),
            "Member              abc removed from cluster cdf818194e3a8c32\n");
  const auto updated = Parse<etcdserverpb::MemberUpdateResponse>(kHeader);
  EXPECT_EQ(Show("simple", [&](Printer& p) { return p.MemberUpdate(0xabc, updated); }),
            "Member              abc updated in cluster cdf818194e3a8c32\n");
  const auto promoted = Parse<etcdserverpb::MemberPromoteResponse>(kHeader);
  EXPECT_EQ(Show("simple", [&](Printer& p) { return p.MemberPromote(0xabc, promoted); }),
            "Member              abc promoted in cluster cdf818194e3a8c32\n");
  const auto moved = [](Printer& p) { return p.MoveLeader(0xa, 0xb, {}); };
  EXPECT_EQ(Show("simple", moved), "Leadership transferred from a to b\n");
  EXPECT_EQ(Show("json", moved), "{}\n");
}

}  // namespace
}  // namespace kvd::ctl
