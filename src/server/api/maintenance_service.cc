// etcdserverpb.Maintenance.

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/file_system.h"
#include "base/log.h"
#include "base/strings.h"
#include "etcdserverpb/rpc.pb.h"
#include "net/grpc_server.h"
#include "server/api/services.h"
#include "server/config/config.h"
#include "storage/store.h"

namespace kvd::server {
namespace {

// What etcd calls the quota where none was set.
constexpr int64_t kDefaultQuota = int64_t{2} << 30;

}  // namespace

void Services::RegisterMaintenance(net::FrontDoor& door) {
  door.RegisterUnary("/etcdserverpb.Maintenance/Alarm",
                     [this](net::UnaryCall call) { Alarm(std::move(call)); });
  door.RegisterUnary("/etcdserverpb.Maintenance/Status",
                     [this](net::UnaryCall call) { MemberStatus(std::move(call)); });
  door.RegisterUnary("/etcdserverpb.Maintenance/HashKV",
                     [this](net::UnaryCall call) { HashKv(std::move(call)); });
  door.RegisterUnary("/etcdserverpb.Maintenance/Defragment",
                     [this](net::UnaryCall call) { Defragment(std::move(call)); });
  door.RegisterUnary("/etcdserverpb.Maintenance/MoveLeader",
                     [this](net::UnaryCall call) { MoveLeader(std::move(call)); });
  door.RegisterUnary("/etcdserverpb.Maintenance/Downgrade",
                     [this](net::UnaryCall call) { Downgrade(std::move(call)); });
}

void Services::Alarm(net::UnaryCall call) {
  etcdserverpb::AlarmRequest request;
  if (!Parse(call.request(), &request)) return FailMalformed(call);
  if (!Admit(call)) return;
  std::string_view bytes = call.request();
  node_.Propose(RequestField::kAlarm, bytes, [this, call](ApplyOutcome&& outcome) {
    if (outcome.error != Error::kOk) return Fail(call, outcome.error);
    call.Reply(WithHeader(node_.Header(0), std::move(outcome.body)));
  });
}

void Services::MemberStatus(net::UnaryCall call) {
  if (!Admit(call, /*learner_may=*/true)) return;
  RaftDriver::State raft = node_.driver().state();
  etcdserverpb::StatusResponse status;
  status.set_version(std::string(kEtcdVersion));
  status.set_dbsize(static_cast<int64_t>(node_.store().size_bytes()));
  status.set_leader(raft.leader);
  status.set_raftindex(raft.commit);
  status.set_raftterm(raft.term);
  status.set_raftappliedindex(node_.applier().applied_index());
  if (raft.leader == raft::kNoNode) status.add_errors(std::string(ErrorText(Error::kNoLeader)));
  for (const Alarms::Alarm& alarm : node_.alarms().List(AlarmType::kNone)) {
    status.add_errors(
        absl::StrCat("memberID:", alarm.member, " alarm:", base::ToAbsl(AlarmName(alarm.type)), " "));
  }
  status.set_dbsizeinuse(static_cast<int64_t>(node_.store().size_in_use_bytes()));
  status.set_islearner(node_.is_learner());
  std::shared_ptr<const ClusterView> view = node_.cluster().View();
  if (view->version) status.set_storageversion(std::string(kEtcdClusterVersion));
  status.set_dbsizequota(node_.options().quota_bytes > 0 ? node_.options().quota_bytes : kDefaultQuota);
  status.mutable_downgradeinfo()->set_enabled(view->downgrade.enabled);
  status.mutable_downgradeinfo()->set_targetversion(view->downgrade.target_version);
  call.Reply(WithHeader(node_.Header(node_.store().current_revision()), status.SerializeAsString()));
}

void Services::HashKv(net::UnaryCall call) {
  etcdserverpb::HashKVRequest request;
  if (!Parse(call.request(), &request)) return FailMalformed(call);
  if (!Admit(call)) return;
  int64_t revision = request.revision();
  // It reads the whole history: not on a thread that serves others.
  node_.bulk().Post([this, call, revision] {
    storage::HashResult hash = node_.store().HashKv(revision);
    if (hash.error != storage::StoreError::kNone) return Fail(call, ToError(hash.error));
    std::string body;
    AppendUint64Field(body, 2, hash.hash);
    AppendInt64Field(body, 3, hash.compact_revision);
    AppendInt64Field(body, 4, hash.hash_revision);
    call.Reply(WithHeader(node_.Header(hash.current_revision), std::move(body)));
  });
}

// Space comes back by itself; this only asks for it to be soon.
void Services::Defragment(net::UnaryCall call) {
  if (!Admit(call)) return;
  KVD_LOG(kInfo, "starting to defragment", {"note", "the backend compacts in the background"});
  node_.store().HintCompaction(node_.bulk());
  call.Reply(std::string());
}

void Services::MoveLeader(net::UnaryCall call) {
  etcdserverpb::MoveLeaderRequest request;
  if (!Parse(call.request(), &request)) return FailMalformed(call);
  if (!Admit(call)) return;
  node_.MoveLeader(request.targetid(), [call](Error error) {
    if (error != Error::kOk) return Fail(call, error);
    call.Reply(std::string());
  });
}

}  // namespace kvd::server
