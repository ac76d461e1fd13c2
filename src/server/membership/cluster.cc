#include "server/membership/cluster.h"

#include <algorithm>
#include <boost/property_tree/ptree.hpp>

#include "base/check.h"
#include "base/log.h"
#include "base/strings.h"
#include "server/membership/json.h"

namespace kvd::server {
namespace {

constexpr std::string_view kVersionKey = "clusterVersion";
constexpr std::string_view kDowngradeKey = "downgrade";
constexpr std::string_view kRemovedValue = "removed";

// The statuses that clients get.
absl::Status NotFound() {
  return absl::NotFoundError("etcdserver: member not found");
}
absl::Status IdExists() {
  return absl::FailedPreconditionError("etcdserver: member ID already exist");
}
absl::Status PeerUrlExists() {
  return absl::FailedPreconditionError("etcdserver: Peer URLs already exists");
}
absl::Status NotLearner() {
  return absl::FailedPreconditionError("etcdserver: can only promote a learner member");
}
absl::Status TooManyLearners() {
  return absl::FailedPreconditionError("etcdserver: too many learner members in cluster");
}
absl::Status NotEnoughStarted() {
  return absl::FailedPreconditionError(
      "etcdserver: re-configuration failed due to not enough started members");
}

absl::Status BadRow(std::string_view table, std::string_view key, const absl::Status& why) {
  return absl::DataLossError(
      base::StrCat("the table ", table, " has an unreadable row \"", key, "\": ", why.message()));
}

// Whether a member other than `id` has one of these URLs.
bool UsesPeerUrl(const std::map<uint64_t, Member>& members, uint64_t id,
                 const std::vector<std::string>& urls) {
  for (const auto& [other, member] : members) {
    if (other == id) continue;
    for (const std::string& url : member.peer_urls) {
      if (std::find(urls.begin(), urls.end(), url) != urls.end()) return true;
    }
  }
  return false;
}

struct Voters {
  int all = 0;
  int started = 0;
};
Voters CountVoters(const ClusterView& view, uint64_t without) {
  Voters voters;
  for (const auto& [id, member] : view.members) {
    if (member.is_learner || id == without) continue;
    ++voters.all;
    if (member.IsStarted()) ++voters.started;
  }
  return voters;
}

absl::Status CheckStarted(const Voters& voters, const char* what) {
  const int quorum = voters.all / 2 + 1;
  if (voters.started >= quorum) return absl::OkStatus();
  KVD_LOG(kWarn, what, {"number-of-started-member", voters.started}, {"quorum", quorum});
  return NotEnoughStarted();
}

std::string DowngradeToJson(const DowngradeInfo& info) {
  std::string out = "{\"target-version\":";
  json_internal::AppendString(&out, info.target_version);
  base::StrAppend(&out, ",\"enabled\":", info.enabled ? "true" : "false", "}");
  return out;
}

absl::StatusOr<DowngradeInfo> DowngradeFromJson(std::string_view json) {
  auto tree = json_internal::Parse(json);
  if (!tree.ok()) return tree.status();
  return DowngradeInfo{tree->get<std::string>("enabled", "") == "true",
                       tree->get<std::string>("target-version", "")};
}

}  // namespace

std::vector<Member> ClusterView::Members() const {
  std::vector<Member> list;
  list.reserve(members.size());
  for (const auto& [id, member] : members) list.push_back(member);
  return list;
}

const Member* ClusterView::Find(uint64_t id) const {
  auto it = members.find(id);
  return it == members.end() ? nullptr : &it->second;
}

bool ClusterView::IsLocalLearner() const {
  const Member* member = Find(local_id);
  return member != nullptr && member->is_learner;
}

std::vector<std::string> ClusterView::ClientUrls() const {
  std::vector<std::string> urls;
  for (const auto& [id, member] : members)
    urls.insert(urls.end(), member.client_urls.begin(), member.client_urls.end());
  std::sort(urls.begin(), urls.end());
  return urls;
}

std::vector<std::string> ClusterView::PeerUrls() const {
  std::vector<std::string> urls;
  for (const auto& [id, member] : members)
    urls.insert(urls.end(), member.peer_urls.begin(), member.peer_urls.end());
  std::sort(urls.begin(), urls.end());
  return urls;
}

Cluster::Cluster(Options options) : options_(options), view_(std::make_shared<const ClusterView>()) {}

std::shared_ptr<const ClusterView> Cluster::View() const {
  base::MutexLock lock(mutex_);
  return view_;
}

uint64_t Cluster::local_id() const {
  return View()->local_id;
}
uint64_t Cluster::cluster_id() const {
  return View()->cluster_id;
}

void Cluster::Publish(ClusterView next) {
  auto view = std::make_shared<const ClusterView>(std::move(next));
  base::MutexLock lock(mutex_);
  view_ = std::move(view);
}

void Cluster::Save(const Member& member, MemberStore& store) {
  store.Put(ClusterTable::kMembers, base::HexId(member.id), MemberToJson(member));
}

absl::Status Cluster::CheckChange(ChangeType type, uint64_t node_id, std::string_view context_json) const {
  base::MutexLock lock(mutex_);
  if (view_->removed.count(node_id) != 0) return NotFound();
  auto it = stored_.find(node_id);
  const Member* present = it == stored_.end() ? nullptr : &it->second;
  if (type == ChangeType::kRemoveNode) return present == nullptr ? NotFound() : absl::OkStatus();
  if (type == ChangeType::kUpdateNode && present == nullptr) return NotFound();

  auto context = ConfChangeContextFromJson(context_json);
  if (!context.ok()) return context.status();
  const Member& member = context->member;
  if (type == ChangeType::kUpdateNode) {
    return UsesPeerUrl(stored_, node_id, member.peer_urls) ? PeerUrlExists() : absl::OkStatus();
  }
  if (context->is_promote) {
    if (present == nullptr) return NotFound();
    return present->is_learner ? absl::OkStatus() : NotLearner();
  }
  if (present != nullptr) return IdExists();
  if (UsesPeerUrl(stored_, node_id, member.peer_urls)) return PeerUrlExists();
  if (member.is_learner && type == ChangeType::kAddLearnerNode) {
    int64_t learners = 1;
    for (const auto& [id, other] : stored_) learners += other.is_learner ? 1 : 0;
    if (learners > options_.max_learners) return TooManyLearners();
  }
  return absl::OkStatus();
}

absl::Status Cluster::CheckAddVoter() const {
  Voters voters = CountVoters(*View(), 0);
  ++voters.all;
  // A second member for a single one is how a lost cluster is built up again.
  if (voters.started == 1 && voters.all == 2) return absl::OkStatus();
  return CheckStarted(voters, "rejecting member add; started member will be less than quorum");
}

absl::Status Cluster::CheckPromote(uint64_t id) const {
  std::shared_ptr<const ClusterView> view = View();
  const Member* member = view->Find(id);
  if (member == nullptr) return NotFound();
  if (!member->is_learner) return NotLearner();
  Voters voters = CountVoters(*view, 0);
  ++voters.all;
  ++voters.started;
  return CheckStarted(voters, "rejecting member promote; started member will be less than quorum");
}

absl::Status Cluster::CheckRemove(uint64_t id) const {
  std::shared_ptr<const ClusterView> view = View();
  const Member* member = view->Find(id);
  if (member != nullptr && member->is_learner) return absl::OkStatus();
  return CheckStarted(CountVoters(*view, id),
                      "rejecting member remove; started member will be less than quorum");
}

void Cluster::SetIds(uint64_t local_id, uint64_t cluster_id) {
  ClusterView next = *View();
  next.local_id = local_id;
  next.cluster_id = cluster_id;
  Publish(std::move(next));
}

void Cluster::SetBootstrapMembers(absl::Span<const Member> members) {
  ClusterView next = *View();
  for (const Member& member : members) next.members[member.id] = member;
  Publish(std::move(next));
}

absl::Status Cluster::Load(const TableRows& members, const TableRows& removed, const TableRows& cluster) {
  std::map<uint64_t, Member> stored;
  ClusterView next = *View();
  for (const auto& [key, value] : members) {
    auto id = ParseHexId(key);
    if (!id.ok()) return BadRow("members", key, id.status());
    auto member = MemberFromJson(value);
    if (!member.ok()) return BadRow("members", key, member.status());
    if (member->id != *id) return BadRow("members", key, absl::DataLossError("its value has another id"));
    stored[*id] = *std::move(member);
  }
  next.removed.clear();
  for (const auto& [key, value] : removed) {
    auto id = ParseHexId(key);
    if (!id.ok()) return BadRow("members_removed", key, id.status());
    next.removed.insert(*id);
  }
  next.version.reset();
  next.downgrade = DowngradeInfo();
  for (const auto& [key, value] : cluster) {
    if (key == kVersionKey) {
      auto version = ParseVersion(value);
      if (!version.ok()) return BadRow("cluster", key, version.status());
      next.version = *version;
    } else if (key == kDowngradeKey) {
      auto info = DowngradeFromJson(value);
      if (!info.ok()) return BadRow("cluster", key, info.status());
      next.downgrade = *std::move(info);
    }
  }
  if (!stored.empty()) next.members = stored;
  for (uint64_t id : next.removed) next.members.erase(id);
  {
    base::MutexLock lock(mutex_);
    stored_ = std::move(stored);
  }
  Publish(std::move(next));
  return absl::OkStatus();
}

absl::Status Cluster::Apply(ChangeType type, uint64_t node_id, std::string_view context_json,
                            MemberStore& store) {
  if (absl::Status status = CheckChange(type, node_id, context_json); !status.ok()) return status;
  ClusterView next = *View();
  std::map<uint64_t, Member> stored;
  {
    base::MutexLock lock(mutex_);
    stored = stored_;
  }
  if (type == ChangeType::kRemoveNode) {
    stored.erase(node_id);
    next.members.erase(node_id);
    next.removed.insert(node_id);
    store.Delete(ClusterTable::kMembers, base::HexId(node_id));
    store.Put(ClusterTable::kMembersRemoved, base::HexId(node_id), kRemovedValue);
    KVD_LOG(kInfo, "removed member", {"cluster-id", base::HexId(next.cluster_id)},
            {"local-member-id", base::HexId(next.local_id)},
            {"removed-remote-peer-id", base::HexId(node_id)});
  } else {
    auto context = ConfChangeContextFromJson(context_json);
    KVD_CHECK(context.ok(), "CheckChange has read the context");
    Member member = context->member;
    member.id = node_id;
    if (auto it = stored.find(node_id); it != stored.end()) {
      // A promotion or new peer URLs; what the member has published of itself stays.
      Member changed = it->second;
      if (context->is_promote) {
        changed.is_learner = false;
      } else {
        changed.peer_urls = member.peer_urls;
      }
      member = std::move(changed);
    }
    const char* what = type == ChangeType::kUpdateNode ? "updated member"
                       : context->is_promote           ? "promote member"
                                                       : "added member";
    Save(member, store);
    KVD_LOG(kInfo, what, {"cluster-id", base::HexId(next.cluster_id)},
            {"local-member-id", base::HexId(next.local_id)}, {"peer-id", base::HexId(node_id)},
            {"peer-urls", member.peer_urls}, {"is-learner", member.is_learner});
    stored[node_id] = member;
    next.members[node_id] = std::move(member);
  }
  {
    base::MutexLock lock(mutex_);
    stored_ = std::move(stored);
  }
  Publish(std::move(next));
  return absl::OkStatus();
}

absl::Status Cluster::SetAttributes(uint64_t id, const MemberAttributes& attributes, MemberStore& store) {
  ClusterView next = *View();
  auto it = next.members.find(id);
  if (it == next.members.end()) {
    if (next.removed.count(id) == 0) return NotFound();
    KVD_LOG(kWarn, "skipped attributes update of removed member", {"updated-peer-id", base::HexId(id)});
    return absl::OkStatus();
  }
  it->second.name = attributes.name;
  it->second.client_urls = attributes.client_urls;
  Save(it->second, store);
  {
    base::MutexLock lock(mutex_);
    stored_[id] = it->second;
  }
  Publish(std::move(next));
  return absl::OkStatus();
}

void Cluster::SetVersion(const Version& version, MemberStore& store) {
  ClusterView next = *View();
  if (next.version) {
    KVD_LOG(kInfo, "updated cluster version", {"cluster-id", base::HexId(next.cluster_id)},
            {"local-member-id", base::HexId(next.local_id)}, {"from", next.version->ToString()},
            {"to", version.ToString()});
  } else {
    KVD_LOG(kInfo, "set initial cluster version", {"cluster-id", base::HexId(next.cluster_id)},
            {"local-member-id", base::HexId(next.local_id)}, {"cluster-version", version.ToString()});
  }
  next.version = version;
  store.Put(ClusterTable::kCluster, kVersionKey, version.ToString());
  Publish(std::move(next));
}

void Cluster::SetDowngrade(const DowngradeInfo& info, MemberStore& store) {
  ClusterView next = *View();
  next.downgrade = info;
  store.Put(ClusterTable::kCluster, kDowngradeKey, DowngradeToJson(info));
  Publish(std::move(next));
}

}  // namespace kvd::server
