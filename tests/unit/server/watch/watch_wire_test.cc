#include "server/watch/watch_wire.h"

#include <gtest/gtest.h>

#include "etcdserverpb/rpc.pb.h"
#include "server/watch/watch_hub.h"

namespace kvd::server {
namespace {

class FixedHeader final : public HeaderSource {
 public:
  uint64_t cluster_id() const override { return 0xcdf818194e3a8c32; }
  uint64_t member_id() const override { return 0x8e9e05c52164694d; }
  uint64_t term() const override { return 3; }
};

etcdserverpb::WatchResponse Parse(const std::string& bytes) {
  etcdserverpb::WatchResponse response;
  EXPECT_TRUE(response.ParseFromString(bytes));
  return response;
}

TEST(WatchWire, HeadIsWhatProtobufWouldWrite) {
  const ResponseHead head{.revision = 1234567,
                          .watch_id = -1,
                          .created = true,
                          .canceled = true,
                          .fragment = true,
                          .compact_revision = 99,
                          .cancel_reason = "because"};
  const auto bytes = EncodeHead(FixedHeader(), head);
  const auto parsed = Parse(std::string(bytes.view()));
  EXPECT_EQ(parsed.header().cluster_id(), 0xcdf818194e3a8c32);
  EXPECT_EQ(parsed.header().member_id(), 0x8e9e05c52164694d);
  EXPECT_EQ(parsed.header().revision(), 1234567);
  EXPECT_EQ(parsed.header().raft_term(), 3u);
  EXPECT_EQ(parsed.watch_id(), -1);
  EXPECT_TRUE(parsed.created() && parsed.canceled() && parsed.fragment());
  EXPECT_EQ(parsed.compact_revision(), 99);
  EXPECT_EQ(parsed.cancel_reason(), "because");
  EXPECT_EQ(parsed.SerializeAsString(), bytes.view());
}

TEST(WatchWire, EmptyHeadIsAHeaderOnly) {
  const auto bytes = EncodeHead(FixedHeader(), {});
  EXPECT_EQ(Parse(std::string(bytes.view())).SerializeAsString(), bytes.view());
}

storage::Event MakeEvent(storage::Event::Type type, const std::string& value) {
  mvccpb::KeyValue kv;
  kv.set_key("key");
  kv.set_mod_revision(8);
  if (type == storage::Event::Type::kPut) {
    kv.set_create_revision(5);
    kv.set_version(2);
    kv.set_value(value);
  }
  storage::Event event;
  event.type = type;
  event.kv = base::SharedBytes(kv.SerializeAsString());
  event.revision = {8, 0};
  event.create_revision = kv.create_revision();
  return event;
}

TEST(WatchWire, EventPiecesAreEventsFields) {
  EncodedEvent put(MakeEvent(storage::Event::Type::kPut, std::string(300, 'v')));
  EncodedEvent gone(MakeEvent(storage::Event::Type::kDelete, ""));
  mvccpb::KeyValue previous;
  previous.set_key("key");
  previous.set_value(std::string(200, 'p'));
  int reads = 0;
  const auto read = [&](std::string* out) {
    ++reads;
    return previous.AppendToString(out);
  };
  std::string bytes(EncodeHead(FixedHeader(), {.revision = 8, .watch_id = 7}).view());
  bytes.append(put.WithoutPrevious().view());
  bytes.append(put.WithPrevious(read).view());
  bytes.append(put.WithPrevious(read).view());
  bytes.append(gone.WithPrevious([](std::string*) { return false; }).view());
  const auto parsed = Parse(bytes);
  EXPECT_EQ(reads, 1);
  ASSERT_EQ(parsed.events_size(), 4);
  EXPECT_EQ(parsed.events(0).kv().value(), std::string(300, 'v'));
  EXPECT_FALSE(parsed.events(0).has_prev_kv());
  EXPECT_EQ(parsed.events(1).prev_kv().value(), std::string(200, 'p'));
  EXPECT_EQ(parsed.events(3).type(), mvccpb::Event::DELETE);
  EXPECT_FALSE(parsed.events(3).has_prev_kv());
  EXPECT_EQ(parsed.SerializeAsString(), bytes);
}

TEST(WatchWire, PiecesAreMadeOnce) {
  EncodedEvent put(MakeEvent(storage::Event::Type::kPut, "v"));
  const char* at = put.WithoutPrevious().data();
  EXPECT_EQ(put.WithoutPrevious().data(), at);
  EXPECT_EQ(put.WithPrevious([](std::string*) { return false; }).data(), at);
}

}  // namespace
}  // namespace kvd::server
