#include "server/auth/auth_store.h"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "authpb/auth.pb.h"
#include "base/bytes.h"
#include "etcdserverpb/raft_internal.pb.h"

namespace kvd::server {
namespace {

namespace pb = etcdserverpb;
using Field = pb::InternalRaftRequest;

constexpr std::string_view kRoot = "root";
constexpr std::string_view kEnabledKey = "authEnabled";
constexpr std::string_view kRevisionKey = "authRevision";

absl::Status Precondition(const char* text) {
  return absl::FailedPreconditionError(text);
}
absl::Status UserNotFound() {
  return Precondition("etcdserver: user name not found");
}
absl::Status RoleNotFound() {
  return Precondition("etcdserver: role name not found");
}
absl::Status InvalidManagement() {
  return absl::InvalidArgumentError("etcdserver: invalid auth management");
}

// One key; an interval that is not empty; or everything from a key on, which ends with a zero byte.
bool IsPermissionRange(std::string_view key, std::string_view range_end) {
  static constexpr std::string_view kOpenEnd("\0", 1);
  if (key.empty()) return false;
  return range_end.empty() || range_end == kOpenEnd || key < range_end;
}

template <typename Message>
bool Parse(std::string_view bytes, Message* message) {
  return message->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

}  // namespace

struct AuthStore::State {
  std::map<std::string, authpb::User, std::less<>> users;
  std::map<std::string, authpb::Role, std::less<>> roles;
  bool enabled = false;
  uint64_t revision = 1;
};

// One request at work on the state. Each Run gives the response's fields after its header.
struct AuthStore::Change {
  using Result = absl::StatusOr<std::string>;

  State& state;
  AuthTables& tables;

  void Put(const authpb::User& user) {
    tables.Put(AuthTable::kUsers, user.name(), user.SerializeAsString());
    state.users[user.name()] = user;
  }
  void Put(const authpb::Role& role) {
    tables.Put(AuthTable::kRoles, role.name(), role.SerializeAsString());
    state.roles[role.name()] = role;
  }
  Result Done() {
    std::string revision;
    base::AppendBigEndian64(revision, ++state.revision);
    tables.Put(AuthTable::kAuth, kRevisionKey, revision);
    return std::string();
  }
  void SetEnabled(bool enabled) {
    state.enabled = enabled;
    tables.Put(AuthTable::kAuth, kEnabledKey, std::string_view(enabled ? "\1" : "\0", 1));
  }
  authpb::User* FindUser(const std::string& name) {
    auto it = state.users.find(name);
    return it == state.users.end() ? nullptr : &it->second;
  }
  authpb::Role* FindRole(const std::string& name) {
    auto it = state.roles.find(name);
    return it == state.roles.end() ? nullptr : &it->second;
  }
  absl::Status CheckRoot() {
    const authpb::User* root = FindUser(std::string(kRoot));
    if (root == nullptr) return Precondition("etcdserver: root user does not exist");
    if (std::find(root->roles().begin(), root->roles().end(), kRoot) == root->roles().end()) {
      return Precondition("etcdserver: root user does not have root role");
    }
    return absl::OkStatus();
  }

  Result Run(const pb::AuthEnableRequest&) {
    if (state.enabled) return std::string();
    if (absl::Status root = CheckRoot(); !root.ok()) return root;
    SetEnabled(true);
    return std::string();
  }
  Result Run(const pb::AuthDisableRequest&) {
    if (!state.enabled) return std::string();
    SetEnabled(false);
    return Done();
  }
  Result Run(const pb::AuthStatusRequest&) {
    pb::AuthStatusResponse response;
    response.set_enabled(state.enabled);
    response.set_authrevision(state.revision);
    return response.SerializeAsString();
  }

  // False if it is not base64.
  static bool SetPassword(const std::string& encoded, authpb::User* user) {
    std::string hash;
    if (!absl::Base64Unescape(encoded, &hash)) return false;
    user->set_password(hash);
    return true;
  }
  Result Run(const pb::AuthUserAddRequest& request) {
    if (request.name().empty()) return absl::InvalidArgumentError("etcdserver: user name is empty");
    if (FindUser(request.name()) != nullptr) return Precondition("etcdserver: user name already exists");
    authpb::User user;
    user.set_name(request.name());
    user.mutable_options()->set_no_password(request.options().no_password());
    if (!user.options().no_password() && !SetPassword(request.hashedpassword(), &user)) {
      return absl::InvalidArgumentError("a password's hash that is not base64");
    }
    Put(user);
    return Done();
  }
  Result Run(const pb::AuthUserDeleteRequest& request) {
    if (state.enabled && request.name() == kRoot) return InvalidManagement();
    if (FindUser(request.name()) == nullptr) return UserNotFound();
    state.users.erase(request.name());
    tables.Delete(AuthTable::kUsers, request.name());
    return Done();
  }
  Result Run(const pb::AuthUserGetRequest& request) {
    const authpb::User* user = FindUser(request.name());
    if (user == nullptr) return UserNotFound();
    pb::AuthUserGetResponse response;
    *response.mutable_roles() = user->roles();
    return response.SerializeAsString();
  }
  Result Run(const pb::AuthUserListRequest&) {
    pb::AuthUserListResponse response;
    for (const auto& [name, user] : state.users) response.add_users(name);
    return response.SerializeAsString();
  }
  Result Run(const pb::AuthUserChangePasswordRequest& request) {
    const authpb::User* found = FindUser(request.name());
    if (found == nullptr) return UserNotFound();
    authpb::User user = *found;
    if (!user.options().no_password() && !SetPassword(request.hashedpassword(), &user)) {
      return absl::InvalidArgumentError("a password's hash that is not base64");
    }
    Put(user);
    return Done();
  }
  Result Run(const pb::AuthUserGrantRoleRequest& request) {
    const authpb::User* found = FindUser(request.user());
    if (found == nullptr) return UserNotFound();
    if (request.role() != kRoot && FindRole(request.role()) == nullptr) return RoleNotFound();
    std::vector<std::string> roles(found->roles().begin(), found->roles().end());
    auto at = std::lower_bound(roles.begin(), roles.end(), request.role());
    if (at != roles.end() && *at == request.role()) return std::string();  // nothing changes
    roles.insert(at, request.role());
    authpb::User user = *found;
    user.mutable_roles()->Assign(roles.begin(), roles.end());
    Put(user);
    return Done();
  }
  bool TakeRole(const authpb::User& found, const std::string& role) {
    std::vector<std::string> roles(found.roles().begin(), found.roles().end());
    if (std::erase(roles, role) == 0) return false;
    authpb::User user = found;
    user.mutable_roles()->Assign(roles.begin(), roles.end());
    Put(user);
    return true;
  }
  Result Run(const pb::AuthUserRevokeRoleRequest& request) {
    if (state.enabled && request.name() == kRoot && request.role() == kRoot) return InvalidManagement();
    const authpb::User* user = FindUser(request.name());
    if (user == nullptr) return UserNotFound();
    if (!TakeRole(*user, request.role())) {
      return Precondition("etcdserver: role is not granted to the user");
    }
    return Done();
  }

  Result Run(const pb::AuthRoleAddRequest& request) {
    if (request.name().empty()) return absl::InvalidArgumentError("etcdserver: role name is empty");
    if (FindRole(request.name()) != nullptr) return Precondition("etcdserver: role name already exists");
    authpb::Role role;
    role.set_name(request.name());
    Put(role);
    return Done();
  }
  Result Run(const pb::AuthRoleDeleteRequest& request) {
    if (state.enabled && request.role() == kRoot) return InvalidManagement();
    if (FindRole(request.role()) == nullptr) return RoleNotFound();
    state.roles.erase(request.role());
    tables.Delete(AuthTable::kRoles, request.role());
    for (const auto& [name, user] : state.users) TakeRole(user, request.role());
    return Done();
  }
  Result Run(const pb::AuthRoleGetRequest& request) {
    const authpb::Role* role = FindRole(request.role());
    if (role == nullptr) return RoleNotFound();
    pb::AuthRoleGetResponse response;
    if (request.role() == kRoot) {  // whatever was granted to it, it may do everything
      authpb::Permission* all = response.add_perm();
      all->set_permtype(authpb::Permission::READWRITE);
      all->set_range_end(std::string(1, '\0'));
    } else {
      *response.mutable_perm() = role->keypermission();
    }
    return response.SerializeAsString();
  }
  Result Run(const pb::AuthRoleListRequest&) {
    pb::AuthRoleListResponse response;
    for (const auto& [name, role] : state.roles) response.add_roles(name);
    return response.SerializeAsString();
  }
  Result Run(const pb::AuthRoleGrantPermissionRequest& request) {
    if (!request.has_perm()) return absl::InvalidArgumentError("etcdserver: permission not given");
    const authpb::Permission& perm = request.perm();
    if (!IsPermissionRange(perm.key(), perm.range_end())) return InvalidManagement();
    const authpb::Role* found = FindRole(request.name());
    if (found == nullptr) return RoleNotFound();
    std::vector<authpb::Permission> perms(found->keypermission().begin(), found->keypermission().end());
    auto at = std::lower_bound(perms.begin(), perms.end(), perm,
                               [](const auto& a, const auto& b) { return a.key() < b.key(); });
    if (at != perms.end() && at->key() == perm.key() && at->range_end() == perm.range_end()) {
      at->set_permtype(perm.permtype());
    } else {
      while (at != perms.end() && at->key() == perm.key()) ++at;  // behind those of the same key
      perms.insert(at, perm);
    }
    authpb::Role role = *found;
    role.mutable_keypermission()->Assign(perms.begin(), perms.end());
    Put(role);
    return Done();
  }
  Result Run(const pb::AuthRoleRevokePermissionRequest& request) {
    const authpb::Role* found = FindRole(request.role());
    if (found == nullptr) return RoleNotFound();
    std::vector<authpb::Permission> perms(found->keypermission().begin(), found->keypermission().end());
    const size_t revoked = std::erase_if(perms, [&](const authpb::Permission& perm) {
      return perm.key() == request.key() && perm.range_end() == request.range_end();
    });
    if (revoked == 0) return Precondition("etcdserver: permission is not granted to the role");
    authpb::Role role = *found;
    role.mutable_keypermission()->Assign(perms.begin(), perms.end());
    Put(role);
    return Done();
  }

  template <typename Request>
  Result Apply(std::string_view bytes) {
    Request request;
    if (!Parse(bytes, &request)) return absl::InvalidArgumentError("a request that cannot be read");
    return Run(request);
  }
};

AuthStore::AuthStore() : state_(std::make_unique<State>()) {}
AuthStore::~AuthStore() = default;

absl::Status AuthStore::Load(absl::FunctionRef<void(AuthTable table, Visit visit)> read) {
  auto state = std::make_unique<State>();
  bool readable = true;
  read(AuthTable::kAuth, [&](std::string_view key, std::string_view value) {
    if (key == kEnabledKey) state->enabled = value == "\1";
    if (key != kRevisionKey) return;
    readable = readable && value.size() == 8;
    if (readable) state->revision = std::max<uint64_t>(1, base::LoadBigEndian64(value.data()));
  });
  read(AuthTable::kUsers, [&](std::string_view key, std::string_view value) {
    readable = readable && Parse(value, &state->users[std::string(key)]);
  });
  read(AuthTable::kRoles, [&](std::string_view key, std::string_view value) {
    readable = readable && Parse(value, &state->roles[std::string(key)]);
  });
  if (!readable) return absl::DataLossError("a user or a role in the store cannot be read");
  std::lock_guard<std::mutex> lock(mutex_);
  state_ = std::move(state);
  enabled_.store(state_->enabled, std::memory_order_release);
  revision_.store(state_->revision, std::memory_order_release);
  return absl::OkStatus();
}

bool AuthStore::Takes(uint32_t field) {
  return (field >= Field::kAuthEnableFieldNumber && field <= Field::kAuthStatusFieldNumber &&
          field != Field::kAuthenticateFieldNumber) ||
         (field >= Field::kAuthUserAddFieldNumber && field <= Field::kAuthRoleRevokePermissionFieldNumber);
}

absl::StatusOr<std::string> AuthStore::Apply(uint32_t field, std::string_view request, AuthTables& tables) {
  std::lock_guard<std::mutex> lock(mutex_);
  Change change{*state_, tables};
  auto apply = [&]() -> absl::StatusOr<std::string> {
    switch (field) {
      case Field::kAuthEnableFieldNumber:
        return change.Apply<pb::AuthEnableRequest>(request);
      case Field::kAuthDisableFieldNumber:
        return change.Apply<pb::AuthDisableRequest>(request);
      case Field::kAuthStatusFieldNumber:
        return change.Apply<pb::AuthStatusRequest>(request);
      case Field::kAuthUserAddFieldNumber:
        return change.Apply<pb::AuthUserAddRequest>(request);
      case Field::kAuthUserDeleteFieldNumber:
        return change.Apply<pb::AuthUserDeleteRequest>(request);
      case Field::kAuthUserGetFieldNumber:
        return change.Apply<pb::AuthUserGetRequest>(request);
      case Field::kAuthUserChangePasswordFieldNumber:
        return change.Apply<pb::AuthUserChangePasswordRequest>(request);
      case Field::kAuthUserGrantRoleFieldNumber:
        return change.Apply<pb::AuthUserGrantRoleRequest>(request);
      case Field::kAuthUserRevokeRoleFieldNumber:
        return change.Apply<pb::AuthUserRevokeRoleRequest>(request);
      case Field::kAuthUserListFieldNumber:
        return change.Apply<pb::AuthUserListRequest>(request);
      case Field::kAuthRoleListFieldNumber:
        return change.Apply<pb::AuthRoleListRequest>(request);
      case Field::kAuthRoleAddFieldNumber:
        return change.Apply<pb::AuthRoleAddRequest>(request);
      case Field::kAuthRoleDeleteFieldNumber:
        return change.Apply<pb::AuthRoleDeleteRequest>(request);
      case Field::kAuthRoleGetFieldNumber:
        return change.Apply<pb::AuthRoleGetRequest>(request);
      case Field::kAuthRoleGrantPermissionFieldNumber:
        return change.Apply<pb::AuthRoleGrantPermissionRequest>(request);
      case Field::kAuthRoleRevokePermissionFieldNumber:
        return change.Apply<pb::AuthRoleRevokePermissionRequest>(request);
      default:
        return absl::InvalidArgumentError("not a request about users and roles");
    }
  };
  absl::StatusOr<std::string> answer = apply();
  enabled_.store(state_->enabled, std::memory_order_release);
  revision_.store(state_->revision, std::memory_order_release);
  return answer;
}

absl::Status AuthStore::CanEnable() const {
  std::lock_guard<std::mutex> lock(mutex_);
  class Nowhere final : public AuthTables {
    void Put(AuthTable, std::string_view, std::string_view) override {}
    void Delete(AuthTable, std::string_view) override {}
  } nowhere;
  return Change{*state_, nowhere}.CheckRoot();
}

}  // namespace kvd::server
