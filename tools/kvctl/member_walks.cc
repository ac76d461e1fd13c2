// member replace, recover: the changes that take several steps, each of them safe to be the last.
#include <filesystem>
#include <optional>
#include <system_error>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/strings.h"
#include "command.h"
#include "etcdserverpb/rpc.grpc.pb.h"
#include "go_format.h"

namespace kvd::ctl {
namespace {

using etcdserverpb::Cluster;
using etcdserverpb::Member;
using etcdserverpb::MemberListResponse;

constexpr absl::Duration kPoll = absl::Milliseconds(500);
// etcd: a member counts once it has been connected for this long; then changes that need it are let through.
constexpr absl::Duration kSettle = absl::Seconds(15);

std::string Hex(uint64_t id) {
  return base::StrCat(absl::Hex(id));
}

// What both commands do with a cluster, step by step.
class Walk {
 public:
  explicit Walk(Session& session) : session_(session) {}

  std::ostream& Say() { return session_.out() << "[" << ++step_ << "] "; }
  void Flush() { session_.out().flush(); }

  grpc::Status List(MemberListResponse* response) {
    etcdserverpb::MemberListRequest request;
    request.set_linearizable(true);
    return session_.client().Call(&Cluster::Stub::MemberList, request, response, Retry::kRead);
  }

  // The member of that name or that ID (in hexadecimal); nothing if there is none.
  static const Member* Find(const MemberListResponse& list, const std::string& which) {
    const absl::StatusOr<uint64_t> id = ParseGoHex(which);
    for (const Member& member : list.members()) {
      if (member.name() == which || (id.ok() && member.id() == *id)) return &member;
    }
    return nullptr;
  }
  static const Member* FindByUrls(const MemberListResponse& list, const std::vector<std::string>& urls) {
    for (const Member& member : list.members()) {
      for (const std::string& url : member.peerurls()) {
        if (std::find(urls.begin(), urls.end(), url) != urls.end()) return &member;
      }
    }
    return nullptr;
  }

  // An add that was not answered in time may have been made all the same: then it is found in the list.
  grpc::Status AddLearner(const std::vector<std::string>& urls, uint64_t* id) {
    etcdserverpb::MemberAddRequest request;
    for (const std::string& url : urls) request.add_peerurls(url);
    request.set_islearner(true);
    const absl::Time deadline = absl::Now() + kSettle;
    while (true) {
      etcdserverpb::MemberAddResponse response;
      grpc::Status status = UntilSettled(&Cluster::Stub::MemberAdd, request, &response);
      *id = response.member().id();
      if (status.error_code() != grpc::StatusCode::DEADLINE_EXCEEDED || absl::Now() >= deadline)
        return status;
      MemberListResponse list;
      if (!List(&list).ok()) continue;
      const Member* added = FindByUrls(list, urls);
      if (added == nullptr || !added->islearner() || !added->name().empty()) continue;
      *id = added->id();
      return grpc::Status::OK;
    }
  }
  grpc::Status Remove(uint64_t id) {
    etcdserverpb::MemberRemoveRequest request;
    request.set_id(id);
    etcdserverpb::MemberRemoveResponse response;
    return UntilSettled(&Cluster::Stub::MemberRemove, request, &response);
  }

  // Waits until the learner has started and holds what the leader holds, and makes it a voter.
  Exit Promote(uint64_t id, absl::Time deadline) {
    std::string last;
    while (true) {
      etcdserverpb::MemberPromoteRequest request;
      request.set_id(id);
      etcdserverpb::MemberPromoteResponse response;
      const grpc::Status status =
          session_.client().Call(&Cluster::Stub::MemberPromote, request, &response, Retry::kWrite);
      // With --auto-promote-learners the leader may have been faster.
      if (status.ok() || ErrorText(status) == "etcdserver: can only promote a learner member")
        return Success();
      if (const std::string text = ErrorText(status); text != last) {
        session_.out() << "    waiting: " << text << "\n";
        Flush();
        last = text;
      }
      if (status.error_code() == grpc::StatusCode::NOT_FOUND) return FailedCall(status);
      if (absl::Now() >= deadline) {
        return Fail(kExitError, base::StrCat("the new member ", Hex(id),
                                             " did not catch up in time; run the command again to go on"));
      }
      absl::SleepFor(kPoll);
    }
  }

  // How the member `id`, which has not started yet, is started.
  void ShowStart(const MemberListResponse& list, uint64_t id, const std::string& name,
                 const std::vector<std::string>& urls) {
    std::vector<std::string> cluster;
    for (const Member& member : list.members()) {
      const std::string& label = member.id() == id ? name : member.name();
      for (const std::string& url : member.peerurls()) cluster.push_back(base::StrCat(label, "=", url));
    }
    session_.out() << "    ETCD_NAME=" << Quote(name)
                   << "\n    ETCD_INITIAL_CLUSTER=" << Quote(absl::StrJoin(cluster, ","))
                   << "\n    ETCD_INITIAL_ADVERTISE_PEER_URLS=" << Quote(absl::StrJoin(urls, ","))
                   << "\n    ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n";
    Flush();
  }

 private:
  // A change is refused while members have only just connected; that passes.
  template <typename Stub, typename Request, typename Response>
  grpc::Status UntilSettled(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                            const Request& request, Response* response) {
    const absl::Time deadline = absl::Now() + kSettle;
    while (true) {
      grpc::Status status = session_.client().Call(method, request, response, Retry::kWrite);
      const bool settling = ErrorText(status) == "etcdserver: unhealthy cluster" ||
                            ErrorText(status) == "etcdserver: too many requests";
      if (status.ok() || !settling || absl::Now() >= deadline) return status;
      absl::SleepFor(kPoll);
    }
  }

  Session& session_;
  int step_ = 0;
};

std::vector<std::string> SplitUrls(const std::string& text) {
  return absl::StrSplit(text, ',', absl::SkipEmpty());
}

// A new member takes the place of an old one, which may be gone for good. The cluster never has fewer voters
// than before: the new one is added as a learner, and the old one goes once the new one votes.
class ReplaceCommand final : public Command {
 public:
  void DefineFlags(FlagSet& flags) override {
    flags.String("peer-urls", &peer_urls_, "peer URLs of the new member, separated by commas");
    flags.String("name", &name_,
                 "name of the new member, for the settings shown; default: that of the old one");
    flags.Duration("wait", &wait_, "how long to wait until the new member has caught up");
  }

  Exit Run(Session& session, const std::vector<std::string>& args) override {
    if (args.size() != 1) return Fail(kExitBadArgs, "member replace needs the name or ID of the old member");
    const std::vector<std::string> urls = SplitUrls(peer_urls_);
    if (urls.empty()) return Fail(kExitBadArgs, "member peer urls not provided");
    Walk walk(session);
    MemberListResponse list;
    if (grpc::Status status = walk.List(&list); !status.ok()) return FailedCall(status);
    const Member* old = Walk::Find(list, args[0]);
    if (old == nullptr) return Fail(kExitError, base::StrCat("there is no member ", Quote(args[0])));
    const Member* added = Walk::FindByUrls(list, urls);
    if (added == old) return Fail(kExitBadArgs, "the old member has these peer URLs; use `member recover`");
    const uint64_t old_id = old->id();
    uint64_t new_id = added == nullptr ? 0 : added->id();
    const std::string name = name_.empty() ? old->name() : name_;

    // Run again after an interruption, it goes on where it was.
    if (new_id == 0) {
      if (grpc::Status status = walk.AddLearner(urls, &new_id); !status.ok()) return FailedCall(status);
      if (grpc::Status status = walk.List(&list); !status.ok()) return FailedCall(status);
    }
    walk.Say() << "member " << Hex(new_id) << " is added as a learner; start it now, with an empty data "
               << "directory, as:\n";
    walk.ShowStart(list, new_id, name, urls);
    if (Exit exit = walk.Promote(new_id, absl::Now() + wait_); !exit.ok()) return exit;
    walk.Say() << "member " << Hex(new_id) << " has caught up and votes\n";
    walk.Flush();
    if (grpc::Status status = walk.Remove(old_id); !status.ok()) return FailedCall(status);
    walk.Say() << "member " << Hex(old_id) << " is removed\n";
    return Success();
  }

 private:
  std::string peer_urls_, name_;
  absl::Duration wait_ = absl::Minutes(10);
};

// A member whose data are lost or damaged comes back under the same name and URLs, but a new ID: under the
// old one it could vote twice.
class RecoverCommand final : public Command {
 public:
  void DefineFlags(FlagSet& flags) override {
    flags.String("peer-urls", &peer_urls_, "the member's peer URLs; default: those it has");
    flags.String("data-dir", &data_dir_, "on the member's machine: its data directory, to be moved aside");
    flags.Duration("wait", &wait_, "how long to wait until the member has caught up");
  }

  Exit Run(Session& session, const std::vector<std::string>& args) override {
    if (args.size() != 1) return Fail(kExitBadArgs, "member recover needs the name or ID of the member");
    Walk walk(session);
    MemberListResponse list;
    if (grpc::Status status = walk.List(&list); !status.ok()) return FailedCall(status);
    std::vector<std::string> urls = SplitUrls(peer_urls_);
    const Member* member = Walk::Find(list, args[0]);
    if (member == nullptr && !urls.empty()) member = Walk::FindByUrls(list, urls);
    std::string name = args[0];
    std::optional<uint64_t> id;
    if (member != nullptr) {
      if (!member->name().empty()) name = member->name();
      if (urls.empty()) urls.assign(member->peerurls().begin(), member->peerurls().end());
      if (Exit exit = RemoveOld(session, walk, *member, &id); !exit.ok()) return exit;
    } else if (urls.empty()) {
      return Fail(kExitBadArgs,
                  base::StrCat("there is no member ", Quote(args[0]), "; give its --peer-urls to add it"));
    }
    if (Exit exit = MoveAside(session, walk); !exit.ok()) return exit;
    if (!id.has_value()) {
      if (grpc::Status status = walk.AddLearner(urls, &id.emplace()); !status.ok()) return FailedCall(status);
      walk.Say() << "member " << Hex(*id) << " (" << name << ") is added as a learner\n";
    }
    if (grpc::Status status = walk.List(&list); !status.ok()) return FailedCall(status);
    walk.Say() << "start " << name << " now, with an empty data directory, as:\n";
    walk.ShowStart(list, *id, name, urls);
    if (Exit exit = walk.Promote(*id, absl::Now() + wait_); !exit.ok()) return exit;
    walk.Say() << "member " << Hex(*id) << " (" << name << ") has caught up and votes\n";
    return Success();
  }

 private:
  // Leaves a member alone that an earlier run has added and that has not voted yet; gives its ID then.
  static Exit RemoveOld(Session& session, Walk& walk, const Member& member, std::optional<uint64_t>* keep) {
    if (member.islearner() || member.name().empty()) {
      *keep = member.id();
      return Success();
    }
    for (const std::string& url : member.clienturls()) {
      etcdserverpb::StatusResponse state;
      grpc::ClientContext context;
      context.set_deadline(absl::ToChronoTime(absl::Now() + session.options().dial_timeout));
      const grpc::Status status = etcdserverpb::Maintenance::NewStub(session.client().Channel(url))
                                      ->Status(&context, etcdserverpb::StatusRequest(), &state);
      if (status.ok() && state.header().member_id() == member.id()) {
        return Fail(kExitError, base::StrCat("member ", Hex(member.id()), " (", member.name(),
                                             ") is running and answers at ", url, "; stop it first"));
      }
    }
    if (grpc::Status status = walk.Remove(member.id()); !status.ok()) return FailedCall(status);
    walk.Say() << "member " << Hex(member.id()) << " (" << member.name() << ") is removed\n";
    walk.Flush();
    return Success();
  }

  // Nothing is deleted: what is left of the data may still be wanted.
  Exit MoveAside(Session& session, Walk& walk) const {
    if (data_dir_.empty()) {
      walk.Say() << "move its data directory aside, on its own machine: mv DATA-DIR DATA-DIR.broken\n";
      walk.Flush();
      return Success();
    }
    std::error_code error;
    if (!std::filesystem::exists(data_dir_, error)) return Success();
    std::string aside = data_dir_ + ".broken";
    for (int i = 1; std::filesystem::exists(aside, error); ++i)
      aside = base::StrCat(data_dir_, ".broken.", i);
    std::filesystem::rename(data_dir_, aside, error);
    if (error) return Fail(kExitIo, base::StrCat("cannot move ", data_dir_, " aside: ", error.message()));
    walk.Say() << data_dir_ << " is moved to " << aside << "\n";
    session.out().flush();
    return Success();
  }

  std::string peer_urls_, data_dir_;
  absl::Duration wait_ = absl::Minutes(10);
};

}  // namespace

std::vector<CommandEntry> MemberWalkCommands() {
  return {
      {"member recover", "NAME", "bring a member back that has lost its data: remove, add, catch up, vote",
       [] { return std::make_unique<RecoverCommand>(); }},
      {"member replace", "OLD", "put a new member in the place of an old one: add, catch up, vote, remove",
       [] { return std::make_unique<ReplaceCommand>(); }},
  };
}

}  // namespace kvd::ctl
