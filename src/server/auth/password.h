// Passwords as etcd keeps them: bcrypt, so that a hash made by one server is good for the other.
//
// Thread-safety: pure functions. Slow on purpose, twice as slow with each step of the cost: not on a thread
// that serves others.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace kvd::server {

inline constexpr size_t kSaltBytes = 16;
inline constexpr size_t kMaxPasswordBytes = 72;

// `salt` has kSaltBytes; `cost` is between 4 and 31. Errors: kInvalidArgument for a password that is longer
// than kMaxPasswordBytes or holds a zero byte, which bcrypt would cut off.
absl::StatusOr<std::string> HashPassword(std::string_view password, int cost, std::string_view salt);
bool PasswordMatches(std::string_view password, std::string_view hash);

}  // namespace kvd::server
