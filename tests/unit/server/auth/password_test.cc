#include "server/auth/password.h"

#include <gtest/gtest.h>

namespace kvd::server {
namespace {

TEST(Password, Hash_OfBcrypt_MatchesItsPasswordOnly) {
  const absl::StatusOr<std::string> hash = HashPassword("secret", 4, "0123456789abcdef");
  ASSERT_TRUE(hash.ok());
  EXPECT_EQ(hash->substr(0, 7), "$2b$04$");
  EXPECT_EQ(hash->size(), 60u);
  EXPECT_TRUE(PasswordMatches("secret", *hash));
  EXPECT_FALSE(PasswordMatches("Secret", *hash));
  EXPECT_FALSE(PasswordMatches("", *hash));
  EXPECT_NE(*hash, *HashPassword("secret", 4, "fedcba9876543210"));
}

TEST(Password, Hash_OfOthers_Matches) {
  // From the test vectors of crypt_blowfish, in the form that Go's bcrypt writes.
  EXPECT_TRUE(PasswordMatches("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"));
  EXPECT_FALSE(PasswordMatches("U*V", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"));
}

TEST(Password, NoHash_Never_Matches) {
  for (const char* hash : {"", "*", "secret", "$2b$04$", "$2b$99$0123456789012345678901"}) {
    EXPECT_FALSE(PasswordMatches("secret", hash)) << hash;
    EXPECT_FALSE(PasswordMatches("", hash)) << hash;
  }
}

TEST(Password, WhatBcryptWouldCutOff_Refused) {
  EXPECT_TRUE(HashPassword(std::string(72, 'p'), 4, "0123456789abcdef").ok());
  EXPECT_FALSE(HashPassword(std::string(73, 'p'), 4, "0123456789abcdef").ok());
  EXPECT_FALSE(HashPassword(std::string("a\0b", 3), 4, "0123456789abcdef").ok());
}

}  // namespace
}  // namespace kvd::server
