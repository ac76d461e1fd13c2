#include "server/membership/json.h"

#include <boost/property_tree/json_parser.hpp>
#include <boost/property_tree/ptree.hpp>
#include <cstdint>
#include <sstream>

#include "base/strings.h"

namespace kvd::server::json_internal {
namespace {

constexpr int kMaxDepth = 32;

// The length of the UTF-8 sequence that starts at `i`, 0 if there is none.
size_t SequenceLength(std::string_view text, size_t i) {
  auto byte = [&](size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned char lead = byte(i);
  if (lead < 0x80) return 1;
  size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || i + length > text.size()) return 0;
  for (size_t k = 1; k < length; ++k) {
    if ((byte(i + k) & 0xc0) != 0x80) return 0;
  }
  // Overlong forms, surrogates, and what is above U+10FFFF.
  if ((lead == 0xe0 && byte(i + 1) < 0xa0) || (lead == 0xed && byte(i + 1) > 0x9f) ||
      (lead == 0xf0 && byte(i + 1) < 0x90) || (lead == 0xf4 && byte(i + 1) > 0x8f)) {
    return 0;
  }
  return length;
}

void AppendEscape(std::string* out, unsigned code) {
  constexpr char kHex[] = "0123456789abcdef";
  *out += "\\u";
  for (int shift = 12; shift >= 0; shift -= 4) *out += kHex[(code >> shift) & 0xf];
}

void AppendAscii(std::string* out, char c) {
  switch (c) {
    case '"':
      *out += "\\\"";
      return;
    case '\\':
      *out += "\\\\";
      return;
    case '\n':
      *out += "\\n";
      return;
    case '\r':
      *out += "\\r";
      return;
    case '\t':
      *out += "\\t";
      return;
    default:
      break;
  }
  const unsigned code = static_cast<unsigned char>(c);
  if (code < 0x20 || c == '<' || c == '>' || c == '&') {
    AppendEscape(out, code);
  } else {
    *out += c;
  }
}

// How deep the document nests; the parser below recurses.
int Depth(std::string_view text) {
  int depth = 0;
  int deepest = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

}  // namespace

void AppendString(std::string* out, std::string_view text) {
  *out += '"';
  for (size_t i = 0; i < text.size();) {
    const size_t length = SequenceLength(text, i);
    if (length == 1) {
      AppendAscii(out, text[i]);
    } else if (length == 0) {
      AppendEscape(out, 0xfffd);
    } else if (text.substr(i, length) == "\xe2\x80\xa8" || text.substr(i, length) == "\xe2\x80\xa9") {
      AppendEscape(out, text[i + 2] == '\xa8' ? 0x2028 : 0x2029);
    } else {
      out->append(text.substr(i, length));
    }
    i += length == 0 ? 1 : length;
  }
  *out += '"';
}

void AppendStrings(std::string* out, const std::vector<std::string>& texts) {
  if (texts.empty()) {
    *out += "null";
    return;
  }
  char separator = '[';
  for (const std::string& text : texts) {
    *out += separator;
    AppendString(out, text);
    separator = ',';
  }
  *out += ']';
}

absl::StatusOr<boost::property_tree::ptree> Parse(std::string_view text) {
  if (Depth(text) > kMaxDepth) return absl::InvalidArgumentError("JSON nests too deep");
  boost::property_tree::ptree tree;
  try {
    std::istringstream stream{std::string(text)};
    boost::property_tree::read_json(stream, tree);
  } catch (const boost::property_tree::ptree_error& error) {
    return absl::InvalidArgumentError(base::StrCat("not JSON: ", error.what()));
  }
  return tree;
}

}  // namespace kvd::server::json_internal
