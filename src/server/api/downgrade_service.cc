// etcdserverpb.Maintenance.Downgrade (ETCD: server/etcdserver/version/manager.go, v3.7): a cluster can be
// told to get ready for members that are one minor version older.

#include <utility>

#include "base/log.h"
#include "etcdserverpb/rpc.pb.h"
#include "membershippb/membership.pb.h"
#include "net/grpc_server.h"
#include "server/api/services.h"
#include "server/membership/version.h"
#include "storage/store.h"

namespace kvd::server {
namespace {

using etcdserverpb::DowngradeRequest;

std::string MajorMinor(const Version& version) {
  return std::to_string(version.major) + "." + std::to_string(version.minor);
}

// "3.6" or "3.6.0".
absl::StatusOr<Version> ParseTarget(const std::string& text) {
  absl::StatusOr<Version> version = ParseVersion(text);
  if (!version.ok()) version = ParseVersion(text + ".0");
  return version;
}

Error CheckTarget(const ClusterView& view, const Version& target) {
  if (target.Cluster() != Version{view.version->major, view.version->minor - 1, 0}) {
    return Error::kInvalidDowngradeTargetVersion;
  }
  return view.downgrade.enabled ? Error::kDowngradeInProcess : Error::kOk;
}

}  // namespace

void Services::Downgrade(net::UnaryCall call) {
  DowngradeRequest request;
  if (!Parse(call.request(), &request)) return FailMalformed(call);
  if (!Admit(call)) return;
  switch (request.action()) {
    case DowngradeRequest::VALIDATE:
    case DowngradeRequest::ENABLE:
      return BeginDowngrade(std::move(call), request.version(), request.action() == DowngradeRequest::ENABLE);
    case DowngradeRequest::CANCEL:
      return SetDowngrade(std::move(call), {});
    default:
      return call.Fail(net::StatusCode::kUnknown, "unknown downgrade request");
  }
}

void Services::BeginDowngrade(net::UnaryCall call, const std::string& version, bool enable) {
  absl::StatusOr<Version> target = ParseTarget(version);
  if (!target.ok()) return Fail(call, Error::kWrongDowngradeVersionFormat);
  if (!node_.cluster().View()->version) return Fail(call, Error::kClusterVersionUnavailable);
  node_.LinearizableRead([this, call, enable, target = *target](Error error) {
    std::shared_ptr<const ClusterView> view = node_.cluster().View();
    if (error == Error::kOk) error = CheckTarget(*view, target);
    if (error != Error::kOk) return Fail(call, error);
    if (enable) return SetDowngrade(call, {true, target.Cluster().ToString()});
    ReplyDowngrade(call);
  });
}

// Cancelling where there is nothing to cancel is no error.
void Services::SetDowngrade(net::UnaryCall call, DowngradeInfo info) {
  if (!info.enabled && !node_.cluster().View()->downgrade.enabled) {
    KVD_LOG(kWarn, "there is no downgrade to cancel");
    return ReplyDowngrade(call);
  }
  membershippb::DowngradeInfoSetRequest request;
  request.set_enabled(info.enabled);
  request.set_ver(info.target_version);
  node_.Propose(RequestField::kDowngradeInfoSet, request.SerializeAsString(),
                [this, call](ApplyOutcome&& outcome) {
                  if (outcome.error != Error::kOk) return Fail(call, outcome.error);
                  ReplyDowngrade(call);
                });
}

void Services::ReplyDowngrade(const net::UnaryCall& call) {
  std::shared_ptr<const ClusterView> view = node_.cluster().View();
  std::string body;
  if (view->version) AppendBytesField(body, 2, MajorMinor(*view->version));
  call.Reply(WithHeader(node_.Header(node_.store().current_revision()), std::move(body)));
}

}  // namespace kvd::server
