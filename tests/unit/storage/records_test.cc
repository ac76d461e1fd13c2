#include "storage/records.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "mvccpb/kv.pb.h"

namespace kvd::storage {
namespace {

TEST(RecordsTest, KeyValue_IsByteEqualToProtobufs) {
  base::Random random(7);
  for (int i = 0; i < 2000; ++i) {
    auto number = [&random]() -> int64_t {
      return random.Chance(0.3) ? 0 : static_cast<int64_t>(random.Next() >> random.Below(64));
    };
    std::string key(1 + random.Below(200), 'k'), value(random.Chance(0.2) ? 0 : random.Below(300), 'v');
    KeyValueView kv{.key = key,
                    .create_revision = number(),
                    .mod_revision = number(),
                    .version = number(),
                    .value = value,
                    .lease = number()};
    std::string ours;
    AppendKeyValue(ours, kv);
    EXPECT_EQ(ours.size(), KeyValueSize(kv));
    mvccpb::KeyValue message;
    message.set_key(key);
    message.set_create_revision(kv.create_revision);
    message.set_mod_revision(kv.mod_revision);
    message.set_version(kv.version);
    message.set_value(value);
    message.set_lease(kv.lease);
    ASSERT_EQ(ours, message.SerializeAsString());
    KeyValueView back;
    ASSERT_TRUE(DecodeKeyValue(ours, &back));
    EXPECT_EQ(back.key, key);
    EXPECT_EQ(back.value, value);
    EXPECT_EQ(back.lease, kv.lease);
    EXPECT_EQ(back.mod_revision, kv.mod_revision);
    EXPECT_EQ(back.create_revision, kv.create_revision);
    EXPECT_EQ(back.version, kv.version);
  }
}

TEST(RecordsTest, DecodeKeyValue_RefusesTornBytes) {
  std::string bytes;
  AppendKeyValue(
      bytes, {.key = "key", .create_revision = 5, .mod_revision = 6, .version = 2, .value = "v", .lease = 0});
  KeyValueView kv;
  EXPECT_FALSE(DecodeKeyValue(std::string_view(bytes).substr(0, 3), &kv));
  EXPECT_FALSE(DecodeKeyValue("\x0a\xff\xff\xff\xff\x0f", &kv));
  EXPECT_FALSE(DecodeKeyValue("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", &kv));
  bytes.append("\x78\x01");  // an unknown field
  EXPECT_TRUE(DecodeKeyValue(bytes, &kv));
  EXPECT_EQ(kv.key, "key");
}

TEST(RecordsTest, RevisionKey_IsEtcds) {
  std::string key;
  AppendRevisionKey(key, {258, 3}, true);
  EXPECT_EQ(key, std::string("\0\0\0\0\0\0\1\2_\0\0\0\0\0\0\0\3t", 18));
  Revision revision;
  bool tombstone;
  ASSERT_TRUE(DecodeRevisionKey(key, &revision, &tombstone));
  EXPECT_EQ(revision, (Revision{258, 3}));
  EXPECT_TRUE(tombstone);
  EXPECT_FALSE(DecodeRevisionKey(key + "t", &revision, &tombstone));
  EXPECT_FALSE(DecodeRevisionKey(key.substr(1), &revision, &tombstone));
}

}  // namespace
}  // namespace kvd::storage
