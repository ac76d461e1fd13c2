// move-leader, defrag: what is asked of one member rather than of the cluster.
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/strings.h"
#include "command.h"
#include "endpoint_command.h"
#include "etcdserverpb/rpc.grpc.pb.h"
#include "go_format.h"

namespace kvd::ctl {
namespace {

using etcdserverpb::Maintenance;

class MoveLeaderCommand final : public Command {
 public:
  Exit Run(Session& session, const std::vector<std::string>& args) override {
    if (args.size() != 1) return Fail(kExitBadArgs, "move-leader command needs 1 argument");
    const absl::StatusOr<uint64_t> target = ParseGoHex(args[0]);
    if (!target.ok()) return Fail(kExitBadArgs, std::string(target.status().message()));
    const std::vector<std::string>& endpoints = session.client().endpoints();
    for (const std::string& endpoint : endpoints) {
      etcdserverpb::StatusResponse state;
      const grpc::Status status = session.client().CallEndpoint(endpoint, &Maintenance::Stub::Status,
                                                                etcdserverpb::StatusRequest(), &state);
      if (!status.ok()) return FailedCall(status);
      if (state.header().member_id() == state.leader())
        return Move(session, endpoint, state.leader(), *target);
    }
    return Fail(kExitBadArgs,
                base::StrCat("no leader endpoint given at [", absl::StrJoin(endpoints, " "), "]"));
  }

 private:
  static Exit Move(Session& session, const std::string& endpoint, uint64_t from, uint64_t to) {
    etcdserverpb::MoveLeaderRequest request;
    request.set_targetid(to);
    etcdserverpb::MoveLeaderResponse response;
    const grpc::Status status =
        session.client().CallEndpoint(endpoint, &Maintenance::Stub::MoveLeader, request, &response);
    return status.ok() ? session.printer().MoveLeader(from, to, response) : FailedCall(status);
  }
};

class DefragCommand final : public EndpointCommand {
 public:
  Exit Run(Session& session, const std::vector<std::string>&) override {
    std::vector<std::string> endpoints;
    if (Exit exit = Endpoints(session, &endpoints); !exit.ok()) return exit;
    Exit result = Success();
    for (const std::string& endpoint : endpoints) {
      const absl::Time start = absl::Now();
      etcdserverpb::DefragmentResponse response;
      const grpc::Status status = session.client().CallEndpoint(endpoint, &Maintenance::Stub::Defragment,
                                                                etcdserverpb::DefragmentRequest(), &response);
      const std::string took = GoDuration(absl::Now() - start);
      if (status.ok()) {
        session.out() << "Finished defragmenting etcd member[" << endpoint << "]. took " << took << "\n";
        continue;
      }
      session.err() << "Failed to defragment etcd member[" << endpoint << "]. took " << took << ". ("
                    << ErrorText(status) << ")\n";
      result = Fail(kExitError, "");
    }
    return result;
  }
};

}  // namespace

std::vector<CommandEntry> LeaderCommands() {
  return {
      {"defrag", "", "give back the space of what was deleted",
       [] { return std::make_unique<DefragCommand>(); }},
      {"move-leader", "ID", "hand the leadership to another member",
       [] { return std::make_unique<MoveLeaderCommand>(); }},
  };
}

}  // namespace kvd::ctl
