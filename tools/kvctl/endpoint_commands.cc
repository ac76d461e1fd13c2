// endpoint health, status, hashkv.
#include <memory>

#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/strings.h"
#include "command.h"
#include "endpoint_command.h"
#include "etcdserverpb/rpc.grpc.pb.h"

namespace kvd::ctl {
namespace {

using etcdserverpb::KV;
using etcdserverpb::Maintenance;

// Each endpoint serves a linearizable read, all of them asked at once, and has no alarm.
class HealthCommand final : public EndpointCommand {
 public:
  Exit Run(Session& session, const std::vector<std::string>&) override {
    std::vector<std::string> endpoints;
    if (Exit exit = Endpoints(session, &endpoints); !exit.ok()) return exit;
    std::vector<EndpointHealth> list = Probe(session.client(), endpoints);
    bool all_healthy = true;
    for (EndpointHealth& health : list) {
      if (health.healthy) CheckAlarms(session.client(), &health);
      all_healthy = all_healthy && health.healthy;
      if (!health.healthy && session.options().write_out == "simple") {
        session.err() << health.endpoint << " is unhealthy: failed to commit proposal: " << health.error
                      << "\n";
      }
    }
    if (Exit exit = session.printer().Health(list); !exit.ok()) return exit;
    return all_healthy ? Success() : Fail(kExitError, "unhealthy cluster");
  }

 private:
  struct Question {
    std::string endpoint;
    std::unique_ptr<KV::Stub> stub;
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientAsyncResponseReader<etcdserverpb::RangeResponse>> call;
    etcdserverpb::RangeResponse response;
    grpc::Status status;
  };

  // In the order of the answers.
  static std::vector<EndpointHealth> Probe(Client& client, const std::vector<std::string>& endpoints) {
    etcdserverpb::RangeRequest request;
    request.set_key("health");
    grpc::CompletionQueue answers;
    std::vector<std::unique_ptr<Question>> questions;
    const absl::Time start = absl::Now();
    for (const std::string& endpoint : endpoints) {
      Question& question = *questions.emplace_back(std::make_unique<Question>());
      question.endpoint = endpoint;
      question.stub = KV::NewStub(client.Channel(endpoint));
      client.PrepareWaiting(question.context);
      question.call = question.stub->AsyncRange(&question.context, request, &answers);
      question.call->Finish(&question.response, &question.status, &question);
    }
    std::vector<EndpointHealth> list;
    void* tag = nullptr;
    bool ok = false;
    while (list.size() < questions.size() && answers.Next(&tag, &ok)) {
      const auto& question = *static_cast<Question*>(tag);
      EndpointHealth health;
      health.endpoint = question.endpoint;
      health.took = absl::Now() - start;
      // A key that may not be read was looked at by a quorum all the same.
      health.healthy =
          question.status.ok() || question.status.error_code() == grpc::StatusCode::PERMISSION_DENIED;
      if (!health.healthy) health.error = ErrorText(question.status);
      list.push_back(std::move(health));
    }
    answers.Shutdown();
    return list;
  }

  static void CheckAlarms(Client& client, EndpointHealth* health) {
    etcdserverpb::AlarmRequest request;
    request.set_action(etcdserverpb::AlarmRequest::GET);
    etcdserverpb::AlarmResponse response;
    const grpc::Status status =
        client.CallEndpoint(health->endpoint, &Maintenance::Stub::Alarm, request, &response);
    if (status.error_code() == grpc::StatusCode::PERMISSION_DENIED) return;
    if (!status.ok()) {
      health->error = "Unable to fetch the alarm list";
    } else if (response.alarms_size() > 0) {
      health->error = base::StrCat(
          "Active Alarm(s): ", absl::StrJoin(response.alarms(), " ", [](std::string* to, const auto& alarm) {
            to->append(etcdserverpb::AlarmType_Name(alarm.alarm()));
          }));
    }
    health->healthy = health->error.empty();
  }
};

class StatusCommand final : public EndpointCommand {
 public:
  Exit Run(Session& session, const std::vector<std::string>&) override {
    std::vector<std::string> endpoints;
    if (Exit exit = Endpoints(session, &endpoints); !exit.ok()) return exit;
    std::vector<EndpointStatus> list;
    Exit result = Success();
    for (const std::string& endpoint : endpoints) {
      EndpointStatus entry{endpoint, {}};
      const grpc::Status status = session.client().CallEndpoint(
          endpoint, &Maintenance::Stub::Status, etcdserverpb::StatusRequest(), &entry.response);
      if (status.ok()) {
        list.push_back(std::move(entry));
        continue;
      }
      result = Fail(kExitError, "");
      session.err() << "Failed to get the status of endpoint " << endpoint << " (" << ErrorText(status)
                    << ")\n";
    }
    if (Exit exit = session.printer().Status(list); !exit.ok()) return exit;
    return result;
  }
};

class HashKvCommand final : public EndpointCommand {
 public:
  void DefineFlags(FlagSet& flags) override {
    EndpointCommand::DefineFlags(flags);
    flags.Int64("rev", &revision_, "last revision to cover; 0: all");
  }

  Exit Run(Session& session, const std::vector<std::string>&) override {
    std::vector<std::string> endpoints;
    if (Exit exit = Endpoints(session, &endpoints); !exit.ok()) return exit;
    etcdserverpb::HashKVRequest request;
    request.set_revision(revision_);
    std::vector<EndpointHashKv> list;
    Exit result = Success();
    for (const std::string& endpoint : endpoints) {
      EndpointHashKv entry{endpoint, {}};
      const grpc::Status status =
          session.client().CallEndpoint(endpoint, &Maintenance::Stub::HashKV, request, &entry.response);
      if (status.ok()) {
        list.push_back(std::move(entry));
        continue;
      }
      result = FailedCall(status);
      session.err() << "Failed to get the hash of endpoint " << endpoint << " (" << ErrorText(status)
                    << ")\n";
    }
    if (Exit exit = session.printer().HashKv(list); !exit.ok()) return exit;
    return result;
  }

 private:
  int64_t revision_ = 0;
};

}  // namespace

void EndpointCommand::DefineFlags(FlagSet& flags) {
  flags.Bool("cluster", &cluster_, "all client addresses of the members, not --endpoints");
}

Exit EndpointCommand::Endpoints(Session& session, std::vector<std::string>* endpoints) const {
  if (!cluster_) {
    *endpoints = session.client().endpoints();
    return Success();
  }
  etcdserverpb::MemberListResponse response;
  const grpc::Status status = session.client().Call(
      &etcdserverpb::Cluster::Stub::MemberList, etcdserverpb::MemberListRequest(), &response, Retry::kRead);
  if (!status.ok()) {
    return Fail(kExitError,
                base::StrCat("failed to fetch endpoints from etcd cluster member list: ", ErrorText(status)));
  }
  for (const auto& member : response.members()) {
    endpoints->insert(endpoints->end(), member.clienturls().begin(), member.clienturls().end());
  }
  return Success();
}

std::vector<CommandEntry> EndpointCommands() {
  return {
      {"endpoint hashkv", "", "show the hash of each endpoint's keys",
       [] { return std::make_unique<HashKvCommand>(); }},
      {"endpoint health", "", "check each endpoint", [] { return std::make_unique<HealthCommand>(); }},
      {"endpoint status", "", "show the state of each endpoint",
       [] { return std::make_unique<StatusCommand>(); }},
  };
}

}  // namespace kvd::ctl
