// One member of a cluster, its ID, and the JSON that etcd keeps and sends it as: in the `members` table, in
// the context of a configuration change, and at GET /members.
//
// Thread-safety: values and functions of their arguments.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace kvd::server {

struct Member {
  uint64_t id = 0;
  std::vector<std::string> peer_urls;
  bool is_learner = false;
  // Known once the member has started and has published itself.
  std::string name;
  std::vector<std::string> client_urls;

  bool IsStarted() const { return !name.empty(); }
  friend bool operator==(const Member&, const Member&) = default;
};

// The ID of a member of a new cluster: a hash of its peer URLs (any order) and the cluster's token.
uint64_t BootstrapMemberId(std::vector<std::string> peer_urls, std::string_view token);
// The ID of a member added to a running cluster: a hash of its peer URLs (any order) and the time.
uint64_t RuntimeMemberId(std::vector<std::string> peer_urls, int64_t unix_seconds);
// The ID of a cluster: a hash of its first members' IDs (any order).
uint64_t ClusterIdOf(std::vector<uint64_t> member_ids);

// {"id":<number>,"peerURLs":[…],"isLearner":true,"name":"…","clientURLs":[…]}; what is empty but id and
// peerURLs is left out.
std::string MemberToJson(const Member& member);
// Errors: kInvalidArgument for what is not JSON, or has no usable id.
absl::StatusOr<Member> MemberFromJson(std::string_view json);
// [member,…], the body of GET /members.
std::string MembersToJson(absl::Span<const Member> members);
absl::StatusOr<std::vector<Member>> MembersFromJson(std::string_view json);

// What a configuration change carries beside its type and node.
struct ConfChangeContext {
  Member member;
  bool is_promote = false;  // an "add" that turns a learner into a voter
};
std::string ConfChangeContextToJson(const ConfChangeContext& context);
absl::StatusOr<ConfChangeContext> ConfChangeContextFromJson(std::string_view json);

// Name and client URLs as older cluster versions replicate them: {"name":"…","clientURLs":[…]}.
struct MemberAttributes {
  std::string name;
  std::vector<std::string> client_urls;
  friend bool operator==(const MemberAttributes&, const MemberAttributes&) = default;
};
std::string MemberAttributesToJson(const MemberAttributes& attributes);
absl::StatusOr<MemberAttributes> MemberAttributesFromJson(std::string_view json);
// The key of the store of etcd's v2 API that these attributes are put under ("/0/members/<hex
// id>/attributes"), and back. Errors: kInvalidArgument for any other key.
std::string MemberAttributesKey(uint64_t id);
absl::StatusOr<uint64_t> MemberIdFromAttributesKey(std::string_view key);

// {"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}, as GET /version says it.
struct VersionReply {
  std::string server;
  std::string cluster;  // "not_decided" until the leader has decided
  std::string storage;  // empty from members older than 3.6
};
std::string VersionReplyToJson(const VersionReply& reply);
absl::StatusOr<VersionReply> VersionReplyFromJson(std::string_view json);

// "8e9e05c52164694d" as the tables' keys and the log have it; not padded. Errors: kInvalidArgument.
absl::StatusOr<uint64_t> ParseHexId(std::string_view text);

}  // namespace kvd::server
