// The members of the cluster as this member knows them: those that applied configuration changes have made,
// kept in storage's tables `members`, `members_removed` and `cluster` in etcd's form.
//
// Thread-safety: thread-safe. Reads may come from any thread at any time; what changes the cluster is called
// by the apply thread only (REQUIRES), so a reader sees each change whole. Errors: the statuses of Check* are
// those that clients get, code and text ("etcdserver: member not found").
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "server/membership/member.h"
#include "server/membership/version.h"

namespace kvd::server {

// Storage's tables that hold a cluster.
enum class ClusterTable { kMembers, kMembersRemoved, kCluster };

// Where a change is written: the batch of the entry that is being applied.
class MemberStore {
 public:
  virtual ~MemberStore() = default;
  virtual void Put(ClusterTable table, std::string_view key, std::string_view value) = 0;
  virtual void Delete(ClusterTable table, std::string_view key) = 0;
};

// The rows of the tables, to start from.
using TableRows = std::vector<std::pair<std::string, std::string>>;

// As raftpb.ConfChangeType counts them.
enum class ChangeType { kAddNode = 0, kRemoveNode = 1, kUpdateNode = 2, kAddLearnerNode = 3 };

struct DowngradeInfo {
  bool enabled = false;
  std::string target_version;  // "3.6.0"; empty unless enabled
  friend bool operator==(const DowngradeInfo&, const DowngradeInfo&) = default;
};

// One moment of a cluster. Immutable.
struct ClusterView {
  uint64_t local_id = 0;
  uint64_t cluster_id = 0;
  std::map<uint64_t, Member> members;
  std::set<uint64_t> removed;
  std::optional<Version> version;  // none until the leader has decided one
  DowngradeInfo downgrade;

  std::vector<Member> Members() const;    // sorted by ID
  const Member* Find(uint64_t id) const;  // null if unknown
  bool IsLocalLearner() const;
  std::vector<std::string> ClientUrls() const;  // of all members, sorted
  std::vector<std::string> PeerUrls() const;
};

class Cluster {
 public:
  struct Options {
    int64_t max_learners = 1;
  };
  explicit Cluster(Options options);

  // --- any thread
  std::shared_ptr<const ClusterView> View() const;
  uint64_t local_id() const;
  uint64_t cluster_id() const;

  // Whether the change may be applied to the members that are stored now. kNotFound, kFailedPrecondition; a
  // context that cannot be read is kInvalidArgument.
  absl::Status CheckChange(ChangeType type, uint64_t node_id, std::string_view context_json) const;

  // --strict-reconfig-check: whether the started voters would still be a quorum after the change.
  // `CheckAddVoter` is for a new voter, `CheckPromote` for a learner that becomes one. Removing never needs
  // it if the member is a learner.
  absl::Status CheckAddVoter() const;
  absl::Status CheckPromote(uint64_t id) const;
  absl::Status CheckRemove(uint64_t id) const;

  // --- apply thread, or before the member runs

  void SetIds(uint64_t local_id, uint64_t cluster_id);
  // The members that a bootstrap starts with. They are shown until the entries that add them have been
  // applied.
  void SetBootstrapMembers(absl::Span<const Member> members);
  // What the tables hold. Errors: kDataLoss for a row that is not etcd's form.
  absl::Status Load(const TableRows& members, const TableRows& removed, const TableRows& cluster);

  // Applies a change that CheckChange allows, and writes it to `store`.
  absl::Status Apply(ChangeType type, uint64_t node_id, std::string_view context_json, MemberStore& store);
  // What a started member has published of itself. OK and nothing done if the member has been removed;
  // kNotFound if it was never there.
  absl::Status SetAttributes(uint64_t id, const MemberAttributes& attributes, MemberStore& store);
  void SetVersion(const Version& version, MemberStore& store);
  void SetDowngrade(const DowngradeInfo& info, MemberStore& store);

 private:
  void Publish(ClusterView next) ABSL_LOCKS_EXCLUDED(mutex_);
  void Save(const Member& member, MemberStore& store);

  const Options options_;
  mutable base::Mutex mutex_;
  std::shared_ptr<const ClusterView> view_ ABSL_GUARDED_BY(mutex_);
  // The members of the tables: what changes are checked against. A part of view_'s while a bootstrap is being
  // applied.
  std::map<uint64_t, Member> stored_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvd::server
