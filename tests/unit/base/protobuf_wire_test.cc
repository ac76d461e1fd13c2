#include "base/protobuf_wire.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kvd::base {
namespace {

TEST(ProtobufWire, Varints_ReadBackAndHaveTheirSize) {
  std::vector<uint64_t> values = {0, 1, std::numeric_limits<uint64_t>::max()};
  for (int bits = 1; bits < 64; ++bits) {
    values.push_back((uint64_t{1} << bits) - 1);
    values.push_back(uint64_t{1} << bits);
  }
  for (uint64_t value : values) {
    std::string bytes;
    AppendVarint(bytes, value);
    EXPECT_EQ(bytes.size(), VarintSize(value)) << value;
    bytes += "rest";
    std::string_view rest = bytes;
    uint64_t back = 0;
    ASSERT_TRUE(ReadVarint(&rest, &back)) << value;
    EXPECT_EQ(back, value);
    EXPECT_EQ(rest, "rest");
  }
}

TEST(ProtobufWire, Varints_TornOrTooLong_Refused) {
  const std::string torn(3, '\xff');
  const std::string too_long = std::string(10, '\xff') + '\x01';
  for (std::string_view bytes : {std::string_view(), std::string_view(torn), std::string_view(too_long)}) {
    std::string_view rest = bytes;
    uint64_t value = 0;
    EXPECT_FALSE(ReadVarint(&rest, &value));
    EXPECT_EQ(rest, bytes);
  }
}

TEST(ProtobufWire, Fields_AreThoseOfTheSpecification) {
  std::string out;
  AppendVarintField(out, 1, 0);
  AppendUint64Field(out, 2, 0);
  AppendInt64Field(out, 2, 0);
  AppendBoolField(out, 2, false);
  EXPECT_EQ(out, std::string("\x08\0", 2));
  out.clear();
  AppendUint64Field(out, 1, 150);
  AppendBoolField(out, 16, true);
  AppendBytesField(out, 2, "testing");
  AppendBytesField(out, 3, "");
  EXPECT_EQ(out, std::string("\x08\x96\x01\x80\x01\x01\x12\x07testing\x1a\x00", 17));
  out.clear();
  AppendInt64Field(out, 1, -1);
  EXPECT_EQ(out.size(), 11u);
}

TEST(FieldReader, GivesEachField) {
  std::string bytes;
  AppendVarintField(bytes, 1, 150);
  AppendBytesField(bytes, 2, "testing");
  bytes += std::string("\x19\x01\0\0\0\0\0\0\x80", 9) + std::string("\x25\x02\0\0\x80", 5);
  FieldReader fields(bytes);
  ASSERT_TRUE(fields.Next());
  EXPECT_EQ(std::pair(fields.field(), fields.type()), std::pair(1u, WireType::kVarint));
  EXPECT_EQ(fields.varint(), 150u);
  ASSERT_TRUE(fields.Next());
  EXPECT_EQ(std::pair(fields.field(), fields.type()), std::pair(2u, WireType::kLength));
  EXPECT_EQ(fields.bytes(), "testing");
  ASSERT_TRUE(fields.Next());
  EXPECT_EQ(std::pair(fields.field(), fields.type()), std::pair(3u, WireType::kFixed64));
  EXPECT_EQ(fields.varint(), 0x8000000000000001u);
  ASSERT_TRUE(fields.Next());
  EXPECT_EQ(std::pair(fields.field(), fields.type()), std::pair(4u, WireType::kFixed32));
  EXPECT_EQ(fields.varint(), 0x80000002u);
  EXPECT_FALSE(fields.Next());
  EXPECT_TRUE(fields.ok());
}

TEST(FieldReader, RefusesWhatIsNoMessage) {
  // A field cut off, a tag cut off, a group, a fixed number cut off, field 0, a tag of more than 32 bits.
  for (const std::string& bytes : {std::string("\x0a\x05"
                                               "ab"),
                                   std::string("\xff"), std::string("\x0b"), std::string("\x09\x01"),
                                   std::string(1, '\0'), std::string("\x88\x80\x80\x80\x10\x01")}) {
    FieldReader fields(bytes);
    while (fields.Next()) {
    }
    EXPECT_FALSE(fields.ok());
  }
  FieldReader empty("");
  EXPECT_FALSE(empty.Next());
  EXPECT_TRUE(empty.ok());
}

}  // namespace
}  // namespace kvd::base
