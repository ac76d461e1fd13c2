// alarm list and disarm.
#include "base/strings.h"
#include "command.h"
#include "etcdserverpb/rpc.grpc.pb.h"

namespace kvd::ctl {
namespace {

using etcdserverpb::AlarmRequest;
using etcdserverpb::AlarmResponse;
using etcdserverpb::Maintenance;

grpc::Status ListAlarms(Client& client, AlarmResponse* response) {
  AlarmRequest request;
  request.set_action(AlarmRequest::GET);
  return client.Call(&Maintenance::Stub::Alarm, request, response, Retry::kRead);
}

class AlarmListCommand final : public Command {
 public:
  Exit Run(Session& session, const std::vector<std::string>& args) override {
    if (!args.empty()) return Fail(kExitBadArgs, "alarm list command accepts no arguments");
    AlarmResponse response;
    const grpc::Status status = ListAlarms(session.client(), &response);
    return status.ok() ? session.printer().Alarm(response) : FailedCall(status);
  }
};

// Disarms every alarm that is raised and shows those.
class AlarmDisarmCommand final : public Command {
 public:
  Exit Run(Session& session, const std::vector<std::string>& args) override {
    if (!args.empty()) return Fail(kExitBadArgs, "alarm disarm command accepts no arguments");
    AlarmResponse raised, disarmed;
    grpc::Status status = ListAlarms(session.client(), &raised);
    for (const auto& alarm : raised.alarms()) {
      if (!status.ok()) break;
      AlarmRequest request;
      request.set_action(AlarmRequest::DEACTIVATE);
      request.set_memberid(alarm.memberid());
      request.set_alarm(alarm.alarm());
      AlarmResponse response;
      status = session.client().Call(&Maintenance::Stub::Alarm, request, &response, Retry::kWrite);
      disarmed.mutable_alarms()->MergeFrom(response.alarms());
    }
    return status.ok() ? session.printer().Alarm(disarmed) : FailedCall(status);
  }
};

}  // namespace

std::vector<CommandEntry> AlarmCommands() {
  return {
      {"alarm disarm", "", "clear the alarms", [] { return std::make_unique<AlarmDisarmCommand>(); }},
      {"alarm list", "", "show the alarms", [] { return std::make_unique<AlarmListCommand>(); }},
  };
}

}  // namespace kvd::ctl
