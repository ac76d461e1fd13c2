#include "go_format.h"

#include <array>
#include <cmath>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "base/strings.h"

namespace kvd::ctl {
namespace {

constexpr char32_t kBadRune = 0xFFFD;

// The next code point and its length; an ill-formed sequence is kBadRune of length 1.
struct Rune {
  char32_t value;
  size_t length;
  bool valid;
};

Rune DecodeRune(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {first, 1, true};
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) return {kBadRune, 1, false};
  char32_t value = first & (0xFF >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {kBadRune, 1, false};
    value = (value << 6) | (byte(i) & 0x3F);
  }
  constexpr std::array<char32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = value >= 0xD800 && value < 0xE000;
  if (value < kSmallest[length] || value > 0x10FFFF || surrogate) return {kBadRune, 1, false};
  return {value, length, true};
}

// unicode.IsPrint for assigned code points: no controls, formats, private use, and no space but U+0020.
bool IsPrint(char32_t rune) {
  struct Interval {
    char32_t first, last;
  };
  static constexpr Interval kHidden[] = {
      {0x00, 0x1F},     {0x7F, 0xA0},     {0xAD, 0xAD},       {0x600, 0x605},     {0x61C, 0x61C},
      {0x6DD, 0x6DD},   {0x70F, 0x70F},   {0x1680, 0x1680},   {0x180E, 0x180E},   {0x2000, 0x200F},
      {0x2028, 0x202F}, {0x205F, 0x206F}, {0x3000, 0x3000},   {0xD800, 0xF8FF},   {0xFEFF, 0xFEFF},
      {0xFFF0, 0xFFFB}, {0xFFFE, 0xFFFF}, {0x1D173, 0x1D17A}, {0xE0000, 0xE00FF}, {0xF0000, 0x10FFFF}};
  for (const Interval& interval : kHidden) {
    if (rune >= interval.first && rune <= interval.last) return false;
  }
  return true;
}

void AppendUtf8(char32_t rune, std::string* out) {
  if (rune < 0x80) {
    out->push_back(static_cast<char>(rune));
    return;
  }
  const int extra = rune < 0x800 ? 1 : rune < 0x10000 ? 2 : 3;
  constexpr unsigned char kLead[] = {0, 0xC0, 0xE0, 0xF0};
  out->push_back(static_cast<char>(kLead[extra] | (rune >> (6 * extra))));
  for (int shift = 6 * (extra - 1); shift >= 0; shift -= 6) {
    out->push_back(static_cast<char>(0x80 | ((rune >> shift) & 0x3F)));
  }
}

const char* ShortEscape(char32_t rune) {
  switch (rune) {
    case '\a':
      return "\\a";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\v':
      return "\\v";
    default:
      return nullptr;
  }
}

absl::Status BadSyntax() {
  return absl::InvalidArgumentError("invalid syntax");
}

// One escape of a Go string, after the backslash; returns how many characters it took, 0 if it is none.
size_t AppendEscape(std::string_view text, char quote, std::string* out) {
  const char kind = text[0];
  if (kind == quote || kind == '\\') {
    out->push_back(kind);
    return 1;
  }
  constexpr std::string_view kLetters = "abfnrtv";
  constexpr std::string_view kValues = "\a\b\f\n\r\t\v";
  if (const size_t at = kLetters.find(kind); at != std::string_view::npos) {
    out->push_back(kValues[at]);
    return 1;
  }
  const size_t digits = kind == 'x' ? 2 : kind == 'u' ? 4 : kind == 'U' ? 8 : 0;
  uint32_t value = 0;
  if (digits > 0) {
    if (text.size() <= digits || !absl::SimpleHexAtoi(base::ToAbsl(text.substr(1, digits)), &value)) return 0;
    if (kind == 'x') {
      out->push_back(static_cast<char>(value));
    } else if (value > 0x10FFFF) {
      return 0;
    } else {
      AppendUtf8(value, out);
    }
    return digits + 1;
  }
  if (kind < '0' || kind > '7' || text.size() < 3) return 0;
  for (char c : text.substr(0, 3)) {
    if (c < '0' || c > '7') return 0;
    value = value * 8 + static_cast<uint32_t>(c - '0');
  }
  if (value > 255) return 0;
  out->push_back(static_cast<char>(value));
  return 3;
}

}  // namespace

std::string Quote(std::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    const Rune rune = DecodeRune(text);
    if (!rune.valid) {
      absl::StrAppendFormat(&out, "\\x%02x", static_cast<unsigned char>(text[0]));
    } else if (rune.value == '"' || rune.value == '\\') {
      base::StrAppend(&out, "\\", text.substr(0, 1));
    } else if (IsPrint(rune.value)) {
      base::StrAppend(&out, text.substr(0, rune.length));
    } else if (const char* escape = ShortEscape(rune.value)) {
      base::StrAppend(&out, escape);
    } else if (rune.value < ' ' || rune.value == 0x7F) {
      absl::StrAppendFormat(&out, "\\x%02x", static_cast<uint32_t>(rune.value));
    } else if (rune.value < 0x10000) {
      absl::StrAppendFormat(&out, "\\u%04x", static_cast<uint32_t>(rune.value));
    } else {
      absl::StrAppendFormat(&out, "\\U%08x", static_cast<uint32_t>(rune.value));
    }
    text.remove_prefix(rune.length);
  }
  out.push_back('"');
  return out;
}

absl::StatusOr<std::string> Unquote(std::string_view quoted) {
  if (quoted.size() < 2 || quoted.front() != quoted.back()) return BadSyntax();
  const char quote = quoted.front();
  std::string_view text = quoted.substr(1, quoted.size() - 2);
  if (quote == '`' || quote == '\'') {
    if (text.find(quote) != std::string_view::npos) return BadSyntax();
    return std::string(text);
  }
  if (quote != '"') return BadSyntax();
  std::string out;
  while (!text.empty()) {
    if (text[0] == quote || text[0] == '\n') return BadSyntax();
    if (text[0] != '\\') {
      out.push_back(text[0]);
      text.remove_prefix(1);
      continue;
    }
    if (text.size() < 2) return BadSyntax();
    const size_t taken = AppendEscape(text.substr(1), quote, &out);
    if (taken == 0) return BadSyntax();
    text.remove_prefix(1 + taken);
  }
  return out;
}

std::string JsonString(std::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    const Rune rune = DecodeRune(text);
    const std::string_view bytes = text.substr(0, rune.length);
    text.remove_prefix(rune.length);
    if (!rune.valid) {
      base::StrAppend(&out, "\\ufffd");
    } else if (rune.value == '"' || rune.value == '\\') {
      base::StrAppend(&out, "\\", bytes);
    } else if (rune.value == '\n' || rune.value == '\r' || rune.value == '\t') {
      base::StrAppend(&out, ShortEscape(rune.value));
    } else if (rune.value < ' ' || rune.value == '<' || rune.value == '>' || rune.value == '&' ||
               rune.value == 0x2028 || rune.value == 0x2029) {
      absl::StrAppendFormat(&out, "\\u%04x", static_cast<uint32_t>(rune.value));
    } else {
      base::StrAppend(&out, bytes);
    }
  }
  out.push_back('"');
  return out;
}

std::string GoDuration(absl::Duration duration) {
  int64_t ns = absl::ToInt64Nanoseconds(duration);
  if (ns == 0) return "0s";
  const std::string sign = ns < 0 ? "-" : "";
  uint64_t left = ns < 0 ? 0 - static_cast<uint64_t>(ns) : static_cast<uint64_t>(ns);
  // value / unit with as many decimals as are not zero.
  const auto decimal = [](uint64_t value, uint64_t unit) {
    std::string text = base::StrCat(value / unit);
    uint64_t fraction = value % unit;
    if (fraction == 0) return text;
    std::string digits = base::StrCat(unit + fraction).substr(1);
    digits.erase(digits.find_last_not_of('0') + 1);
    return base::StrCat(text, ".", digits);
  };
  if (left < 1'000) return base::StrCat(sign, left, "ns");
  if (left < 1'000'000) return base::StrCat(sign, decimal(left, 1'000), "µs");
  if (left < 1'000'000'000) return base::StrCat(sign, decimal(left, 1'000'000), "ms");
  constexpr uint64_t kMinute = 60'000'000'000;
  const uint64_t minutes = left / kMinute;
  const std::string seconds = base::StrCat(decimal(left % kMinute, 1'000'000'000), "s");
  if (minutes == 0) return base::StrCat(sign, seconds);
  if (minutes < 60) return base::StrCat(sign, minutes, "m", seconds);
  return base::StrCat(sign, minutes / 60, "h", minutes % 60, "m", seconds);
}

std::string HumanBytes(uint64_t bytes) {
  if (bytes < 10) return base::StrCat(bytes, " B");
  constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  const double exponent = std::floor(std::log(static_cast<double>(bytes)) / std::log(1000.0));
  const double value = std::floor(static_cast<double>(bytes) / std::pow(1000.0, exponent) * 10 + 0.5) / 10;
  const char* unit = kUnits[static_cast<size_t>(exponent)];
  return value < 10 ? absl::StrFormat("%.1f %s", value, unit) : absl::StrFormat("%.0f %s", value, unit);
}

std::string HexBytes(std::string_view bytes) {
  std::string out;
  for (unsigned char byte : bytes) absl::StrAppendFormat(&out, "\\x%02x", byte);
  return out;
}

}  // namespace kvd::ctl
