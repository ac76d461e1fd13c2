// member add, list, promote, remove, update.
#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/strings.h"
#include "command.h"
#include "etcdserverpb/rpc.grpc.pb.h"
#include "go_format.h"
#include "server/config/url.h"

namespace kvd::ctl {
namespace {

using etcdserverpb::Cluster;

Exit ParseMemberId(const std::string& text, uint64_t* id) {
  const absl::StatusOr<uint64_t> parsed = ParseGoHex(text);
  if (!parsed.ok()) {
    return Fail(kExitBadArgs,
                base::StrCat("bad member ID arg (", parsed.status().message(), "), expecting ID in Hex"));
  }
  *id = *parsed;
  return Success();
}

// Checked before anybody is asked, as etcd's clients do.
template <typename Request>
Exit SetPeerUrls(const std::string& text, Request* request) {
  if (text.empty()) return Fail(kExitBadArgs, "member peer urls not provided");
  const std::vector<std::string> urls = absl::StrSplit(text, ',');
  if (const auto parsed = server::ParseUrls(urls); !parsed.ok()) {
    return Fail(kExitError, std::string(parsed.status().message()));
  }
  for (const std::string& url : urls) request->add_peerurls(url);
  return Success();
}

// The one argument of most of these commands.
Exit OneMemberId(const std::vector<std::string>& args, uint64_t* id) {
  if (args.size() != 1) return Fail(kExitBadArgs, "member ID is not provided");
  return ParseMemberId(args[0], id);
}

class AddCommand final : public Command {
 public:
  void DefineFlags(FlagSet& flags) override {
    flags.String("peer-urls", &peer_urls_, "peer URLs of the new member, separated by commas");
    flags.Bool("learner", &learner_, "add it as a learner, which does not vote");
  }

  Exit Run(Session& session, const std::vector<std::string>& args) override {
    if (args.empty()) return Fail(kExitBadArgs, "member name not provided");
    if (args.size() > 1) {
      std::string text = "too many arguments";
      for (const std::string& arg : args) {
        if (absl::AsciiStrToLower(arg).starts_with("http")) {
          base::StrAppend(&text, ", did you mean --peer-urls=", arg);
        }
      }
      return Fail(kExitBadArgs, text);
    }
    etcdserverpb::MemberAddRequest request;
    if (Exit exit = SetPeerUrls(peer_urls_, &request); !exit.ok()) return exit;
    request.set_islearner(learner_);
    etcdserverpb::MemberAddResponse response;
    const grpc::Status status =
        session.client().Call(&Cluster::Stub::MemberAdd, request, &response, Retry::kWrite);
    if (!status.ok()) return FailedCall(status);
    if (Exit exit = session.printer().MemberAdd(response); !exit.ok()) return exit;
    if (session.options().write_out == "simple") ShowSettings(session, args[0], response);
    return Success();
  }

 private:
  // What the new member is to be started with.
  void ShowSettings(Session& session, const std::string& name,
                    const etcdserverpb::MemberAddResponse& response) const {
    std::vector<std::string> cluster;
    for (const auto& member : response.members()) {
      const std::string& label = member.id() == response.member().id() ? name : member.name();
      for (const std::string& url : member.peerurls()) cluster.push_back(base::StrCat(label, "=", url));
    }
    session.out() << "\nETCD_NAME=" << Quote(name)
                  << "\nETCD_INITIAL_CLUSTER=" << Quote(absl::StrJoin(cluster, ","))
                  << "\nETCD_INITIAL_ADVERTISE_PEER_URLS=" << Quote(peer_urls_)
                  << "\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n";
  }

  std::string peer_urls_;
  bool learner_ = false;
};

class RemoveCommand final : public Command {
 public:
  Exit Run(Session& session, const std::vector<std::string>& args) override {
    uint64_t id = 0;
    if (Exit exit = OneMemberId(args, &id); !exit.ok()) return exit;
    etcdserverpb::MemberRemoveRequest request;
    request.set_id(id);
    etcdserverpb::MemberRemoveResponse response;
    const grpc::Status status =
        session.client().Call(&Cluster::Stub::MemberRemove, request, &response, Retry::kWrite);
    return status.ok() ? session.printer().MemberRemove(id, response) : FailedCall(status);
  }
};

class UpdateCommand final : public Command {
 public:
  void DefineFlags(FlagSet& flags) override {
    flags.String("peer-urls", &peer_urls_, "the member's new peer URLs, separated by commas");
  }

  Exit Run(Session& session, const std::vector<std::string>& args) override {
    uint64_t id = 0;
    if (Exit exit = OneMemberId(args, &id); !exit.ok()) return exit;
    etcdserverpb::MemberUpdateRequest request;
    if (Exit exit = SetPeerUrls(peer_urls_, &request); !exit.ok()) return exit;
    request.set_id(id);
    etcdserverpb::MemberUpdateResponse response;
    const grpc::Status status =
        session.client().Call(&Cluster::Stub::MemberUpdate, request, &response, Retry::kWrite);
    return status.ok() ? session.printer().MemberUpdate(id, response) : FailedCall(status);
  }

 private:
  std::string peer_urls_;
};

class PromoteCommand final : public Command {
 public:
  Exit Run(Session& session, const std::vector<std::string>& args) override {
    uint64_t id = 0;
    if (Exit exit = OneMemberId(args, &id); !exit.ok()) return exit;
    etcdserverpb::MemberPromoteRequest request;
    request.set_id(id);
    etcdserverpb::MemberPromoteResponse response;
    const grpc::Status status =
        session.client().Call(&Cluster::Stub::MemberPromote, request, &response, Retry::kWrite);
    return status.ok() ? session.printer().MemberPromote(id, response) : FailedCall(status);
  }
};

class ListCommand final : public Command {
 public:
  void DefineFlags(FlagSet& flags) override {
    flags.String("consistency", &consistency_, "linearizable (l) or serializable (s)");
  }

  Exit Run(Session& session, const std::vector<std::string>&) override {
    if (consistency_ != "l" && consistency_ != "s") {
      return Fail(kExitBadFeature, base::StrCat("unknown consistency flag ", Quote(consistency_)));
    }
    etcdserverpb::MemberListRequest request;
    request.set_linearizable(consistency_ == "l");
    etcdserverpb::MemberListResponse response;
    const grpc::Status status =
        session.client().Call(&Cluster::Stub::MemberList, request, &response, Retry::kRead);
    return status.ok() ? session.printer().MemberList(response) : FailedCall(status);
  }

 private:
  std::string consistency_ = "l";
};

}  // namespace

std::vector<CommandEntry> MemberCommands() {
  return {
      {"member add", "NAME", "add a member", [] { return std::make_unique<AddCommand>(); }},
      {"member list", "", "show the members", [] { return std::make_unique<ListCommand>(); }},
      {"member promote", "ID", "let a learner vote", [] { return std::make_unique<PromoteCommand>(); }},
      {"member remove", "ID", "remove a member", [] { return std::make_unique<RemoveCommand>(); }},
      {"member update", "ID", "change the peer URLs of a member",
       [] { return std::make_unique<UpdateCommand>(); }},
  };
}

}  // namespace kvd::ctl
