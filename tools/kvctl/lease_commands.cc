// lease grant, revoke, timetolive, list, keep-alive.
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/strings.h"
#include "command.h"
#include "etcdserverpb/rpc.grpc.pb.h"
#include "kv_requests.h"
#include "lease_session.h"

namespace kvd::ctl {
namespace {

using etcdserverpb::Lease;

class GrantCommand final : public Command {
 public:
  Exit Run(Session& session, const std::vector<std::string>& args) override {
    if (args.size() != 1) return Fail(kExitBadArgs, "lease grant command needs TTL argument");
    const absl::StatusOr<int64_t> ttl = ParseGoInt(args[0], 10);
    if (!ttl.ok()) return Fail(kExitBadArgs, base::StrCat("bad TTL (", ttl.status().message(), ")"));
    etcdserverpb::LeaseGrantRequest request;
    request.set_ttl(*ttl);
    etcdserverpb::LeaseGrantResponse response;
    const grpc::Status status =
        session.client().Call(&Lease::Stub::LeaseGrant, request, &response, Retry::kWrite);
    if (!status.ok())
      return Fail(kExitError, base::StrCat("failed to grant lease (", ErrorText(status), ")"));
    return session.printer().Grant(response);
  }
};

class RevokeCommand final : public Command {
 public:
  Exit Run(Session& session, const std::vector<std::string>& args) override {
    if (args.size() != 1) return Fail(kExitBadArgs, "lease revoke command needs 1 argument");
    int64_t id = 0;
    if (Exit exit = ParseLease(args[0], "lease ID arg", &id); !exit.ok()) return exit;
    etcdserverpb::LeaseRevokeRequest request;
    request.set_id(id);
    etcdserverpb::LeaseRevokeResponse response;
    const grpc::Status status =
        session.client().Call(&Lease::Stub::LeaseRevoke, request, &response, Retry::kWrite);
    if (!status.ok())
      return Fail(kExitError, base::StrCat("failed to revoke lease (", ErrorText(status), ")"));
    return session.printer().Revoke(id, response);
  }
};

class TimeToLiveCommand final : public Command {
 public:
  void DefineFlags(FlagSet& flags) override { flags.Bool("keys", &keys_, "show the keys of the lease"); }

  Exit Run(Session& session, const std::vector<std::string>& args) override {
    if (args.size() != 1) return Fail(kExitBadArgs, "lease timetolive command needs lease ID as argument");
    int64_t id = 0;
    if (Exit exit = ParseLease(args[0], "lease ID arg", &id); !exit.ok()) return exit;
    etcdserverpb::LeaseTimeToLiveRequest request;
    request.set_id(id);
    request.set_keys(keys_);
    etcdserverpb::LeaseTimeToLiveResponse response;
    const grpc::Status status =
        session.client().Call(&Lease::Stub::LeaseTimeToLive, request, &response, Retry::kRead);
    if (!status.ok()) return FailedCall(status, kExitBadConnection);
    return session.printer().TimeToLive(response, keys_);
  }

 private:
  bool keys_ = false;
};

class ListCommand final : public Command {
 public:
  Exit Run(Session& session, const std::vector<std::string>&) override {
    etcdserverpb::LeaseLeasesResponse response;
    const grpc::Status status = session.client().Call(
        &Lease::Stub::LeaseLeases, etcdserverpb::LeaseLeasesRequest(), &response, Retry::kRead);
    if (!status.ok()) return FailedCall(status, kExitBadConnection);
    return session.printer().Leases(response);
  }
};

class KeepAliveCommand final : public Command {
 public:
  void DefineFlags(FlagSet& flags) override { flags.Bool("once", &once_, "renew once and end"); }

  Exit Run(Session& session, const std::vector<std::string>& args) override {
    if (args.size() != 1) return Fail(kExitBadArgs, "lease keep-alive command needs lease ID as argument");
    int64_t id = 0;
    if (Exit exit = ParseLease(args[0], "lease ID arg", &id); !exit.ok()) return exit;
    return once_ ? Once(session, id) : Forever(session, id);
  }

 private:
  static Exit Once(Session& session, int64_t id) {
    etcdserverpb::LeaseKeepAliveResponse response;
    const grpc::Status status =
        RenewLease(session.client(), absl::Now() + session.options().command_timeout, id, &response);
    if (!status.ok()) return FailedCall(status, kExitBadConnection);
    if (response.ttl() <= 0) return Fail(kExitBadConnection, "etcdserver: requested lease not found");
    return session.printer().KeepAlive(response);
  }

  // Until the lease is gone, or could not be renewed for as long as it lives.
  static Exit Forever(Session& session, int64_t id) {
    absl::Time expiry = absl::Now() + session.options().command_timeout;
    while (absl::Now() < expiry) {
      etcdserverpb::LeaseKeepAliveResponse response;
      const grpc::Status status = RenewLease(session.client(), expiry, id, &response);
      if (!status.ok()) {
        absl::SleepFor(absl::Milliseconds(500));
        continue;
      }
      if (response.ttl() <= 0) break;
      if (Exit exit = session.printer().KeepAlive(response); !exit.ok()) return exit;
      session.out().flush();
      expiry = absl::Now() + absl::Seconds(response.ttl());
      absl::SleepFor(absl::Seconds(response.ttl()) / 3);
    }
    if (session.options().write_out == "simple") {
      session.out() << absl::StrFormat("lease %016x expired or revoked.\n", id);
    }
    return Success();
  }

  bool once_ = false;
};

}  // namespace

std::vector<CommandEntry> LeaseCommands() {
  return {
      {"lease grant", "TTL", "make a lease of so many seconds",
       [] { return std::make_unique<GrantCommand>(); }},
      {"lease keep-alive", "ID", "renew a lease until it ends",
       [] { return std::make_unique<KeepAliveCommand>(); }},
      {"lease list", "", "show the IDs of the leases", [] { return std::make_unique<ListCommand>(); }},
      {"lease revoke", "ID", "end a lease and delete its keys",
       [] { return std::make_unique<RevokeCommand>(); }},
      {"lease timetolive", "ID", "show a lease", [] { return std::make_unique<TimeToLiveCommand>(); }},
  };
}

}  // namespace kvd::ctl
