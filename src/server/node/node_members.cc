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

Error ToMembershipError(const absl::Status& status) {
  return status.ok() ? Error::kOk : ErrorFromText(base::FromAbsl(status.message()));
}

Error ToError(raft::ProposeResult result) {
  switch (result) {
    case raft::ProposeResult::kOk:
      return Error::kOk;
    case raft::ProposeResult::kNoLeader:
    case raft::ProposeResult::kNotLeader:
      return Error::kNoLeader;
    case raft::ProposeResult::kTransferring:
      return Error::kLeaderChanged;
    case raft::ProposeResult::kTooMuchUncommitted:
    case raft::ProposeResult::kConfChangePending:
      return Error::kTooManyRequests;
    case raft::ProposeResult::kNotMember:
      return Error::kStopped;
  }
  return Error::kInternal;
}

}  // namespace

void Node::ProposeChange(raft::ConfChangeType type, uint64_t id, const ConfChangeContext& context,
                         MembersCallback done) {
  raft::ConfChange change;
  change.id = ids_.Next();
  change.type = type;
  change.node = id;
  if (type != raft::ConfChangeType::kRemoveNode) change.context = ConfChangeContextToJson(context);
  uint64_t request = change.id;
  proposals_.Add(request, Now(), [this, done = std::move(done)](ApplyOutcome&& outcome) mutable {
    done(outcome.error, cluster_.View()->Members());
  });
  driver_->ProposeConfChange(std::move(change), [this, request](raft::ProposeResult result) {
    if (result == raft::ProposeResult::kOk) return;
    ApplyOutcome refused;
    refused.error = ToError(result);
    proposals_.Complete(request, std::move(refused));
  });
}

void Node::AddMember(const Member& member, MembersCallback done) {
  if (options_.strict_reconfig_check) {
    if (!member.is_learner) {
      if (absl::Status allowed = cluster_.CheckAddVoter(); !allowed.ok()) {
        return done(ToMembershipError(allowed), {});
      }
    }
    if (!QuorumActive()) return done(Error::kUnhealthy, {});
  }
  ProposeChange(member.is_learner ? raft::ConfChangeType::kAddLearnerNode : raft::ConfChangeType::kAddNode,
                member.id, {member, false}, std::move(done));
}

void Node::RemoveMember(uint64_t id, MembersCallback done) {
  if (options_.strict_reconfig_check) {
    if (absl::Status allowed = cluster_.CheckRemove(id); !allowed.ok()) {
      return done(ToMembershipError(allowed), {});
    }
  }
  ProposeChange(raft::ConfChangeType::kRemoveNode, id, {}, std::move(done));
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

bool Node::LearnerIsReady(uint64_t id, const raft::Status& status) const {
  raft::Index leader_match = 0;
  raft::Index learner_match = 0;
  for (const raft::PeerStatus& peer : status.peers) {
    if (peer.id == member_id_) leader_match = peer.match;
    if (peer.id == id) learner_match = peer.match;
  }
  return static_cast<double>(learner_match) >= kLearnerReady * static_cast<double>(leader_match) &&
         learner_match > 0;
}

void Node::PromoteMember(uint64_t id, MembersCallback done) {
  if (is_leader()) return PromoteHere(id, std::move(done));
  PeerRequest request{"POST", std::string(kPromotePath) + std::to_string(id), {}, kPromoteTimeout};
  std::shared_ptr<const ClusterView> view = cluster_.View();
  const Member* leader = view->Find(driver_->leader());
  if (leader == nullptr) return done(Error::kNoLeader, {});
  network_.Ask(leader->peer_urls, std::move(request),
               [this, done = std::move(done)](absl::StatusOr<PeerAnswer> answer) mutable {
                 if (!answer.ok()) return done(Error::kTimeout, {});
                 if (answer->status == 200) return done(Error::kOk, cluster_.View()->Members());
                 std::string_view text = answer->body;
                 while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
                 Error error = ErrorFromText(text);
                 done(error, {});
               });
}

// Leader only: nobody else knows how far the learner is.
void Node::PromoteHere(uint64_t id, MembersCallback done) {
  std::shared_ptr<const ClusterView> view = cluster_.View();
  const Member* member = view->Find(id);
  if (member == nullptr) return done(Error::kMemberNotFound, {});
  if (!member->is_learner) return done(Error::kMemberNotLearner, {});
  Member promoted = *member;
  driver_->GetStatus([this, id, promoted, done = std::move(done)](raft::Status status) mutable {
    if (!LearnerIsReady(id, status)) return done(Error::kLearnerNotReady, {});
    if (options_.strict_reconfig_check) {
      if (absl::Status allowed = cluster_.CheckPromote(id); !allowed.ok()) {
        return done(ToMembershipError(allowed), {});
      }
    }
    ConfChangeContext context;
    context.member.id = id;
    context.member.peer_urls = promoted.peer_urls;
    context.is_promote = true;
    ProposeChange(raft::ConfChangeType::kAddNode, id, context, std::move(done));
  });
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
  PromoteHere(id, [respond = std::move(respond)](Error result, std::vector<Member> members) mutable {
    switch (result) {
      case Error::kOk:
        respond({200, MembersToJson(members)});
        return;
      case Error::kMemberNotFound:
        respond({404, std::string(ErrorText(result))});
        return;
      case Error::kMemberNotLearner:
      case Error::kLearnerNotReady:
        respond({412, std::string(ErrorText(result))});
        return;
      default:
        respond({500, std::string(ErrorText(result))});
        return;
    }
  });
}

}  // namespace kvd::server
