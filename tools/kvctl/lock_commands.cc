// lock, elect.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

#include "absl/time/clock.h"
#include "base/strings.h"
#include "command.h"
#include "etcdserverpb/rpc.grpc.pb.h"
#include "lease_session.h"
#include "v3electionpb/v3election.grpc.pb.h"
#include "v3lockpb/v3lock.grpc.pb.h"

namespace kvd::ctl {
namespace {

using etcdserverpb::KV;
using v3electionpb::Election;
using v3lockpb::Lock;

constexpr absl::Duration kStep = absl::Milliseconds(100);

// A call without a deadline that a signal, or the loss of the lease, cancels.
template <typename F>
grpc::Status Blocking(Session& session, StopSignals& signals, const LeaseSession* lease, F call) {
  const auto channel = session.client().Connect(absl::Now() + session.options().command_timeout);
  if (!channel.ok()) return {grpc::StatusCode::DEADLINE_EXCEEDED, "context deadline exceeded"};
  grpc::ClientContext context;
  if (absl::Status status = session.client().Prepare(context); !status.ok()) {
    return {grpc::StatusCode::UNAUTHENTICATED, std::string(status.message())};
  }
  grpc::Status status;
  std::atomic<bool> done{false};
  std::thread caller([&] {
    status = call(*channel, context);
    done.store(true, std::memory_order_release);
  });
  while (!done.load(std::memory_order_acquire)) {
    if (signals.Wait(kStep) || (lease != nullptr && lease->expired())) context.TryCancel();
  }
  caller.join();
  if (status.error_code() == grpc::StatusCode::CANCELLED)
    return {grpc::StatusCode::CANCELLED, "context canceled"};
  return status;
}

std::string Reason(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::CANCELLED ? "context canceled" : ErrorText(status);
}

// Shows the key that the member has made; gone if there is none.
Exit ShowKey(Session& session, const std::string& key, const std::string& gone) {
  etcdserverpb::RangeRequest request;
  request.set_key(key);
  etcdserverpb::RangeResponse response;
  const grpc::Status status = session.client().Call(&KV::Stub::Range, request, &response, Retry::kRead);
  if (!status.ok()) return FailedCall(status);
  if (response.kvs_size() == 0) return Fail(kExitError, gone);
  Exit exit = session.printer().Get(response);
  session.out().flush();
  return exit;
}

// True when a signal has come, false when the lease is lost.
bool WaitForEnd(StopSignals& signals, const LeaseSession& lease) {
  while (!lease.expired()) {
    if (signals.Wait(kStep)) return true;
  }
  return false;
}

class LockCommand final : public Command {
 public:
  void DefineFlags(FlagSet& flags) override {
    flags.Int64("ttl", &ttl_, "seconds that the lock outlives this program");
  }

  Exit Run(Session& session, const std::vector<std::string>& args) override {
    if (args.empty()) {
      return Fail(kExitBadArgs, "lock takes a lock name argument and an optional command to execute");
    }
    StopSignals signals;
    const auto lease = LeaseSession::Open(session.options(), ttl_);
    if (!lease.ok()) return Fail(kExitError, std::string(lease.status().message()));
    v3lockpb::LockRequest request;
    request.set_name(args[0]);
    request.set_lease((*lease)->id());
    v3lockpb::LockResponse held;
    const grpc::Status status =
        Blocking(session, signals, lease->get(), [&](const auto& channel, grpc::ClientContext& context) {
          return Lock::NewStub(channel)->Lock(&context, request, &held);
        });
    if (!status.ok()) return Fail(kExitError, Reason(status));
    if (args.size() > 1) {
      Exit ran = RunHolding({args.begin() + 1, args.end()}, held);
      Exit unlocked = Unlock(session, held.key());
      return ran.ok() ? unlocked : ran;
    }
    if (Exit shown = ShowKey(session, held.key(), "lock lost on init"); !shown.ok()) return shown;
    if (!WaitForEnd(signals, **lease)) return Fail(kExitError, "session expired");
    return Unlock(session, held.key());
  }

 private:
  static Exit Unlock(Session& session, const std::string& key) {
    v3lockpb::UnlockRequest request;
    request.set_key(key);
    v3lockpb::UnlockResponse response;
    const grpc::Status status = session.client().Call(&Lock::Stub::Unlock, request, &response, Retry::kWrite);
    return status.ok() ? Success() : FailedCall(status);
  }

  static Exit RunHolding(const std::vector<std::string>& words, const v3lockpb::LockResponse& held) {
    std::vector<char*> argv;
    argv.reserve(words.size() + 1);
    for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    const std::string revision = base::StrCat(held.header().revision());
    const pid_t child = fork();
    if (child == 0) {
      StopSignals::Restore();
      setenv("ETCD_LOCK_KEY", held.key().c_str(), 1);
      setenv("ETCD_LOCK_REV", revision.c_str(), 1);
      execvp(argv[0], argv.data());
      _exit(127);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child)
      return Fail(kExitError, "the command was not started");
    if (status == 0) return Success();
    if (WIFSIGNALED(status)) return Fail(kExitError, base::StrCat("signal: ", WTERMSIG(status)));
    return Fail(WEXITSTATUS(status), base::StrCat("exit status ", WEXITSTATUS(status)));
  }

  int64_t ttl_ = 10;
};

class ElectCommand final : public Command {
 public:
  void DefineFlags(FlagSet& flags) override {
    flags.Bool("listen", &listen_, "show who is elected, without taking part", 'l');
    flags.Int64("ttl", &ttl_, "seconds that the leadership outlives this program");
  }

  Exit Run(Session& session, const std::vector<std::string>& args) override {
    if (args.size() != 1 && args.size() != 2) {
      return Fail(kExitBadArgs, "elect takes one election name argument and an optional proposal argument");
    }
    if (args.size() == 1) {
      return listen_ ? Observe(session, args[0]) : Fail(kExitBadArgs, "no proposal argument but -l not set");
    }
    return listen_ ? Fail(kExitBadArgs, "proposal given but -l is set") : Campaign(session, args[0], args[1]);
  }

 private:
  static Exit Observe(Session& session, const std::string& name) {
    StopSignals signals;
    v3electionpb::LeaderRequest request;
    request.set_name(name);
    const grpc::Status status =
        Blocking(session, signals, nullptr, [&](const auto& channel, grpc::ClientContext& context) {
          const auto stream = Election::NewStub(channel)->Observe(&context, request);
          for (v3electionpb::LeaderResponse leader; stream->Read(&leader);) {
            etcdserverpb::RangeResponse shown;
            *shown.mutable_header() = leader.header();
            *shown.add_kvs() = leader.kv();
            if (!session.printer().Get(shown).ok()) context.TryCancel();
            session.out().flush();
          }
          return stream->Finish();
        });
    // Ended by a signal, it has done what it was asked for.
    if (status.error_code() == grpc::StatusCode::CANCELLED) return Success();
    return Fail(kExitError, "elect: observer lost");
  }

  Exit Campaign(Session& session, const std::string& name, const std::string& value) const {
    StopSignals signals;
    const auto lease = LeaseSession::Open(session.options(), ttl_);
    if (!lease.ok()) return Fail(kExitError, std::string(lease.status().message()));
    v3electionpb::CampaignRequest request;
    request.set_name(name);
    request.set_lease((*lease)->id());
    request.set_value(value);
    v3electionpb::CampaignResponse elected;
    const grpc::Status status =
        Blocking(session, signals, lease->get(), [&](const auto& channel, grpc::ClientContext& context) {
          return Election::NewStub(channel)->Campaign(&context, request, &elected);
        });
    if (!status.ok()) return Fail(kExitError, Reason(status));
    if (Exit shown = ShowKey(session, elected.leader().key(), "elect: session expired"); !shown.ok()) {
      return shown;
    }
    if (!WaitForEnd(signals, **lease)) return Fail(kExitError, "elect: session expired");
    v3electionpb::ResignRequest resign;
    *resign.mutable_leader() = elected.leader();
    v3electionpb::ResignResponse resigned;
    const grpc::Status done =
        session.client().Call(&Election::Stub::Resign, resign, &resigned, Retry::kWrite);
    return done.ok() ? Success() : FailedCall(done);
  }

  bool listen_ = false;
  int64_t ttl_ = 10;
};

}  // namespace

std::vector<CommandEntry> LockCommands() {
  return {
      {"elect", "NAME [VALUE]", "campaign to lead, or watch who leads",
       [] { return std::make_unique<ElectCommand>(); }},
      {"lock", "NAME [COMMAND...]", "hold a lock, perhaps while a command runs",
       [] { return std::make_unique<LockCommand>(); }},
  };
}

}  // namespace kvd::ctl
