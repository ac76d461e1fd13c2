// Changes of the membership: checked here, proposed as one configuration change each, answered once applied.

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/log.h"
#include "base/strings.h"
#include "server/config/config.h"
#include "server/node/node.h"

namespace kvd::server {
namespace {

constexpr std::string_view kPromotePath = "/members/promote/";
// A learner is in sync once it holds this share of the leader's log (ETCD: readyPercentThreshold).
constexpr double kLearnerReady = 0.9;
constexpr base::Nanos kPromoteTimeout = std::chrono::seconds(5);
// A member counts for a change of the membership once it has been reachable for this long (ETCD:
// HealthInterval).
constexpr base::Nanos kSettled = std::chrono::seconds(5);
constexpr base::Nanos kProposeAgain = std::chrono::milliseconds(20);
constexpr base::Nanos kPromotionInterval = std::chrono::seconds(1);

size_t QuorumOf(size_t voters) {
  return voters / 2 + 1;
}

size_t Voters(const ClusterView& view) {
  return static_cast<size_t>(std::count_if(view.members.begin(), view.members.end(),
                                           [](const auto& entry) { return !entry.second.is_learner; }));
}

Error ToMembershipError(const absl::Status& status) {
  return status.ok() ? Error::kOk : ErrorFromText(base::FromAbsl(status.message()));
}

// Why a learner may not vote yet; empty if it may.
std::string NotReady(const Member& learner, uint64_t leader, const raft::Status& status) {
  raft::Index leader_match = 0;
  raft::Index match = 0;
  for (const raft::PeerStatus& peer : status.peers) {
    if (peer.id == leader) leader_match = peer.match;
    if (peer.id == learner.id) match = peer.match;
  }
  if (match > 0 && static_cast<double>(match) >= kLearnerReady * static_cast<double>(leader_match)) return "";
  if (match == 0) {
    return base::StrCat(
        "member ", base::HexId(learner.id),
        learner.IsStarted() ? " has not been heard of by this leader yet" : " has not started");
  }
  return base::StrCat("member ", base::HexId(learner.id), " is behind by ", leader_match - match, " entries");
}

}  // namespace

void Node::ProposeChange(raft::ConfChangeType type, uint64_t id, const ConfChangeContext& context,
                         MembersCallback done) {
  raft::ConfChange change;
  change.id = ids_.Next();
  change.type = type;
  change.node = id;
  if (type != raft::ConfChangeType::kRemoveNode) change.context = ConfChangeContextToJson(context);
  proposals_.Add(change.id, Now(), [this, done = std::move(done)](ApplyOutcome&& outcome) mutable {
    done(outcome.error, cluster_.View()->Members());
  });
  TryPropose(std::move(change), Now() + RequestTimeout());
}

// Until the core takes it: it does not while another change is not applied yet, while the leadership is being
// handed over, or while there is no leader.
void Node::TryPropose(raft::ConfChange change, base::Nanos deadline) {
  driver_->ProposeConfChange(change, [this, change, deadline](raft::ProposeResult result) {
    if (result == raft::ProposeResult::kOk) return;
    const bool stopped = stopped_.load(std::memory_order_acquire);
    if (result != raft::ProposeResult::kNotMember && !stopped && Now() < deadline) {
      executors_.consensus.PostAfter(kProposeAgain,
                                     [this, change, deadline] { TryPropose(change, deadline); });
      return;
    }
    ApplyOutcome refused;
    refused.error = stopped || result == raft::ProposeResult::kNotMember ? Error::kStopped : TimeoutError();
    proposals_.Complete(change.id, std::move(refused));
  });
}

// Voters that have been reachable for a while, this member included.
size_t Node::ConnectedVoters(const ClusterView& view) const {
  size_t connected = 0;
  for (const auto& [id, member] : view.members) {
    if (member.is_learner) continue;
    std::optional<base::Nanos> since = network_.ActiveSince(id);
    if (id == member_id_ || (since && Now() - *since > kSettled)) ++connected;
  }
  return connected;
}

// ETCD: mayAddMember. The new member counts as one that is down.
Error Node::CheckAdd(const Member& member) const {
  if (!options_.strict_reconfig_check) return Error::kOk;
  if (!member.is_learner) {
    if (absl::Status allowed = cluster_.CheckAddVoter(); !allowed.ok()) return ToMembershipError(allowed);
  }
  std::shared_ptr<const ClusterView> view = cluster_.View();
  const size_t voters = Voters(*view);
  if (voters <= 1 || ConnectedVoters(*view) >= QuorumOf(voters + 1)) return Error::kOk;
  KVD_LOG(kWarn, "rejecting member add; too few members have been connected for long enough",
          {"connected", ConnectedVoters(*view)}, {"quorum", QuorumOf(voters + 1)});
  return Error::kUnhealthy;
}

// ETCD: mayRemoveMember. A member that is down may always go.
Error Node::CheckRemove(uint64_t id) const {
  std::shared_ptr<const ClusterView> view = cluster_.View();
  const Member* member = view->Find(id);
  if (!options_.strict_reconfig_check || member == nullptr || member->is_learner) return Error::kOk;
  if (absl::Status allowed = cluster_.CheckRemove(id); !allowed.ok()) return ToMembershipError(allowed);
  if (id != member_id_ && !network_.ActiveSince(id)) return Error::kOk;
  if (ConnectedVoters(*view) - 1 >= QuorumOf(Voters(*view) - 1)) return Error::kOk;
  KVD_LOG(kWarn, "rejecting member remove; too few members have been connected for long enough",
          {"connected", ConnectedVoters(*view)}, {"voters", Voters(*view)});
  return Error::kUnhealthy;
}

void Node::AddMember(const Member& member, MembersCallback done) {
  if (Error refused = CheckAdd(member); refused != Error::kOk) return done(refused, {});
  ProposeChange(member.is_learner ? raft::ConfChangeType::kAddLearnerNode : raft::ConfChangeType::kAddNode,
                member.id, {member, false}, std::move(done));
}

void Node::RemoveMember(uint64_t id, MembersCallback done) {
  if (Error refused = CheckRemove(id); refused != Error::kOk) return done(refused, {});
  if (id != driver_->leader()) {
    return ProposeChange(raft::ConfChangeType::kRemoveNode, id, {}, std::move(done));
  }
  std::shared_ptr<const ClusterView> view = cluster_.View();
  const bool votes = id != member_id_ && !is_learner();
  const uint64_t successor = votes ? member_id_ : Successor(*view, id);
  if (successor != 0) {
    KVD_LOG(kInfo, "the leader is to be removed; it hands over first", {"leader", base::HexId(id)},
            {"successor", base::HexId(successor)});
    driver_->TransferLeadership(successor, [](raft::TransferResult) {});
  }
  RemoveLeader(id, Now() + options_.heartbeat * options_.election_ticks, std::move(done));
}

// Once it leads no longer, or could not hand over in time: raft removes a leader as well.
void Node::RemoveLeader(uint64_t id, base::Nanos deadline, MembersCallback done) {
  const raft::NodeId leader = driver_->leader();
  const bool handed_over = leader != id && leader != raft::kNoNode;
  if (handed_over || Now() >= deadline || stopped_.load(std::memory_order_acquire)) {
    return ProposeChange(raft::ConfChangeType::kRemoveNode, id, {}, std::move(done));
  }
  executors_.consensus.PostAfter(kProposeAgain, [this, id, deadline, done = std::move(done)]() mutable {
    RemoveLeader(id, deadline, std::move(done));
  });
}

void Node::UpdateMember(uint64_t id, std::vector<std::string> peer_urls, MembersCallback done) {
  std::shared_ptr<const ClusterView> view = cluster_.View();
  const Member* known = view->Find(id);
  if (known == nullptr) return done(Error::kMemberNotFound, {});
  ConfChangeContext context;
  context.member.id = id;
  context.member.peer_urls = std::move(peer_urls);
  context.member.is_learner = known->is_learner;
  ProposeChange(raft::ConfChangeType::kUpdateNode, id, context, std::move(done));
}

void Node::PromoteMember(uint64_t id, PromoteCallback done) {
  if (is_leader()) return PromoteHere(id, std::move(done));
  PeerRequest request{"POST", std::string(kPromotePath) + std::to_string(id), {}, kPromoteTimeout};
  std::shared_ptr<const ClusterView> view = cluster_.View();
  const Member* leader = view->Find(driver_->leader());
  if (leader == nullptr) return done(Error::kNoLeader, {}, {});
  network_.Ask(leader->peer_urls, std::move(request),
               [this, done = std::move(done)](absl::StatusOr<PeerAnswer> answer) mutable {
                 if (!answer.ok()) return done(Error::kTimeout, {}, {});
                 if (answer->status == 200) return done(Error::kOk, {}, cluster_.View()->Members());
                 std::string_view text = answer->body;
                 while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
                 std::string why;
                 const std::string_view not_ready = ErrorText(Error::kLearnerNotReady);
                 if (text.starts_with(not_ready) && text.substr(not_ready.size()).starts_with(": ")) {
                   why = text.substr(not_ready.size() + 2);
                   text = not_ready;
                 }
                 done(ErrorFromText(text), std::move(why), {});
               });
}

// Leader only: nobody else knows how far the learner is.
void Node::PromoteHere(uint64_t id, PromoteCallback done) {
  std::shared_ptr<const ClusterView> view = cluster_.View();
  const Member* member = view->Find(id);
  if (member == nullptr) return done(Error::kMemberNotFound, {}, {});
  if (!member->is_learner) return done(Error::kMemberNotLearner, {}, {});
  driver_->GetStatus([this, learner = *member, done = std::move(done)](raft::Status status) mutable {
    if (std::string why = NotReady(learner, member_id_, status); !why.empty()) {
      return done(Error::kLearnerNotReady, std::move(why), {});
    }
    if (options_.strict_reconfig_check) {
      if (absl::Status allowed = cluster_.CheckPromote(learner.id); !allowed.ok()) {
        return done(ToMembershipError(allowed), {}, {});
      }
    }
    ConfChangeContext context;
    context.member.id = learner.id;
    context.member.peer_urls = learner.peer_urls;
    context.is_promote = true;
    ProposeChange(raft::ConfChangeType::kAddNode, learner.id, context,
                  [done = std::move(done)](Error error, std::vector<Member> members) mutable {
                    done(error, {}, std::move(members));
                  });
  });
}

// --auto-promote-learners: those that have started, as soon as they are ready.
void Node::PromoteLearners() {
  if (!options_.auto_promote_learners || !is_leader() || Now() < next_promotion_) return;
  next_promotion_ = Now() + kPromotionInterval;
  for (const Member& member : cluster_.View()->Members()) {
    if (!member.is_learner || !member.IsStarted()) continue;
    PromoteHere(member.id, [id = member.id](Error error, const std::string&, const std::vector<Member>&) {
      if (error != Error::kOk) return;
      KVD_LOG(kInfo, "a learner has caught up and votes now", {"member-id", base::HexId(id)});
    });
  }
}

void Node::ServePromote(const PeerRequest& request, Respond respond) {
  std::string_view digits = std::string_view(request.path).substr(kPromotePath.size());
  uint64_t id = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), id);
  if (request.method != "POST" || error != std::errc() || end != digits.data() + digits.size()) {
    respond({request.method != "POST" ? 405 : 400, "not the decimal ID of a member\n"});
    return;
  }
  if (!is_leader()) {
    respond({500, std::string(ErrorText(Error::kNotLeader))});
    return;
  }
  PromoteHere(
      id, [respond = std::move(respond)](Error result, std::string why, std::vector<Member> members) mutable {
        switch (result) {
          case Error::kOk:
            respond({200, MembersToJson(members)});
            return;
          case Error::kMemberNotFound:
            respond({404, std::string(ErrorText(result))});
            return;
          case Error::kMemberNotLearner:
          case Error::kLearnerNotReady:
            respond({412, why.empty() ? std::string(ErrorText(result))
                                      : base::StrCat(ErrorText(result), ": ", why)});
            return;
          default:
            respond({500, std::string(ErrorText(result))});
            return;
        }
      });
}

}  // namespace kvd::server
