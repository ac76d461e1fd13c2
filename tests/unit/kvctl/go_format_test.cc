#include "go_format.h"

#include <gtest/gtest.h>

namespace kvd::ctl {
namespace {

TEST(Quote, EscapesAsGoDoes) {
  EXPECT_EQ(Quote("plain"), "\"plain\"");
  EXPECT_EQ(Quote("a\"b\\c"), R"("a\"b\\c")");
  EXPECT_EQ(Quote("\a\b\f\n\r\t\v"), R"("\a\b\f\n\r\t\v")");
  EXPECT_EQ(Quote(std::string("\0\x01\x7f", 3)), R"("\x00\x01\x7f")");
  EXPECT_EQ(Quote("h\xc3\xa9"), "\"h\xc3\xa9\"");
  EXPECT_EQ(Quote("\xff\xc3"), R"("\xff\xc3")");
  EXPECT_EQ(Quote("\xe2\x80\x8b"), R"("\u200b")");
  EXPECT_EQ(Quote("\xf3\xa0\x80\x81"), R"("\U000e0001")");
  // A surrogate, an overlong form and a value past the last code point are no characters.
  EXPECT_EQ(Quote("\xed\xa0\x80"), R"("\xed\xa0\x80")");
  EXPECT_EQ(Quote("\xc0\x80"), R"("\xc0\x80")");
  EXPECT_EQ(Quote("\xf4\x90\x80\x80"), R"("\xf4\x90\x80\x80")");
}

TEST(Unquote, TakesBackWhatQuoteMade) {
  for (std::string text :
       {"", "plain", "a\"b\\c", "\a\b\f\n\r\t\v", "h\xc3\xa9", "\xff\xc3", "\xe2\x80\x8b"}) {
    ASSERT_TRUE(Unquote(Quote(text)).ok()) << Quote(text);
    EXPECT_EQ(*Unquote(Quote(text)), text);
  }
  EXPECT_EQ(*Unquote(R"("\101\x42\u00e9")"), "AB\xc3\xa9");
  EXPECT_EQ(*Unquote("`a\\n`"), "a\\n");
}

TEST(Unquote, BadSyntax_IsRefused) {
  for (std::string text :
       {"", "\"", "\"a", "a\"", "\"a\"b\"", R"("\q")", R"("\x4")", R"("\400")", R"("\)", "\"a\nb\""}) {
    EXPECT_FALSE(Unquote(text).ok()) << text;
  }
}

TEST(JsonString, EscapesAsGoDoes) {
  EXPECT_EQ(JsonString("a\"\\/b"), R"("a\"\\/b")");
  EXPECT_EQ(JsonString("\n\r\t\b\x01"), R"("\n\r\t\u0008\u0001")");
  EXPECT_EQ(JsonString("<&>"), R"("\u003c\u0026\u003e")");
  EXPECT_EQ(JsonString("\xe2\x80\xa8\xc3\xa9"), "\"\\u2028\xc3\xa9\"");
  EXPECT_EQ(JsonString("\xff"), R"("\ufffd")");
}

TEST(GoDuration, HasGosUnits) {
  EXPECT_EQ(GoDuration(absl::ZeroDuration()), "0s");
  EXPECT_EQ(GoDuration(absl::Nanoseconds(7)), "7ns");
  EXPECT_EQ(GoDuration(absl::Nanoseconds(1500)), "1.5\xc2\xb5s");
  EXPECT_EQ(GoDuration(absl::Microseconds(1050)), "1.05ms");
  EXPECT_EQ(GoDuration(absl::Milliseconds(2001)), "2.001s");
  EXPECT_EQ(GoDuration(absl::Seconds(60)), "1m0s");
  EXPECT_EQ(GoDuration(absl::Hours(25) + absl::Milliseconds(500)), "25h0m0.5s");
  EXPECT_EQ(GoDuration(-absl::Seconds(1)), "-1s");
}

TEST(HumanBytes, RoundsAsTheTablesDo) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(9), "9 B");
  EXPECT_EQ(HumanBytes(999), "999 B");
  EXPECT_EQ(HumanBytes(1000), "1.0 kB");
  EXPECT_EQ(HumanBytes(20480), "20 kB");
  EXPECT_EQ(HumanBytes(2147483648), "2.1 GB");
}

TEST(HexBytes, EveryByte) {
  EXPECT_EQ(HexBytes("a\xff"), R"(\x61\xff)");
}

}  // namespace
}  // namespace kvd::ctl
