// Bridges to Abseil's strings. Debian builds Abseil with a string_view of its own, which does not convert to
// or from std::string_view; this project uses std::string_view everywhere and crosses over here.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace kvd::base {

inline absl::string_view ToAbsl(std::string_view v) {
  return absl::string_view(v.data(), v.size());
}
inline std::string_view FromAbsl(absl::string_view v) {
  return std::string_view(v.data(), v.size());
}

namespace strings_internal {
template <typename T>
decltype(auto) Piece(const T& value) {
  if constexpr (std::is_same_v<T, std::string_view>) {
    return ToAbsl(value);
  } else {
    return (value);
  }
}
}  // namespace strings_internal

// absl::StrCat and absl::StrAppend that take std::string_view too.
template <typename... T>
std::string StrCat(const T&... pieces) {
  return absl::StrCat(strings_internal::Piece(pieces)...);
}
template <typename... T>
void StrAppend(std::string* out, const T&... pieces) {
  absl::StrAppend(out, strings_internal::Piece(pieces)...);
}

}  // namespace kvd::base
