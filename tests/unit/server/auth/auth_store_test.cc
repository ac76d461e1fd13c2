#include "server/auth/auth_store.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "authpb/auth.pb.h"
#include "etcdserverpb/raft_internal.pb.h"

namespace kvd::server {
namespace {

namespace pb = etcdserverpb;

class Rows final : public AuthTables {
 public:
  void Put(AuthTable table, std::string_view key, std::string_view value) override {
    rows[{table, std::string(key)}] = value;
  }
  void Delete(AuthTable table, std::string_view key) override { rows.erase({table, std::string(key)}); }
  absl::Status LoadInto(AuthStore& store) const {
    return store.Load([this](AuthTable table, AuthStore::Visit visit) {
      for (const auto& [key, value] : rows) {
        if (key.first == table) visit(key.second, value);
      }
    });
  }
  std::map<std::pair<AuthTable, std::string>, std::string> rows;
};

class AuthStoreTest : public ::testing::Test {
 protected:
  // The text of the error, or "".
  std::string Run(int field, const google::protobuf::MessageLite& request) {
    absl::StatusOr<std::string> answer =
        store_.Apply(static_cast<uint32_t>(field), request.SerializeAsString(), rows_);
    if (answer.ok()) body_ = *answer;
    return answer.ok() ? "" : std::string(answer.status().message().data(), answer.status().message().size());
  }
  std::string AddUser(const std::string& name) {
    pb::AuthUserAddRequest request;
    request.set_name(name);
    request.set_hashedpassword("aGFzaA==");
    return Run(pb::InternalRaftRequest::kAuthUserAddFieldNumber, request);
  }
  std::string AddRole(const std::string& name) {
    pb::AuthRoleAddRequest request;
    request.set_name(name);
    return Run(pb::InternalRaftRequest::kAuthRoleAddFieldNumber, request);
  }
  std::string GrantRole(const std::string& user, const std::string& role) {
    pb::AuthUserGrantRoleRequest request;
    request.set_user(user);
    request.set_role(role);
    return Run(pb::InternalRaftRequest::kAuthUserGrantRoleFieldNumber, request);
  }
  std::string RevokeRole(const std::string& user, const std::string& role) {
    pb::AuthUserRevokeRoleRequest request;
    request.set_name(user);
    request.set_role(role);
    return Run(pb::InternalRaftRequest::kAuthUserRevokeRoleFieldNumber, request);
  }
  std::string DeleteRole(const std::string& role) {
    pb::AuthRoleDeleteRequest request;
    request.set_role(role);
    return Run(pb::InternalRaftRequest::kAuthRoleDeleteFieldNumber, request);
  }
  std::string Permit(const std::string& role, const std::string& key, const std::string& end,
                     authpb::Permission::Type type = authpb::Permission::READ) {
    pb::AuthRoleGrantPermissionRequest request;
    request.set_name(role);
    request.mutable_perm()->set_key(key);
    request.mutable_perm()->set_range_end(end);
    request.mutable_perm()->set_permtype(type);
    return Run(pb::InternalRaftRequest::kAuthRoleGrantPermissionFieldNumber, request);
  }
  std::string RolesOf(const std::string& user) {
    pb::AuthUserGetRequest request;
    request.set_name(user);
    if (std::string error = Run(pb::InternalRaftRequest::kAuthUserGetFieldNumber, request); !error.empty()) {
      return error;
    }
    pb::AuthUserGetResponse response;
    EXPECT_TRUE(response.ParseFromString(body_));
    std::string roles;
    for (const std::string& role : response.roles()) roles += role + " ";
    return roles;
  }
  std::string PermsOf(const std::string& role) {
    pb::AuthRoleGetRequest request;
    request.set_role(role);
    if (std::string error = Run(pb::InternalRaftRequest::kAuthRoleGetFieldNumber, request); !error.empty()) {
      return error;
    }
    pb::AuthRoleGetResponse response;
    EXPECT_TRUE(response.ParseFromString(body_));
    std::string perms;
    for (const authpb::Permission& perm : response.perm()) {
      perms += perm.key() + "-" + perm.range_end() + ":" + std::to_string(perm.permtype()) + " ";
    }
    return perms;
  }
  std::string Enable() {
    return Run(pb::InternalRaftRequest::kAuthEnableFieldNumber, pb::AuthEnableRequest());
  }

  AuthStore store_;
  Rows rows_;
  std::string body_;
};

TEST_F(AuthStoreTest, Users_AddedTwiceAndNameless_Refused) {
  EXPECT_EQ(store_.revision(), 1u);
  EXPECT_EQ(AddUser("u"), "");
  EXPECT_EQ(store_.revision(), 2u);
  EXPECT_EQ(AddUser("u"), "etcdserver: user name already exists");
  EXPECT_EQ(AddUser(""), "etcdserver: user name is empty");
  EXPECT_EQ(RolesOf("v"), "etcdserver: user name not found");
  EXPECT_EQ(store_.revision(), 2u);
  authpb::User user;
  ASSERT_TRUE(user.ParseFromString(rows_.rows[{AuthTable::kUsers, "u"}]));
  EXPECT_EQ(user.password(), "hash");
}

TEST_F(AuthStoreTest, Roles_GrantedAndTaken_SortedAndCounted) {
  ASSERT_EQ(AddUser("u"), "");
  for (const char* role : {"b", "c", "a"}) ASSERT_EQ(AddRole(role), "");
  for (const char* role : {"b", "c", "a"}) ASSERT_EQ(GrantRole("u", role), "");
  EXPECT_EQ(RolesOf("u"), "a b c ");
  const uint64_t revision = store_.revision();
  EXPECT_EQ(GrantRole("u", "b"), "");  // once more changes nothing
  EXPECT_EQ(store_.revision(), revision);
  EXPECT_EQ(GrantRole("u", "none"), "etcdserver: role name not found");
  EXPECT_EQ(GrantRole("u", "root"), "");  // is there without having been added
  EXPECT_EQ(RevokeRole("u", "none"), "etcdserver: role is not granted to the user");
  EXPECT_EQ(RevokeRole("u", "root"), "");
  EXPECT_EQ(DeleteRole("b"), "");
  EXPECT_EQ(RolesOf("u"), "a c ");
  EXPECT_EQ(DeleteRole("b"), "etcdserver: role name not found");
}

TEST_F(AuthStoreTest, Permissions_ByKeyAndEnd_OneEach) {
  ASSERT_EQ(AddRole("r"), "");
  EXPECT_EQ(Permit("r", "m", ""), "");
  EXPECT_EQ(Permit("r", "a", "b"), "");
  EXPECT_EQ(Permit("r", "m", "", authpb::Permission::READWRITE), "");
  EXPECT_EQ(Permit("r", "m", std::string(1, '\0')), "");
  EXPECT_EQ(PermsOf("r"), std::string("a-b:0 m-:2 m-\0:0 ", 17));
  EXPECT_EQ(Permit("r", "z", "a"), "etcdserver: invalid auth management");
  EXPECT_EQ(Permit("r", "", "a"), "etcdserver: invalid auth management");
  EXPECT_EQ(Permit("none", "a", "b"), "etcdserver: role name not found");
  pb::AuthRoleRevokePermissionRequest revoke;
  revoke.set_role("r");
  revoke.set_key("a");
  EXPECT_EQ(Run(pb::InternalRaftRequest::kAuthRoleRevokePermissionFieldNumber, revoke),
            "etcdserver: permission is not granted to the role");
  revoke.set_range_end("b");
  EXPECT_EQ(Run(pb::InternalRaftRequest::kAuthRoleRevokePermissionFieldNumber, revoke), "");
  EXPECT_EQ(PermsOf("r"), std::string("m-:2 m-\0:0 ", 11));
}

TEST_F(AuthStoreTest, Enable_WithoutRoot_Refused_AndRootStaysWhileEnabled) {
  EXPECT_EQ(Enable(), "etcdserver: root user does not exist");
  ASSERT_EQ(AddUser("root"), "");
  EXPECT_EQ(Enable(), "etcdserver: root user does not have root role");
  ASSERT_EQ(GrantRole("root", "root"), "");
  EXPECT_TRUE(store_.CanEnable().ok());
  EXPECT_FALSE(store_.enabled());
  EXPECT_EQ(Enable(), "");
  EXPECT_TRUE(store_.enabled());
  EXPECT_EQ(RevokeRole("root", "root"), "etcdserver: invalid auth management");
  EXPECT_EQ(DeleteRole("root"), "etcdserver: invalid auth management");
  pb::AuthUserDeleteRequest remove;
  remove.set_name("root");
  EXPECT_EQ(Run(pb::InternalRaftRequest::kAuthUserDeleteFieldNumber, remove),
            "etcdserver: invalid auth management");
}

TEST_F(AuthStoreTest, Load_WhatWasWritten_IsTheSame) {
  ASSERT_EQ(AddUser("root"), "");
  ASSERT_EQ(AddRole("r"), "");
  ASSERT_EQ(Permit("r", "k", ""), "");
  ASSERT_EQ(GrantRole("root", "r"), "");
  ASSERT_EQ(GrantRole("root", "root"), "");
  ASSERT_EQ(Enable(), "");
  AuthStore other;
  ASSERT_TRUE(rows_.LoadInto(other).ok());
  EXPECT_EQ(other.revision(), store_.revision());
  EXPECT_TRUE(other.enabled());
  pb::AuthUserGetRequest get;
  get.set_name("root");
  auto ours = store_.Apply(pb::InternalRaftRequest::kAuthUserGetFieldNumber, get.SerializeAsString(), rows_);
  auto theirs = other.Apply(pb::InternalRaftRequest::kAuthUserGetFieldNumber, get.SerializeAsString(), rows_);
  ASSERT_TRUE(ours.ok() && theirs.ok());
  EXPECT_EQ(*ours, *theirs);
  rows_.rows[{AuthTable::kUsers, "bad"}] = "\xff\xff";
  EXPECT_FALSE(rows_.LoadInto(other).ok());
}

TEST_F(AuthStoreTest, Garbage_IsRefused) {
  EXPECT_FALSE(store_.Apply(pb::InternalRaftRequest::kAuthUserAddFieldNumber, "\xff\xff", rows_).ok());
  EXPECT_FALSE(AuthStore::Takes(4));
  EXPECT_FALSE(AuthStore::Takes(pb::InternalRaftRequest::kAuthenticateFieldNumber));
  EXPECT_TRUE(AuthStore::Takes(pb::InternalRaftRequest::kAuthRoleRevokePermissionFieldNumber));
}

}  // namespace
}  // namespace kvd::server
