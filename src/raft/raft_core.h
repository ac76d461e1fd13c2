// The consensus core: a state machine without I/O, threads, clock or logging. Events go in (ticks, messages,
// proposals, acknowledgements of the disk and of the applier); numbered Readys come out and say what to
// write, what to send at once, what to send after the write, what is committed and which reads may be served.
//
// The algorithm is Raft with the behaviour of etcd's members, so that both can sit in one cluster: PreVote
// and CheckQuorum always on, step-down on removal, learners, leadership transfer, joint configurations, read
// index.
//
// A driver's loop:
//
//   on any event:   core.Tick() / Step(m) / Propose(...) / OnPersisted(...) / OnApplied(...)
//   then, while core.HasReady():
//     Ready r = core.TakeReady();
//     memory_log.InstallSnapshot(r.snapshot) / memory_log.Append(r.append)   // the LogView
//     send r.send_now
//     queue on the disk: r.snapshot, r.append, r.hard; sync if r.must_sync; then send r.send_after_persist
//     and
//         report core.OnPersisted(r.ack)
//     queue on the applier: r.committed; then report core.OnApplied(last index)
//     answer r.reads once applied that far
//
// Rules:
//   1. Every Ready is acknowledged, in order, also one with nothing to write (at once if no earlier one is
//   still being
//      written). The acknowledgement of Ready n covers all before it, so a batch of several needs the last
//      one's only.
//   2. Several Readys may be unacknowledged at a time.
//   3. send_after_persist of Ready n goes out after Readys 1..n are on disk.
//   4. A committed configuration change (decoded by raft/conf_change.h) is handed to ApplyConfChange before
//   OnApplied
//      covers its index. One that the application refuses is handed over with its nodes set to kNoNode, which
//      changes nothing.
//   5. Reads and forwarded proposals may be lost (a lost message, a change of leader): the driver asks again.
//
// Thread-safety: thread-compatible; one thread, the raft executor's. Ownership: the LogView and the TraceSink
// are borrowed and outlive the core. Errors: result codes for what can happen in operation; a broken contract
// or protocol invariant ends the process (base/check.h).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "base/random.h"
#include "raft/log_view.h"
#include "raft/types.h"

namespace kvd::raft {

class TraceSink;  // raft/trace.h

struct Config {
  NodeId id = kNoNode;
  // Ticks without a leader after which a member campaigns (randomised in [n, 2n-1]), and after which a leader
  // without contact to a quorum steps down.
  int election_ticks = 10;
  int heartbeat_ticks = 1;  // < election_ticks

  // Bytes of entries (EntryBytes) in one MsgApp; at least one entry goes anyway.
  uint64_t max_message_bytes = 1 << 20;
  // MsgApps and bytes on the way to one follower. Bytes bound throughput per round trip, and memory.
  size_t max_inflight_messages = 512;
  uint64_t max_inflight_bytes = 16 << 20;
  // Payload bytes that a leader holds uncommitted; beyond it proposals are refused (kTooMuchUncommitted).
  uint64_t max_uncommitted_bytes = 64 << 20;
  // Bytes handed out in Ready::committed and not yet reported applied.
  uint64_t max_apply_bytes = 64 << 20;
  // Bytes in one Ready::committed.
  uint64_t max_committed_per_ready_bytes = 4 << 20;

  // A follower passes proposals on to the leader. Off: they are refused with kNotLeader.
  bool forward_proposals = true;

  // What was found on disk. The log itself is the LogView; `applied` is what the state machine already holds
  // and lies in [LogView::FirstIndex()-1, LogView::LastIndex()]; conf_state is the membership at `applied`.
  // The commit index found may lag behind `applied`, since it is not synced.
  HardState hard_state = {};
  ConfState conf_state = {};
  Index applied = 0;
};

enum class ProposeResult : uint8_t {
  kOk,                  // appended, or sent on to the leader (which may still drop it)
  kNoLeader,            // no leader is known, or an election is going on
  kNotLeader,           // not the leader, and forwarding is off
  kTransferring,        // the leadership is being handed over
  kTooMuchUncommitted,  // back-pressure: try again when something has been committed
  kNotMember,           // this member has been removed
  kConfChangePending,   // an earlier change is not applied yet, or the configuration is (or is not) joint
};
std::string_view ProposeResultName(ProposeResult result);

enum class TransferResult : uint8_t {
  kStarted,  // or passed on to the leader; watch SoftState for the outcome
  kNoLeader,
  kNotMember,      // the target is not a voting member
  kAlreadyLeader,  // the target leads
};

enum class StepResult : uint8_t {
  kOk,
  kIgnored,  // a local message from outside, or an answer of somebody who is not a member
};

// Echo of Ready::ack. `term` and `last_index` name the last entry of the log as of that Ready,
// `snapshot_index` the snapshot that it installed (0: none).
struct Persisted {
  uint64_t number = 0;
  Term term = 0;
  Index last_index = 0;
  Index snapshot_index = 0;
};

struct Ready {
  uint64_t number = 0;                 // 1, 2, 3, ...
  std::optional<SoftState> soft = {};  // if it changed
  std::optional<HardState> hard = {};  // to persist, if it changed
  // To persist: an empty log behind this snapshot. Comes before `append`.
  std::shared_ptr<const Snapshot> snapshot = {};
  // To persist: truncates everything from append[0].index on.
  std::vector<Entry> append = {};
  bool must_sync = false;  // the write must be durable (term, vote or log changed) before it is acknowledged
  std::vector<Message> send_now = {};
  // Votes and append acknowledgements. (A member's own vote and its own part in a quorum follow from
  // OnPersisted.)
  std::vector<Message> send_after_persist = {};
  std::vector<Entry> committed = {};  // to apply; on this member's disk already, each handed out once
  std::vector<ReadState> reads = {};
  Persisted ack = {};
};

// A follower as its leader sees it.
enum class ProgressState : uint8_t {
  kProbe,      // where the logs agree is not known: one message at a time
  kReplicate,  // streaming
  kSnapshot,   // waiting for a snapshot to arrive
};

struct PeerStatus {
  NodeId id = kNoNode;
  Index match = 0;
  Index next = 0;
  ProgressState state = ProgressState::kProbe;
  bool learner = false;
  bool recent_active = false;
  bool paused = false;
  Index pending_snapshot = 0;
  size_t inflight_messages = 0;
};

struct Status {
  NodeId id = kNoNode;
  SoftState soft = {};
  HardState hard = {};
  Index applied = 0;
  Index last_index = 0;
  NodeId transferee = kNoNode;
  ConfState conf_state = {};
  std::vector<PeerStatus> peers = {};  // of a leader: every member by ID, itself included
};

class RaftCore {
 public:
  // `trace` may be null.
  RaftCore(const Config& config, const LogView* log, base::Random random, TraceSink* trace);
  ~RaftCore();
  RaftCore(const RaftCore&) = delete;
  RaftCore& operator=(const RaftCore&) = delete;

  // One unit of logical time.
  void Tick();
  // A message of another member.
  StepResult Step(Message m);
  // Appends the payloads in this order, or none of them; they are moved from if the result is kOk.
  [[nodiscard]] ProposeResult Propose(absl::Span<base::SharedBytes> payloads);
  [[nodiscard]] ProposeResult ProposeConfChange(const ConfChange& change);
  [[nodiscard]] ProposeResult ProposeConfChange(const ConfChangeV2& change);
  // Asks for the index at which a linearizable read that starts now may be served; it comes as Ready::reads.
  // All reads asked for between two Readys share one round to a quorum. Waits while a new leader has not
  // committed in its term. False: no leader is known.
  [[nodiscard]] bool ReadIndex(std::string token);
  [[nodiscard]] TransferResult TransferLeadership(NodeId to);
  // A follower stops believing in its leader, and so may grant (pre-)votes at once. No effect on others.
  void ForgetLeader();
  // Campaigns now instead of at the timeout, if this member may.
  void Campaign();
  // The last message to this member was not sent. For a follower in kReplicate.
  void ReportUnreachable(NodeId id);
  // The end of a MsgSnap's transfer.
  void ReportSnapshot(NodeId id, bool ok);

  // Of a follower: nobody waits for what is committed here. It says so in its acknowledgements, and a leader
  // then tells it the commit index with the next entries, or a heartbeat, or when TellCommit is called: a
  // message less for each entry that is alone.
  void SetPatient(bool patient);
  // Of a leader: the commit index that every follower which may hear of it has been told. A patient one is
  // behind commit() until something tells it.
  Index CommitToldToAll() const;
  // Tells patient followers the commit index now.
  void TellCommit();

  // Acknowledges Readys up to ack.number. See the rules above.
  void OnPersisted(const Persisted& ack);
  // Everything committed up to `index` is applied.
  void OnApplied(Index index);
  // The membership after a committed change. Must be called in log order.
  ConfState ApplyConfChange(const ConfChangeV2& change);

  bool HasReady() const;
  // REQUIRES: HasReady().
  Ready TakeReady();

  NodeId id() const;
  Role role() const;
  NodeId leader() const;
  Term term() const;
  Index commit() const;
  Index applied() const;
  Index last_index() const;
  ConfState conf_state() const;
  Status GetStatus() const;

  struct Impl;  // raft/impl.h, of this room only

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvd::raft
