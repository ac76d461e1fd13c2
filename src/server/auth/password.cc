#include "server/auth/password.h"

#include <crypt.h>

#include <memory>

#include "base/check.h"

namespace kvd::server {
namespace {

// Constant in time, as far as the lengths are equal.
bool SameBytes(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned char difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned char>(a[i] ^ b[i]);
  return difference == 0;
}

bool Fits(std::string_view password) {
  return password.size() <= kMaxPasswordBytes && password.find('\0') == std::string_view::npos;
}

// Empty if `setting` is none.
std::string Crypt(std::string_view password, const std::string& setting) {
  auto data = std::make_unique<crypt_data>();
  const char* hash = crypt_rn(std::string(password).c_str(), setting.c_str(), data.get(), sizeof(crypt_data));
  return hash == nullptr ? std::string() : std::string(hash);
}

}  // namespace

absl::StatusOr<std::string> HashPassword(std::string_view password, int cost, std::string_view salt) {
  KVD_CHECK(salt.size() == kSaltBytes, "a salt of bcrypt has 16 bytes");
  if (password.size() > kMaxPasswordBytes) {
    return absl::InvalidArgumentError("bcrypt: password length exceeds 72 bytes");
  }
  if (!Fits(password)) return absl::InvalidArgumentError("bcrypt: password holds a zero byte");
  char setting[CRYPT_GENSALT_OUTPUT_SIZE];
  const char* made = crypt_gensalt_rn("$2b$", static_cast<unsigned long>(cost), salt.data(),
                                      static_cast<int>(salt.size()), setting, sizeof setting);
  KVD_CHECK(made != nullptr, "libcrypt knows bcrypt");
  std::string hash = Crypt(password, setting);
  KVD_CHECK(!hash.empty(), "libcrypt knows bcrypt");
  return hash;
}

bool PasswordMatches(std::string_view password, std::string_view hash) {
  if (!Fits(password) || hash.empty()) return false;
  const std::string again = Crypt(password, std::string(hash));
  return !again.empty() && SameBytes(again, hash);
}

}  // namespace kvd::server
