#include "base/crc32c.h"

#include <gtest/gtest.h>

#include <string>

#include "base/random.h"

namespace kvd::base {
namespace {

TEST(Crc32c, KnownAnswers) {
  EXPECT_EQ(Crc32c(0, ""), 0u);
  EXPECT_EQ(Crc32c(0, "123456789"), 0xe3069283u);
  EXPECT_EQ(Crc32c(0, std::string(32, '\0')), 0x8a9136aau);  // RFC 3720, B.4
  EXPECT_EQ(Crc32c(0, std::string(32, '\xff')), 0x62a8ab43u);
}

TEST(Crc32c, Continued_EqualsWhole) {
  const std::string text = "The quick brown fox jumps over the lazy dog";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    std::string_view view = text;
    EXPECT_EQ(Crc32c(Crc32c(0, view.substr(0, cut)), view.substr(cut)), Crc32c(0, text)) << cut;
  }
}

TEST(Crc32c, Instruction_EqualsTables) {
  Random random(7);
  for (size_t n = 0; n < 200; ++n) {
    std::string data(n, '\0');
    for (char& c : data) c = static_cast<char>(random.Next());
    const uint32_t start = static_cast<uint32_t>(random.Next());
    EXPECT_EQ(Crc32c(start, data), crc32c_internal::PortableCrc32c(start, data)) << n;
  }
}

}  // namespace
}  // namespace kvd::base
