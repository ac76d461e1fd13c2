#include <gtest/gtest.h>

#include "etcdserverpb/raft_internal.pb.h"
#include "etcdserverpb/rpc.pb.h"
#include "raftpb/raft.pb.h"
#include "server/node/alarms.h"
#include "server/node/applied_waiters.h"
#include "server/node/conf_state_json.h"
#include "server/node/error_table.h"
#include "server/node/proposal_table.h"
#include "server/node/raft_convert.h"
#include "server/node/request_id.h"
#include "server/node/wire_codec.h"

namespace kvd::server {
namespace {

TEST(WireCodec, RaftRequest_IsWhatProtobufReads) {
  etcdserverpb::PutRequest put;
  put.set_key("k");
  put.set_value("v");
  std::string bytes = EncodeRaftRequest(0xfeedbeef12345678, RequestField::kPut, put.SerializeAsString());
  etcdserverpb::InternalRaftRequest request;
  ASSERT_TRUE(request.ParseFromString(bytes));
  EXPECT_EQ(request.header().id(), 0xfeedbeef12345678u);
  EXPECT_EQ(request.put().key(), "k");
  EXPECT_EQ(request.put().value(), "v");
}

TEST(WireCodec, ResponseHeader_IsFieldOne_AndBodyFollows) {
  etcdserverpb::LeaseGrantResponse fields;
  fields.set_id(7);
  fields.set_ttl(-1);
  std::string bytes;
  AppendResponseHeader(bytes, {~uint64_t{0}, 2, -3, 4});
  bytes += fields.SerializeAsString();
  etcdserverpb::LeaseGrantResponse response;
  ASSERT_TRUE(response.ParseFromString(bytes));
  EXPECT_EQ(response.header().cluster_id(), ~uint64_t{0});
  EXPECT_EQ(response.header().member_id(), 2u);
  EXPECT_EQ(response.header().revision(), -3);
  EXPECT_EQ(response.header().raft_term(), 4u);
  EXPECT_EQ(response.id(), 7);
  EXPECT_EQ(response.ttl(), -1);
}

TEST(Alarms, KeyIsAnAlarmMember) {
  Alarms::Alarm alarm{0x8e9e05c52164694d, AlarmType::kNoSpace};
  etcdserverpb::AlarmMember member;
  ASSERT_TRUE(member.ParseFromString(Alarms::Encode(alarm)));
  EXPECT_EQ(member.memberid(), alarm.member);
  EXPECT_EQ(member.alarm(), etcdserverpb::NOSPACE);
  Alarms::Alarm back;
  ASSERT_TRUE(Alarms::Decode(Alarms::Encode(alarm), &back));
  EXPECT_EQ(back, alarm);
  Alarms alarms;
  EXPECT_TRUE(alarms.Raise(alarm));
  EXPECT_FALSE(alarms.Raise(alarm));
  EXPECT_TRUE(alarms.IsRaised(AlarmType::kNoSpace));
  EXPECT_FALSE(alarms.IsRaised(AlarmType::kCorrupt));
  EXPECT_TRUE(alarms.Clear(alarm));
  EXPECT_FALSE(alarms.IsRaised(AlarmType::kNoSpace));
}

TEST(ConfStateJson, RoundTrip_AndEtcdsForm) {
  raft::ConfState state;
  state.voters = {1, 0x8e9e05c52164694d};
  state.learners = {3};
  std::string json = ConfStateToJson(state);
  EXPECT_EQ(json, "{\"voters\":[1,10276657743932975437],\"learners\":[3],\"auto_leave\":false}");
  raft::ConfState back;
  ASSERT_TRUE(ConfStateFromJson(json, &back));
  EXPECT_EQ(back, state);
  EXPECT_FALSE(ConfStateFromJson("[", &back));
  EXPECT_FALSE(ConfStateFromJson("", &back));
}

TEST(RaftConvert, MessageGoesThereAndBack) {
  raftpb::Message wire;
  wire.set_type(raftpb::MsgApp);
  wire.set_to(2);
  wire.set_from(1);
  wire.set_term(3);
  wire.set_logterm(2);
  wire.set_index(9);
  wire.set_commit(8);
  raftpb::Entry* entry = wire.add_entries();
  entry->set_term(3);
  entry->set_index(10);
  entry->set_data("payload");
  raft::Message message = FromWire(std::move(wire));
  ASSERT_EQ(message.entries.size(), 1u);
  EXPECT_EQ(message.entries[0].data.view(), "payload");
  net::OutgoingMessage out = ToWire(std::move(message));
  EXPECT_EQ(out.type, raftpb::MsgApp);
  EXPECT_EQ(out.log_term, 2u);
  EXPECT_EQ(out.entries[0].index, 10u);
  EXPECT_EQ(out.entries[0].data.view(), "payload");
}

TEST(RequestId, UniqueAndOfTheMember) {
  RequestIdGenerator ids(0x1234567890abcdef, base::Nanos(std::chrono::hours(1)));
  uint64_t a = ids.Next();
  uint64_t b = ids.Next();
  EXPECT_NE(a, b);
  EXPECT_EQ(a >> 48, 0xcdefu);
}

TEST(ProposalTable, CompletesOnce_ExpiresInOrder) {
  ProposalTable table(std::chrono::seconds(7));
  std::vector<int> seen;
  for (int i = 1; i <= 3; ++i) {
    table.Add(i, base::Nanos(std::chrono::seconds(i)),
              [&seen, i](ApplyOutcome&& outcome) { seen.push_back(outcome.error == Error::kOk ? i : -i); });
  }
  table.Complete(2, {});
  table.Complete(2, {});
  EXPECT_EQ(seen, (std::vector<int>{2}));
  table.Expire(base::Nanos(std::chrono::seconds(8)), Error::kTimeout);
  EXPECT_EQ(seen, (std::vector<int>{2, -1}));
  table.FailAll(Error::kStopped);
  EXPECT_EQ(seen, (std::vector<int>{2, -1, -3}));
  EXPECT_EQ(table.size(), 0u);
}

TEST(AppliedWaiters, WaitForTheirIndex) {
  AppliedWaiters waiters(5);
  int done = 0;
  waiters.Wait(5, [&](Error) { ++done; });
  EXPECT_EQ(done, 1);
  waiters.Wait(7, [&](Error) { ++done; });
  waiters.Wait(6, [&](Error) { ++done; });
  waiters.Advance(6);
  EXPECT_EQ(done, 2);
  waiters.Advance(9);
  EXPECT_EQ(done, 3);
}

TEST(ErrorTable, TextsLeadBackToTheirRow) {
  EXPECT_EQ(ErrorFromText("etcdserver: requested lease not found"), Error::kLeaseNotFound);
  EXPECT_EQ(ErrorCode(Error::kLeaseNotFound), 5);
  EXPECT_EQ(ErrorFromText("something else"), Error::kInternal);
}

}  // namespace
}  // namespace kvd::server
