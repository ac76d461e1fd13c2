// Hexadecimal digits as text.
#pragma once

namespace kvd::base {

// 0 to 15, upper or lower case; -1: not a digit.
constexpr int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace kvd::base
