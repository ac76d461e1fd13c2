#include "server/lease/lease_record.h"

#include <gtest/gtest.h>

namespace kvd::server {
namespace {

TEST(LeaseRecord, EncodesAsLeasepb) {
  // Field 1 varint 300, field 2 varint 60; field 3 is left out while it is zero.
  EXPECT_EQ(EncodeLeaseRecord({.id = 300, .ttl_s = 60}), std::string("\x08\xac\x02\x10\x3c"));
  EXPECT_EQ(EncodeLeaseRecord({.id = 1, .ttl_s = 2, .remaining_ttl_s = 3}),
            std::string("\x08\x01\x10\x02\x18\x03"));
}

TEST(LeaseRecord, KeyIsBigEndian) {
  EXPECT_EQ(EncodeLeaseKey(0x0102030405060708), std::string("\x01\x02\x03\x04\x05\x06\x07\x08"));
}

TEST(LeaseRecord, RoundTrips) {
  for (const LeaseRecord& r :
       {LeaseRecord{}, LeaseRecord{.id = -1, .ttl_s = 5}, LeaseRecord{INT64_MAX, 9'000'000'000, 17}}) {
    const auto back = DecodeLeaseRecord(EncodeLeaseRecord(r));
    ASSERT_TRUE(back.ok());
    EXPECT_EQ(*back, r);
  }
}

TEST(LeaseRecord, SkipsUnknownFieldsAndRefusesTornOnes) {
  const std::string known = EncodeLeaseRecord({.id = 7, .ttl_s = 60});
  const auto with_unknown = DecodeLeaseRecord(std::string("\x22\x03"
                                                          "abc"
                                                          "\x28\x01",
                                                          7) +
                                              known);
  ASSERT_TRUE(with_unknown.ok());
  EXPECT_EQ(with_unknown->id, 7);
  EXPECT_EQ(DecodeLeaseRecord(std::string("\x08\xac")).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(DecodeLeaseRecord(std::string("\x22\x09"
                                          "abc"))
                .status()
                .code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(DecodeLeaseRecord(std::string("\x08")).status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace kvd::server
