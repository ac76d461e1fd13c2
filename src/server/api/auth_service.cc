// etcdserverpb.Auth: users and roles are kept as etcd keeps them, through the log. Authentication itself
// cannot be enabled in this version: AuthEnable makes etcd's checks and is then refused as not capable.

#include <utility>

#include "absl/strings/escaping.h"
#include "base/bytes.h"
#include "base/random.h"
#include "base/strings.h"
#include "etcdserverpb/rpc.pb.h"
#include "net/grpc_server.h"
#include "server/api/services.h"
#include "server/auth/auth_store.h"
#include "server/auth/password.h"

namespace kvd::server {
namespace {

namespace pb = etcdserverpb;

std::string NewSalt() {
  std::string salt;
  while (salt.size() < kSaltBytes) base::AppendBigEndian64(salt, base::SystemSeed());
  return salt;
}

bool HasNoPassword(const pb::AuthUserAddRequest& request) {
  return request.options().no_password();
}
bool HasNoPassword(const pb::AuthUserChangePasswordRequest&) {
  return false;
}

}  // namespace

// Goes into the log as it came.
template <typename Request>
void Services::RegisterAuthCall(net::FrontDoor& door, std::string_view name, RequestField field) {
  door.RegisterUnary("/etcdserverpb.Auth/" + std::string(name), [this, field](net::UnaryCall call) {
    Request request;
    if (!Parse(call.request(), &request)) return FailMalformed(call);
    if (!Admit(call)) return;
    std::string_view bytes = call.request();
    ProposeAndReply(std::move(call), field, bytes);
  });
}

// Goes into the log with the hash of its password instead of the password.
template <typename Request>
void Services::RegisterPasswordCall(net::FrontDoor& door, std::string_view name, RequestField field) {
  door.RegisterUnary("/etcdserverpb.Auth/" + std::string(name), [this, field](net::UnaryCall call) {
    auto request = std::make_shared<Request>();
    if (!Parse(call.request(), request.get())) return FailMalformed(call);
    if (!Admit(call)) return;
    node_.background().Post([this, field, call, request] {
      request->clear_hashedpassword();
      if (!HasNoPassword(*request)) {
        absl::StatusOr<std::string> hash = HashPassword(request->password(), options_.bcrypt_cost, NewSalt());
        if (!hash.ok()) {
          return call.Fail(net::StatusCode::kUnknown, std::string(base::FromAbsl(hash.status().message())));
        }
        request->set_hashedpassword(absl::Base64Escape(*hash));
      }
      request->clear_password();
      ProposeAndReply(call, field, request->SerializeAsString());
    });
  });
}

void Services::AuthEnable(net::UnaryCall call) {
  if (!Admit(call)) return;
  node_.LinearizableRead([this, call](Error error) {
    if (error != Error::kOk) return Fail(call, error);
    absl::Status can = node_.auth().CanEnable();
    Fail(call, can.ok() ? Error::kNotCapable : ErrorFromText(base::FromAbsl(can.message())));
  });
}

void Services::RegisterAuth(net::FrontDoor& door) {
  door.RegisterUnary("/etcdserverpb.Auth/AuthEnable",
                     [this](net::UnaryCall call) { AuthEnable(std::move(call)); });
  door.RegisterUnary("/etcdserverpb.Auth/Authenticate", [this](const net::UnaryCall& call) {
    pb::AuthenticateRequest request;
    if (!Parse(call.request(), &request)) return FailMalformed(call);
    if (Admit(call)) Fail(call, Error::kAuthNotEnabled);
  });
  RegisterAuthCall<pb::AuthDisableRequest>(door, "AuthDisable", RequestField::kAuthDisable);
  RegisterAuthCall<pb::AuthStatusRequest>(door, "AuthStatus", RequestField::kAuthStatus);
  RegisterPasswordCall<pb::AuthUserAddRequest>(door, "UserAdd", RequestField::kAuthUserAdd);
  RegisterAuthCall<pb::AuthUserGetRequest>(door, "UserGet", RequestField::kAuthUserGet);
  RegisterAuthCall<pb::AuthUserListRequest>(door, "UserList", RequestField::kAuthUserList);
  RegisterAuthCall<pb::AuthUserDeleteRequest>(door, "UserDelete", RequestField::kAuthUserDelete);
  RegisterPasswordCall<pb::AuthUserChangePasswordRequest>(door, "UserChangePassword",
                                                          RequestField::kAuthUserChangePassword);
  RegisterAuthCall<pb::AuthUserGrantRoleRequest>(door, "UserGrantRole", RequestField::kAuthUserGrantRole);
  RegisterAuthCall<pb::AuthUserRevokeRoleRequest>(door, "UserRevokeRole", RequestField::kAuthUserRevokeRole);
  RegisterAuthCall<pb::AuthRoleAddRequest>(door, "RoleAdd", RequestField::kAuthRoleAdd);
  RegisterAuthCall<pb::AuthRoleGetRequest>(door, "RoleGet", RequestField::kAuthRoleGet);
  RegisterAuthCall<pb::AuthRoleListRequest>(door, "RoleList", RequestField::kAuthRoleList);
  RegisterAuthCall<pb::AuthRoleDeleteRequest>(door, "RoleDelete", RequestField::kAuthRoleDelete);
  RegisterAuthCall<pb::AuthRoleGrantPermissionRequest>(door, "RoleGrantPermission",
                                                       RequestField::kAuthRoleGrantPermission);
  RegisterAuthCall<pb::AuthRoleRevokePermissionRequest>(door, "RoleRevokePermission",
                                                        RequestField::kAuthRoleRevokePermission);
}

}  // namespace kvd::server
