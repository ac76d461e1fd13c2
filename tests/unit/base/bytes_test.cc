#include "base/bytes.h"

#include <gtest/gtest.h>

namespace kvd::base {
namespace {

TEST(SharedBytes, Null_IsAnEmptyString) {
  SharedBytes null;
  EXPECT_TRUE(null.empty());
  EXPECT_EQ(null.view(), "");
  EXPECT_EQ(null, SharedBytes(std::string()));
}

TEST(SharedBytes, Copies_ShareTheirBytes) {
  SharedBytes a = SharedBytes::Copy("some bytes");
  SharedBytes b = a;
  EXPECT_EQ(a.data(), b.data());
  a = SharedBytes();
  EXPECT_EQ(b.view(), "some bytes");
}

TEST(Bytes, BigEndian_OrdersAsNumbersDo) {
  std::string small, large;
  AppendBigEndian64(small, 255);
  AppendBigEndian64(large, 256);
  EXPECT_LT(small, large);
  EXPECT_EQ(LoadBigEndian64(large.data()), 256u);
  std::string word;
  AppendBigEndian32(word, 0x01020304);
  EXPECT_EQ(word, std::string("\x01\x02\x03\x04"));
  EXPECT_EQ(LoadBigEndian32(word.data()), 0x01020304u);
}

TEST(Bytes, LittleEndian_RoundTrips) {
  char buf[8];
  StoreLittleEndian64(buf, 0x0102030405060708);
  EXPECT_EQ(buf[0], 8);
  EXPECT_EQ(LoadLittleEndian64(buf), 0x0102030405060708u);
  EXPECT_EQ(LoadLittleEndian32(buf), 0x05060708u);
}

}  // namespace
}  // namespace kvd::base
