// put, get, del, compaction.
#include "absl/time/clock.h"
#include "base/strings.h"
#include "command.h"
#include "etcdserverpb/rpc.grpc.pb.h"
#include "go_format.h"
#include "kv_requests.h"

namespace kvd::ctl {
namespace {

using etcdserverpb::KV;

class PutCommand final : public Command {
 public:
  void DefineFlags(FlagSet& flags) override { words_.DefineFlags(flags); }

  Exit Run(Session& session, const std::vector<std::string>& args) override {
    etcdserverpb::PutRequest request;
    if (Exit exit = words_.Build(args, session.in(), &request); !exit.ok()) return exit;
    etcdserverpb::PutResponse response;
    const grpc::Status status = session.client().Call(&KV::Stub::Put, request, &response, Retry::kWrite);
    return status.ok() ? session.printer().Put(response) : FailedCall(status);
  }

 private:
  PutWords words_;
};

class GetCommand final : public Command {
 public:
  void DefineFlags(FlagSet& flags) override { words_.DefineFlags(flags); }

  Exit Run(Session& session, const std::vector<std::string>& args) override {
    etcdserverpb::RangeRequest request;
    if (Exit exit = words_.Build(args, &request); !exit.ok()) return exit;
    etcdserverpb::RangeResponse response;
    const grpc::Status status =
        words_.stream() ? Stream(session.client(), request, &response)
                        : session.client().Call(&KV::Stub::Range, request, &response, Retry::kRead);
    if (!status.ok()) return FailedCall(status);
    if (words_.count_only() && session.options().write_out != "fields") {
      return Fail(kExitBadArgs, "--count-only is only for `--write-out=fields`");
    }
    if (!words_.print_value_only()) return session.printer().Get(response);
    if (session.options().write_out != "simple") {
      return Fail(kExitBadArgs, "print-value-only is only for `--write-out=simple`");
    }
    return session.MakePrinterWith({.hex = session.options().hex, .values_only = true})->Get(response);
  }

 private:
  static grpc::Status Stream(Client& client, const etcdserverpb::RangeRequest& request,
                             etcdserverpb::RangeResponse* response) {
    grpc::ClientContext context;
    client.PrepareWaiting(context);
    const auto channel = client.Connect(absl::FromChrono(context.deadline()));
    if (!channel.ok()) return {grpc::StatusCode::DEADLINE_EXCEEDED, "context deadline exceeded"};
    const auto reader = KV::NewStub(*channel)->RangeStream(&context, request);
    etcdserverpb::RangeStreamResponse chunk;
    while (reader->Read(&chunk)) response->MergeFrom(chunk.range_response());
    return reader->Finish();
  }

  GetWords words_;
};

class DelCommand final : public Command {
 public:
  void DefineFlags(FlagSet& flags) override { words_.DefineFlags(flags); }

  Exit Run(Session& session, const std::vector<std::string>& args) override {
    etcdserverpb::DeleteRangeRequest request;
    if (Exit exit = words_.Build(args, &request); !exit.ok()) return exit;
    if (args.size() > 1 && !words_.range()) {
      session.err() << "Warning: Keys between " << Quote(args[0]) << " and " << Quote(args[1])
                    << " will be deleted. Please interrupt the command within next 2 seconds to cancel. "
                       "You can provide `--range` flag to avoid the delay.\n";
      absl::SleepFor(absl::Seconds(2));
    }
    etcdserverpb::DeleteRangeResponse response;
    const grpc::Status status =
        session.client().Call(&KV::Stub::DeleteRange, request, &response, Retry::kWrite);
    return status.ok() ? session.printer().Del(response) : FailedCall(status);
  }

 private:
  DelWords words_;
};

class CompactionCommand final : public Command {
 public:
  void DefineFlags(FlagSet& flags) override {
    flags.Bool("physical", &physical_, "wait until every member has given up the old revisions");
  }

  Exit Run(Session& session, const std::vector<std::string>& args) override {
    if (args.size() != 1) return Fail(kExitBadArgs, "compaction command needs 1 argument");
    const absl::StatusOr<int64_t> revision = ParseGoInt(args[0], 10);
    if (!revision.ok()) return Fail(kExitError, std::string(revision.status().message()));
    etcdserverpb::CompactionRequest request;
    request.set_revision(*revision);
    request.set_physical(physical_);
    etcdserverpb::CompactionResponse response;
    const grpc::Status status = session.client().Call(&KV::Stub::Compact, request, &response, Retry::kWrite);
    if (!status.ok()) return FailedCall(status);
    session.out() << "compacted revision " << *revision << "\n";
    return Success();
  }

 private:
  bool physical_ = false;
};

}  // namespace

std::vector<CommandEntry> KvCommands() {
  return {
      {"compaction", "REVISION", "forget the revisions up to this one",
       [] { return std::make_unique<CompactionCommand>(); }},
      {"del", "KEY [RANGE_END]", "delete a key or an interval of keys",
       [] { return std::make_unique<DelCommand>(); }},
      {"get", "KEY [RANGE_END]", "show a key or an interval of keys",
       [] { return std::make_unique<GetCommand>(); }},
      {"put", "KEY [VALUE]", "set a key; the value may come from stdin",
       [] { return std::make_unique<PutCommand>(); }},
  };
}

}  // namespace kvd::ctl
