// The vocabulary of the consensus core: entries, messages, persistent state, membership. Field for field
// these are the messages of raftpb, so that a driver maps them one to one; the core itself knows no encoding
// of them (except of membership changes, which it must read: raft/conf_change.h).
//
// Thread-safety: plain values. Payloads are base::SharedBytes, so copying an entry never copies its bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace kvd::raft {

using NodeId = uint64_t;  // 0 is nobody
using Term = uint64_t;
using Index = uint64_t;  // of a log entry; the first is 1

inline constexpr NodeId kNoNode = 0;
inline constexpr uint64_t kNoLimit = UINT64_MAX;

enum class EntryType : uint8_t { kNormal = 0, kConfChange = 1, kConfChangeV2 = 2 };

struct Entry {
  Term term = 0;
  Index index = 0;
  EntryType type = EntryType::kNormal;
  base::SharedBytes data = {};  // empty: the entry with which a leader opens its term
  friend bool operator==(const Entry&, const Entry&) = default;
};

// What an entry counts for in limits given in bytes: its payload and the most that its framing may take.
inline uint64_t EntryBytes(const Entry& e) {
  return e.data.size() + 24;
}

// Numbers are those of the wire.
enum class MessageType : uint8_t {
  kHup = 0,
  kBeat = 1,
  kProp = 2,
  kApp = 3,
  kAppResp = 4,
  kVote = 5,
  kVoteResp = 6,
  kSnap = 7,
  kHeartbeat = 8,
  kHeartbeatResp = 9,
  kUnreachable = 10,
  kSnapStatus = 11,
  kCheckQuorum = 12,
  kTransferLeader = 13,
  kTimeoutNow = 14,
  kReadIndex = 15,
  kReadIndexResp = 16,
  kPreVote = 17,
  kPreVoteResp = 18,
  kStorageAppend = 19,
  kStorageAppendResp = 20,
  kStorageApply = 21,
  kStorageApplyResp = 22,
  kForgetLeader = 23,
};
inline constexpr int kMessageTypes = 24;
std::string_view MessageTypeName(MessageType type);  // "MsgApp"

// The members, as a snapshot or the log up to some index defines them. Each list is sorted.
struct ConfState {
  std::vector<NodeId> voters = {};  // the incoming majority while joint
  std::vector<NodeId> learners = {};
  std::vector<NodeId> voters_outgoing = {};  // not empty exactly while the configuration is joint
  std::vector<NodeId> learners_next = {};  // voters of the outgoing majority that become learners on leaving
  bool auto_leave = false;                 // the leader leaves the joint configuration by itself
  friend bool operator==(const ConfState&, const ConfState&) = default;
};

struct SnapshotMeta {
  Index index = 0;
  Term term = 0;
  ConfState conf_state = {};
  friend bool operator==(const SnapshotMeta&, const SnapshotMeta&) = default;
};

struct Snapshot {
  SnapshotMeta meta;
  base::SharedBytes data = {};  // never looked at by the core
};

// A message between members. Fields mean what they mean in raftpb.Message; unused ones are zero.
struct Message {
  MessageType type = MessageType::kHup;
  bool reject = false;
  NodeId to = kNoNode;
  NodeId from = kNoNode;
  Term term = 0;      // 0 in MsgProp and MsgReadIndex
  Term log_term = 0;  // MsgApp: term at `index`; rejected MsgAppResp: term at `reject_hint`; votes: last term
  Index index =
      0;  // MsgApp: the entry before `entries`; MsgAppResp: acknowledged or rejected; votes: last index
  Index commit = 0;
  Index reject_hint = 0;  // rejected MsgAppResp: where the logs may agree
  NodeId vote = kNoNode;
  std::vector<Entry> entries = {};
  std::shared_ptr<const Snapshot> snapshot =
      {};                    // MsgSnap; the core leaves `data` empty, the driver supplies it
  std::string context = {};  // round of a read, or the reason of a campaign; MsgAppResp: kPatient or nothing
};

// In the acknowledgements of a follower that is in no hurry to hear what is committed. A leader that does not
// know it (etcd's) tells at once.
inline constexpr std::string_view kPatient = "patient";

// What a member must not forget.
struct HardState {
  Term term = 0;
  NodeId vote = kNoNode;
  Index commit = 0;
  friend bool operator==(const HardState&, const HardState&) = default;
};

enum class Role : uint8_t { kFollower, kPreCandidate, kCandidate, kLeader };
std::string_view RoleName(Role role);  // "Follower", "PreCandidate", "Candidate", "Leader"

struct SoftState {
  NodeId leader = kNoNode;
  Role role = Role::kFollower;
  friend bool operator==(const SoftState&, const SoftState&) = default;
};

// The read that was asked for with `token` may be served once `index` has been applied.
struct ReadState {
  Index index = 0;
  std::string token = {};
  friend bool operator==(const ReadState&, const ReadState&) = default;
};

enum class ConfChangeType : uint8_t { kAddNode = 0, kRemoveNode = 1, kUpdateNode = 2, kAddLearnerNode = 3 };

enum class ConfChangeTransition : uint8_t {
  kAuto = 0,           // simple if it can be, else joint and left automatically
  kJointImplicit = 1,  // joint, left automatically
  kJointExplicit = 2,  // joint until somebody proposes to leave
};

// One change, as etcd's members propose it.
struct ConfChange {
  uint64_t id = 0;  // the proposer's own
  ConfChangeType type = ConfChangeType::kAddNode;
  NodeId node = kNoNode;
  std::string context = {};
  friend bool operator==(const ConfChange&, const ConfChange&) = default;
};

struct ConfChangeSingle {
  ConfChangeType type = ConfChangeType::kAddNode;
  NodeId node = kNoNode;
  friend bool operator==(const ConfChangeSingle&, const ConfChangeSingle&) = default;
};

// Any number of changes at once. Without changes (and with kAuto) it leaves a joint configuration.
struct ConfChangeV2 {
  ConfChangeTransition transition = ConfChangeTransition::kAuto;
  std::vector<ConfChangeSingle> changes = {};
  std::string context = {};
  friend bool operator==(const ConfChangeV2&, const ConfChangeV2&) = default;
};

}  // namespace kvd::raft
