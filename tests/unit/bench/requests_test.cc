// The hand-made requests against the real messages.
#include "requests.h"

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "etcdserverpb/rpc.pb.h"
#include "wire.h"

namespace kvd::bench {
namespace {

// The message in a frame, whose prefix must be right.
std::string Unframed(const std::string& frame) {
  EXPECT_GE(frame.size(), 5);
  EXPECT_EQ(frame[0], 0);
  EXPECT_EQ(base::LoadBigEndian32(frame.data() + 1), frame.size() - 5);
  return frame.substr(5);
}

TEST(Requests, Put_IsPatchedInPlace) {
  const std::string key = KeyOf(0);
  const std::string value(300, 'a');
  const PatchedRequest request(PutMessage(key, value), key, value);
  std::string frame = request.frame();
  request.SetKey(&frame, 1234567890);
  request.SetValue(&frame, std::string(300, 'z'));
  etcdserverpb::PutRequest parsed;
  ASSERT_TRUE(parsed.ParseFromString(Unframed(frame)));
  EXPECT_EQ(parsed.key(), "/registry/bench/1234567890");
  EXPECT_EQ(parsed.value(), std::string(300, 'z'));
}

TEST(Requests, Range_HasWhatWasAsked) {
  etcdserverpb::RangeRequest parsed;
  const std::string message = RangeMessage({.key = "a",
                                            .range_end = "b",
                                            .limit = 500,
                                            .revision = int64_t{1} << 40,
                                            .serializable = true,
                                            .keys_only = true,
                                            .count_only = true});
  ASSERT_TRUE(parsed.ParseFromString(message));
  EXPECT_EQ(parsed.key(), "a");
  EXPECT_EQ(parsed.range_end(), "b");
  EXPECT_EQ(parsed.limit(), 500);
  EXPECT_EQ(parsed.revision(), int64_t{1} << 40);
  EXPECT_TRUE(parsed.serializable() && parsed.keys_only() && parsed.count_only());
  EXPECT_EQ(parsed.SerializeAsString(), message) << "nothing but these fields";
}

TEST(Requests, EndOf_CoversThePrefix) {
  EXPECT_EQ(EndOf("/registry/"), "/registry0");
}

TEST(Requests, Values_AreOfTheirSizeAndDiffer) {
  ValueSource values(base::Random(1), 4096);
  const std::string first(values.Next());
  EXPECT_EQ(first.size(), 4096);
  EXPECT_NE(first, values.Next());
}

TEST(Wire, Reader_FindsTheFieldsOfAnAnswer) {
  etcdserverpb::TxnResponse response;
  response.mutable_header()->set_cluster_id(UINT64_MAX);
  response.mutable_header()->set_revision(int64_t{1} << 50);
  response.set_succeeded(true);
  response.add_responses()->mutable_response_put();
  const std::string message = response.SerializeAsString();
  EXPECT_EQ(HeaderRevision(message), int64_t{1} << 50);
  EXPECT_EQ(Find(message, 2)->value, 1);
  EXPECT_TRUE(Find(message, 3)->is_bytes);
  EXPECT_FALSE(Find(message, 4).has_value());
}

TEST(Wire, Reader_StopsAtMalformedBytes) {
  etcdserverpb::PutRequest request;
  request.set_key("key");
  request.set_value(std::string(200, 'v'));
  const std::string message = request.SerializeAsString();
  for (size_t cut = 1; cut < message.size(); ++cut) {
    Reader reader(std::string_view(message).substr(0, cut));
    while (reader.Next()) {
    }
    EXPECT_EQ(reader.malformed(), cut != 5) << cut;  // the first field is 5 bytes
  }
}

TEST(Wire, Encoder_WritesWhatMessagesRead) {
  Encoder encoder;
  encoder.Varint(1, UINT64_MAX).Varint(2, 300);
  etcdserverpb::LeaseGrantRequest parsed;
  ASSERT_TRUE(parsed.ParseFromString(encoder.str()));
  EXPECT_EQ(parsed.ttl(), -1);
  EXPECT_EQ(parsed.id(), 300);
}

}  // namespace
}  // namespace kvd::bench
