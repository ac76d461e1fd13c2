#include "server/watch/watch_wire.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "etcdserverpb/rpc.pb.h"
#include "server/watch/response_batch.h"
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

std::vector<std::string> Encoded(const ResponseBatch& responses) {
  std::vector<std::string> encoded;
  size_t size = 0;
  responses.ForEach([&](std::string_view bytes) {
    EXPECT_EQ(bytes.size(), responses.SizeOf(encoded.size()));
    size += ResponseBatch::kPrefixBytes + bytes.size();
    encoded.emplace_back(bytes);
  });
  EXPECT_EQ(encoded.size(), responses.count());
  EXPECT_EQ(size, responses.size());
  return encoded;
}

TEST(WatchWire, HeadIsWhatProtobufWouldWrite) {
  const ResponseHead head{
      .created = true, .canceled = true, .compact_revision = 99, .cancel_reason = "because"};
  ResponseBatch responses(EncodeHeader(FixedHeader(), 1234567));
  responses.Begin(-1);
  responses.Append(EncodeHead(head));
  const std::string bytes = Encoded(responses).at(0);
  const auto parsed = Parse(bytes);
  EXPECT_EQ(parsed.header().cluster_id(), 0xcdf818194e3a8c32);
  EXPECT_EQ(parsed.header().member_id(), 0x8e9e05c52164694d);
  EXPECT_EQ(parsed.header().revision(), 1234567);
  EXPECT_EQ(parsed.header().raft_term(), 3u);
  EXPECT_EQ(parsed.watch_id(), -1);
  EXPECT_TRUE(parsed.created() && parsed.canceled());
  EXPECT_EQ(parsed.compact_revision(), 99);
  EXPECT_EQ(parsed.cancel_reason(), "because");
  EXPECT_EQ(parsed.SerializeAsString(), bytes);
}

TEST(WatchWire, EmptyHeadIsAHeaderOnly) {
  ResponseBatch responses(EncodeHeader(FixedHeader(), 0));
  responses.Begin(0);
  const std::string bytes = Encoded(responses).at(0);
  EXPECT_EQ(Parse(bytes).SerializeAsString(), bytes);
}

// Responses share the runs of pieces that they have in common with the one before, and no other.
TEST(WatchWire, EveryResponseOfABatchHasItsOwnPieces) {
  const auto piece = [](std::string_view value) {
    etcdserverpb::WatchResponse response;
    response.add_events()->mutable_kv()->set_value(std::string(value));
    return base::SharedBytes(response.SerializeAsString());
  };
  const base::SharedBytes a = piece("a"), b = piece("b"), c = piece("c");
  const std::vector<std::vector<base::SharedBytes>> wanted = {{a},    {a},       {a, b}, {a, b}, {a}, {a, c},
                                                              {b, c}, {b, c, a}, {b},    {},     {c}};
  ResponseBatch responses(EncodeHeader(FixedHeader(), 5));
  int64_t id = 0;
  for (const auto& pieces : wanted) {
    responses.Begin(id++ * 100);
    for (const base::SharedBytes& p : pieces) responses.Append(p);
    if (pieces.size() == 1) responses.MarkFragment();
  }
  const std::vector<std::string> encoded = Encoded(responses);
  ASSERT_EQ(encoded.size(), wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    const auto parsed = Parse(encoded[i]);
    EXPECT_EQ(parsed.watch_id(), static_cast<int64_t>(i) * 100);
    EXPECT_EQ(parsed.header().revision(), 5);
    EXPECT_EQ(parsed.fragment(), wanted[i].size() == 1);
    std::string events;
    for (const base::SharedBytes& p : wanted[i]) events += p.view();
    EXPECT_EQ(encoded[i].substr(encoded[i].size() - events.size()), events);
    EXPECT_EQ(parsed.events_size(), static_cast<int>(wanted[i].size()));
    EXPECT_EQ(parsed.SerializeAsString(), encoded[i]);
  }
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
  ResponseBatch responses(EncodeHeader(FixedHeader(), 8));
  responses.Begin(7);
  responses.Append(put.WithoutPrevious());
  responses.Append(put.WithPrevious(read));
  responses.Append(put.WithPrevious(read));
  responses.Append(gone.WithPrevious([](std::string*) { return false; }));
  const std::string bytes = Encoded(responses).at(0);
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
