// The state of the core, shared by its activities. Internal to this room: each activity is a group of member
// functions with a file of its own, named below.
//
// Thread-safety: thread-compatible.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/random.h"
#include "raft/membership.h"
#include "raft/progress.h"
#include "raft/quorum.h"
#include "raft/raft_core.h"
#include "raft/raft_log.h"
#include "raft/trace.h"

namespace kvd::raft {

// Marks the vote requests of a campaign that the leader itself asked for: voters then do not wait for their
// leader to fall silent. Part of the protocol.
inline constexpr std::string_view kTransferCampaign = "CampaignTransfer";

struct RaftCore::Impl {
  Impl(const Config& config, const LogView* view, base::Random random, TraceSink* trace);

  // --- raft_core.cc: time, dispatch, terms ---
  void Tick();
  StepResult Step(Message m);
  // False: the message belongs to another term and is dealt with.
  bool CheckTerm(const Message& m);
  StepResult StepLeader(Message& m);
  StepResult StepFollower(Message& m);
  StepResult StepCandidate(Message& m);
  void Send(Message m);
  template <class Event>
  void Trace(const Event& event) const {
    if (trace_ != nullptr) trace_->OnEvent(id_, event);
  }

  // --- election.cc ---
  void BecomeFollower(Term term, NodeId leader);
  void BecomePreCandidate();
  void BecomeCandidate();
  void BecomeLeader();
  void Reset(Term term);
  void SetRole(Role role, NodeId leader);
  bool Promotable() const;
  bool HasUnappliedConfChange() const;
  void Hup(trace::CampaignKind kind);
  void RequestVotes(trace::CampaignKind kind);
  // A refused vote tells how far the other knows the log to be committed.
  void LearnCommit(const Message& m);
  void CountVote(NodeId from, bool granted, bool pre);
  void AnswerVoteRequest(const Message& m);
  bool HeardOfQuorum();
  void CheckQuorum();
  void ForgetLeader();
  bool InLease() const { return leader_ != kNoNode && election_elapsed_ < config_.election_ticks; }

  // --- propose.cc ---
  ProposeResult Propose(absl::Span<base::SharedBytes> payloads);
  ProposeResult ProposeChange(EntryType type, std::string data);
  // Of a leader: puts entries (type and data) into the log. A configuration change that may not stand becomes
  // an empty entry if `replace_refused`, else refuses all.
  ProposeResult AppendProposals(std::vector<Entry> entries, bool replace_refused);
  ProposeResult ForwardProposals(std::vector<Entry> entries);
  ProposeResult Dropped(ProposeResult why) const;
  bool ConfChangeMayStand(const Entry& entry) const;
  void AppendOwn(std::vector<Entry> entries);

  // --- replication.cc ---
  void Flush();  // sends what is due to the followers, and starts a round of reads
  // Whether it is enough to tell the follower of the commit index with the next entries.
  bool CommitMayWait(const Progress& p) const;
  Index CommitToldToAll() const;
  void SendAppends(Progress& p);
  bool SendAppend(Progress& p);
  bool SendSnapshot(Progress& p);
  void BroadcastHeartbeat(const std::string& context);
  void HandleAppend(Message& m);  // at a follower
  void HandleHeartbeat(const Message& m);
  void HandleAppendAnswer(const Message& m);  // at a leader
  void HandleHeartbeatAnswer(const Message& m);
  void MaybeCommit();
  void TraceAppended(Index first) const;  // entries first..last were appended
  void Unreachable(NodeId id);
  void ChangeProgress(Progress& p, ProgressState to, Index snapshot_index = 0);
  Progress* Find(NodeId id);

  // --- snapshot.cc ---
  void HandleSnapshot(const Message& m);
  bool Restore(std::shared_ptr<const Snapshot> snapshot);
  void ReportSnapshot(NodeId id, bool ok);

  // --- read_index.cc ---
  struct PendingRead {
    NodeId from;
    std::string token;
  };
  struct ReadRound {
    uint64_t id;
    Index index;
    std::vector<PendingRead> reads = {};
    std::vector<NodeId> acks = {};
  };
  bool ReadIndex(std::string token);
  void AskReadIndex(NodeId from, std::string token);
  void StartReadRound();
  // A heartbeat to all, which also asks again for what the last round has not heard.
  void RetryReadRound();
  void ConfirmReads(NodeId from, const std::string& context);
  void AnswerReads(Index index, std::vector<PendingRead> reads);
  bool CommittedInTerm() const;

  // --- reconfigure.cc ---
  ConfState ApplyConfChange(const ConfChangeV2& change);
  void SwitchTo(ConfState conf);
  void MaybeLeaveJoint();
  void MaybeStepDown();

  // --- transfer.cc ---
  TransferResult TransferLeadership(NodeId to);
  TransferResult StartTransfer(NodeId to);
  void SendTimeoutNow(NodeId to);
  void AbortTransfer();

  // --- ready.cc ---
  bool HasReady();
  Ready TakeReady();
  void OnPersisted(const Persisted& ack);
  void OnApplied(Index index);
  HardState CurrentHardState() const { return {term_, vote_, log_.commit()}; }
  SoftState CurrentSoftState() const { return {leader_, role_}; }
  Status GetStatus() const;

  const Config config_;
  const NodeId id_;
  TraceSink* const trace_;
  base::Random random_;

  Term term_ = 0;
  NodeId vote_ = kNoNode;
  Role role_ = Role::kFollower;
  NodeId leader_ = kNoNode;
  RaftLog log_;
  ConfState conf_;
  std::vector<Progress> peers_;  // every member, sorted by ID; in use while leading

  int election_elapsed_ = 0;
  int heartbeat_elapsed_ = 0;
  int election_timeout_ = 0;  // randomised

  // Campaigning.
  std::vector<std::pair<NodeId, bool>> votes_;
  // The own vote, which counts once the Ready that persists it (0: not handed out yet) is on disk.
  Term self_vote_term_ = 0;
  uint64_t self_vote_ready_ = 0;

  // Leading.
  uint64_t uncommitted_bytes_ = 0;
  Index pending_conf_index_ = 0;  // no change may be proposed before this is applied
  NodeId transferee_ = kNoNode;
  Index leaving_index_ = 0;             // not 0: no voter any more, leads until this is committed
  std::vector<PendingRead> new_reads_;  // wait for the next round
  std::deque<ReadRound> rounds_;
  uint64_t next_round_ = 0;
  bool tell_commit_ = false;  // at the next Flush, to patient followers too

  bool patient_ = false;  // following: nobody here waits for what is committed

  // For the next Ready.
  std::vector<Message> send_now_;
  std::vector<Message> send_after_persist_;
  std::vector<ReadState> reads_;
  uint64_t number_ = 0;
  HardState handed_hard_;
  SoftState handed_soft_;
};

}  // namespace kvd::raft
