// What members ask of one another on the peer port, and the version of the cluster that the leader makes of
// it.

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/strings.h"
#include "membershippb/membership.pb.h"
#include "server/config/config.h"
#include "server/node/node.h"
#include "storage/store.h"

namespace kvd::server {
namespace {

constexpr base::Nanos kVersionInterval = std::chrono::seconds(4);
constexpr base::Nanos kVersionTimeout = std::chrono::seconds(1);

// {"revision":N}, as etcd's corruption check asks for a hash; 0 if it is not said.
absl::StatusOr<int64_t> HashRevision(std::string_view json) {
  if (json.empty()) return 0;
  try {  // JSON is YAML; the library reports what is not by throwing
    YAML::Node node = YAML::Load(std::string(json));
    return node["revision"] ? node["revision"].as<int64_t>() : 0;
  } catch (const YAML::Exception&) {
    return absl::InvalidArgumentError("not a request");
  }
}

}  // namespace

std::string VersionJson(const ClusterView& view) {
  VersionReply reply;
  reply.server = std::string(kEtcdVersion);
  reply.cluster = view.version ? view.version->ToString() : "not_decided";
  reply.storage = view.version ? std::string(kEtcdClusterVersion) : "unknown";
  return VersionReplyToJson(reply);
}

struct Node::MemberVersions {
  std::mutex mutex;
  size_t unanswered = 0;
  bool all_known = true;
  Version lowest = ServerVersion();
};

void Node::OnRequest(const PeerRequest& request, Respond respond) {
  if (request.path.starts_with("/members/promote/")) return ServePromote(request, std::move(respond));
  if (request.path == "/members/hashkv") return ServeHashKv(request, std::move(respond));
  if (request.path == "/leases" || request.path == "/leases/internal") {
    if (request.method != "POST") {
      respond({405, "Method Not Allowed\n"});
    } else if (request.path == "/leases") {
      ServeLeaseRenew(request, std::move(respond));
    } else {
      ServeLeaseTimeToLive(request, std::move(respond));
    }
    return;
  }
  if (request.method != "GET" && request.method != "HEAD") {
    respond({405, "Method Not Allowed\n"});
  } else if (request.path == "/members") {
    respond({200, absl::StrCat(MembersToJson(cluster_.View()->Members()), "\n")});
  } else if (request.path == "/version") {
    respond({200, VersionJson(*cluster_.View())});
  } else if (request.path == "/downgrade/enabled") {
    respond({200, cluster_.View()->downgrade.enabled ? "true" : "false"});
  } else {
    respond({404, "404 page not found\n"});
  }
}

// One member that sits on foreign data must not stop the others, so it takes most of them, and nobody who
// knows this one.
void Node::OnClusterMismatch(uint64_t by) {
  executors_.background.Post([this, by] {
    std::shared_ptr<const ClusterView> view = cluster_.View();
    if (has_leader() || view->Find(by) == nullptr || !other_cluster_.insert(by).second) return;
    const size_t others = view->members.size() - view->members.count(member_id_);
    for (const auto& [id, member] : view->members) {
      if (id != member_id_ && network_.ActiveSince(id)) return;
    }
    if (other_cluster_.size() <= others / 2 || !events_.on_failed) return;
    events_.on_failed(
        absl::StrCat("the other members belong to another cluster than the data of this member (",
                     base::HexId(cluster_id_), "), which are those of member ", base::HexId(member_id_),
                     ": --data-dir is wrong, or it is left from an earlier cluster"));
  });
}

void Node::ServeHashKv(const PeerRequest& request, Respond respond) {
  absl::StatusOr<int64_t> revision = HashRevision(request.body);
  if (!revision.ok()) {
    respond({400, "error unmarshalling request\n"});
    return;
  }
  executors_.bulk.Post([this, revision = *revision, respond = std::move(respond)]() mutable {
    storage::HashResult hash = store_->HashKv(revision);
    if (hash.error != storage::StoreError::kNone) {
      respond({400, std::string(ErrorText(ToError(hash.error)))});
      return;
    }
    respond({200, absl::StrCat("{\"header\":{\"cluster_id\":", cluster_id_, ",\"member_id\":", member_id_,
                               ",\"revision\":", hash.current_revision, ",\"raft_term\":", term(),
                               "},\"hash\":", hash.hash, ",\"compact_revision\":", hash.compact_revision,
                               ",\"hash_revision\":", hash.hash_revision, "}")});
  });
}

// The leader raises the version of the cluster to that of its oldest member, once all have told theirs.
void Node::MonitorVersion() {
  if (!is_leader() || Now() < next_version_check_) return;
  next_version_check_ = Now() + kVersionInterval;
  auto versions = std::make_shared<MemberVersions>();
  std::vector<Member> others;
  for (Member& member : cluster_.View()->Members()) {
    if (member.id != member_id_) others.push_back(std::move(member));
  }
  versions->unanswered = others.size();
  if (others.empty()) return DecideVersion(*versions);
  for (Member& member : others) {
    network_.Ask(member.peer_urls, {"GET", "/version", {}, kVersionTimeout},
                 [this, versions](absl::StatusOr<PeerAnswer> answer) {
                   std::lock_guard<std::mutex> lock(versions->mutex);
                   absl::StatusOr<Version> version = absl::UnavailableError("the member did not answer");
                   if (answer.ok()) {
                     absl::StatusOr<VersionReply> reply = VersionReplyFromJson(answer->body);
                     if (reply.ok()) version = ParseVersion(reply->server);
                   }
                   if (version.ok()) {
                     versions->lowest = std::min(versions->lowest, *version);
                   } else {
                     versions->all_known = false;
                   }
                   if (--versions->unanswered == 0) DecideVersion(*versions);
                 });
  }
}

void Node::DecideVersion(const MemberVersions& versions) {
  std::optional<Version> current = cluster_.View()->version;
  Version decided = versions.all_known ? versions.lowest.Cluster() : kMinClusterVersion;
  if (current && decided <= *current) return;
  membershippb::ClusterVersionSetRequest request;
  request.set_ver(decided.ToString());
  ProposeOwn(RequestField::kClusterVersionSet, request.SerializeAsString(), std::nullopt,
             [](ApplyOutcome&&) {});
}

}  // namespace kvd::server
