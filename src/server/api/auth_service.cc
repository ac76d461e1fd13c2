// etcdserverpb.Auth as a cluster without users and without authentication answers it. Such a cluster has
// nobody to add and nothing to grant; what would create a user or a role is refused as not capable.

#include <utility>

#include "etcdserverpb/rpc.pb.h"
#include "net/grpc_server.h"
#include "server/api/services.h"
#include "storage/store.h"

namespace kvd::server {
namespace {

namespace pb = etcdserverpb;

// That of an auth store to which nothing has been done.
constexpr uint64_t kFirstAuthRevision = 1;

template <typename Request>
bool Parse(const net::UnaryCall& call, Request* request) {
  return request->ParseFromArray(call.request().data(), static_cast<int>(call.request().size()));
}

// What each call says where there is neither a user nor a role. kOk: the list is empty.
Error NoRootUser(const etcdserverpb::AuthEnableRequest&) {
  return Error::kRootUserNotExist;
}
Error Nothing(const etcdserverpb::AuthDisableRequest&) {
  return Error::kOk;
}
Error NotEnabled(const etcdserverpb::AuthenticateRequest&) {
  return Error::kAuthNotEnabled;
}
Error NoUserAdded(const etcdserverpb::AuthUserAddRequest& request) {
  return request.name().empty() ? Error::kUserEmpty : Error::kNotCapable;
}
Error NoRoleAdded(const etcdserverpb::AuthRoleAddRequest& request) {
  return request.name().empty() ? Error::kRoleEmpty : Error::kNotCapable;
}
Error NoPermission(const etcdserverpb::AuthRoleGrantPermissionRequest& request) {
  return request.has_perm() ? Error::kRoleNotFound : Error::kPermissionNotGiven;
}
template <typename Request>
Error EmptyList(const Request&) {
  return Error::kOk;
}
template <typename Request>
Error NoUser(const Request&) {
  return Error::kUserNotFound;
}
template <typename Request>
Error NoRole(const Request&) {
  return Error::kRoleNotFound;
}

}  // namespace

template <typename Request>
void Services::RegisterAuthCall(net::FrontDoor& door, std::string_view name,
                                Error (*answer)(const Request&)) {
  door.RegisterUnary("/etcdserverpb.Auth/" + std::string(name), [this, answer](net::UnaryCall call) {
    Request request;
    if (!Parse(call, &request)) return FailMalformed(call);
    if (!Admit(call)) return;
    if (Error error = answer(request); error != Error::kOk) return Fail(call, error);
    call.Reply(WithHeader(node_.Header(node_.store().current_revision()), {}));
  });
}

void Services::RegisterAuth(net::FrontDoor& door) {
  RegisterAuthCall(door, "AuthEnable", &NoRootUser);
  RegisterAuthCall(door, "AuthDisable", &Nothing);
  RegisterAuthCall(door, "Authenticate", &NotEnabled);
  RegisterAuthCall(door, "UserAdd", &NoUserAdded);
  RegisterAuthCall(door, "UserGet", &NoUser<pb::AuthUserGetRequest>);
  RegisterAuthCall(door, "UserList", &EmptyList<pb::AuthUserListRequest>);
  RegisterAuthCall(door, "UserDelete", &NoUser<pb::AuthUserDeleteRequest>);
  RegisterAuthCall(door, "UserChangePassword", &NoUser<pb::AuthUserChangePasswordRequest>);
  RegisterAuthCall(door, "UserGrantRole", &NoUser<pb::AuthUserGrantRoleRequest>);
  RegisterAuthCall(door, "UserRevokeRole", &NoUser<pb::AuthUserRevokeRoleRequest>);
  RegisterAuthCall(door, "RoleAdd", &NoRoleAdded);
  RegisterAuthCall(door, "RoleGet", &NoRole<pb::AuthRoleGetRequest>);
  RegisterAuthCall(door, "RoleList", &EmptyList<pb::AuthRoleListRequest>);
  RegisterAuthCall(door, "RoleDelete", &NoRole<pb::AuthRoleDeleteRequest>);
  RegisterAuthCall(door, "RoleGrantPermission", &NoPermission);
  RegisterAuthCall(door, "RoleRevokePermission", &NoRole<pb::AuthRoleRevokePermissionRequest>);
  door.RegisterUnary("/etcdserverpb.Auth/AuthStatus", [this](net::UnaryCall call) {
    if (!Admit(call)) return;
    std::string body;
    AppendUint64Field(body, 3, kFirstAuthRevision);
    call.Reply(WithHeader(node_.Header(node_.store().current_revision()), std::move(body)));
  });
}

}  // namespace kvd::server
