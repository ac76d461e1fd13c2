// Small operations on std::string_view.
#pragma once

#include <string_view>

namespace kvd::ctl {

// Takes `prefix` off the front of `text`; false if it is not there.
inline bool ConsumePrefix(std::string_view* text, std::string_view prefix) {
  if (!text->starts_with(prefix)) return false;
  text->remove_prefix(prefix.size());
  return true;
}

inline std::string_view TrimLeft(std::string_view text) {
  const size_t start = text.find_first_not_of(" \t\n\r\v\f");
  return start == std::string_view::npos ? std::string_view() : text.substr(start);
}

}  // namespace kvd::ctl
