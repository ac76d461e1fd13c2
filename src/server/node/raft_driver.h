// Drives the consensus core: takes proposals, messages, reads and acknowledgements from any thread, steps the
// core on the consensus executor, and hands each Ready to the disk (LogWriter), the network (RaftTransport)
// and the applier (CommitSink). The leader's write and its sends run side by side.
//
// What arrives while the executor is busy is taken in one piece at its next turn, so under load one Ready
// carries many proposals, one write and one sync serve them all, and one quorum round serves all waiting
// reads.
//
// Thread-safety: every public method may be called from any thread unless it says otherwise. Callbacks run on
// the consensus executor, which may be the thread that brings messages or finishes a write for the moment
// (Executor::PostOrRun). Ownership: borrows everything it is given; Stop() before any of it goes.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "base/executor.h"
#include "raft/memory_log.h"
#include "raft/raft_core.h"
#include "server/node/error_table.h"
#include "server/node/log_writer.h"
#include "server/node/raft_transport.h"

namespace kvd::server {

// Receives what is committed, in log order. Called on the consensus executor; must not block.
class CommitSink {
 public:
  virtual ~CommitSink() = default;
  virtual void OnCommitted(std::vector<raft::Entry> entries) = 0;
  // The state machine is to be replaced by this snapshot, whose database has been received.
  virtual void OnSnapshot(std::shared_ptr<const raft::Snapshot> snapshot) = 0;
  // The leader, role or term changed; RaftDriver::state() shows it.
  virtual void OnStateChange() = 0;
  // Whether somebody at this member waits for what is committed. A follower where nobody does may hear of it
  // a little later (Options::tell_after), which saves everybody work. Any thread.
  virtual bool AwaitsCommits() const { return true; }
};

class RaftDriver {
 public:
  struct Options {
    base::Nanos tick = std::chrono::milliseconds(100);
    // Ticks to skip at the start, so that a member that is sure to be needed campaigns soon.
    int advance_ticks = 0;
    // A read whose round brought nothing is asked again after this long.
    base::Nanos read_retry = std::chrono::milliseconds(500);
    // Proposals and reads that found no leader are given up after this long.
    base::Nanos request_timeout = std::chrono::seconds(7);
    // Entries that the memory log keeps behind the applied index for followers that lag.
    uint64_t catch_up_entries = 5000;
    // Beyond this many bytes of entries it keeps only those that no snapshot covers.
    uint64_t max_log_bytes = 64 << 20;
    // A commit index that was not sent to a follower with entries meanwhile is sent after one to two times
    // this, if nobody waits for it there.
    base::Nanos tell_after = std::chrono::milliseconds(3);
    // A leader whose log owes a sync for longer gives up the leadership. 0: never.
    base::Nanos stall_limit{0};
    // Entries applied since the last trim before it trims again.
    uint64_t trim_every = 1000;
    raft::TraceSink* trace = nullptr;  // of the core; borrowed
  };
  // A moment of the core, for status answers.
  struct State {
    raft::NodeId leader = 0;
    raft::Role role = raft::Role::kFollower;
    raft::Term term = 0;
    raft::Index commit = 0;
    raft::Index last_index = 0;
  };
  using ReadCallback = absl::AnyInvocable<void(Error, raft::Index)>;
  using ConfStateCallback = absl::AnyInvocable<void(raft::ConfState)>;

  RaftDriver(const raft::Config& config, std::unique_ptr<raft::MemoryLog> log, uint64_t seed,
             base::Executor& consensus, LogWriter& writer, RaftTransport& transport, CommitSink& sink,
             Options options);
  ~RaftDriver();

  void Start();
  // Stops ticking and waits for nothing: the caller stops the executors next.
  void Stop();

  // Proposes the bytes of an entry. If there is no leader now, they wait for one. Nothing is reported back:
  // the applier finds the proposer by the ID in the entry, or the proposer's time runs out.
  // With `only_in`, they are proposed only while this member leads in that term, and dropped otherwise.
  void Propose(base::SharedBytes data, std::optional<raft::Term> only_in = std::nullopt);
  // The result is that of the core; kOk does not mean committed.
  void ProposeConfChange(raft::ConfChange change, absl::AnyInvocable<void(raft::ProposeResult)> done);
  // Gives the index that must be applied before a linearizable read that starts now. Errors: kTimeout,
  // kStopped.
  void ReadIndex(ReadCallback done);
  // May take a turn of the core on the caller's thread, which holds no lock.
  void Step(std::vector<raft::Message> messages);
  void ReportUnreachable(raft::NodeId id);
  void ReportSnapshot(raft::NodeId id, bool ok);
  void TransferLeadership(raft::NodeId to, absl::AnyInvocable<void(raft::TransferResult)> done);
  void Campaign();

  // From the applier.
  void OnApplied(raft::Index index);
  void ApplyConfChange(raft::ConfChangeV2 change, ConfStateCallback done);
  // What a snapshot for a follower would hold now; also the point up to which the memory log may be trimmed.
  void SetSnapshotPoint(raft::SnapshotMeta meta);

  State state() const;
  raft::NodeId leader() const { return leader_.load(std::memory_order_acquire); }
  bool is_leader() const { return role_.load(std::memory_order_acquire) == raft::Role::kLeader; }
  raft::Term term() const { return term_.load(std::memory_order_acquire); }
  raft::Index commit() const { return commit_.load(std::memory_order_acquire); }
  // Of proposals that the core has not taken yet.
  size_t pending_bytes() const { return pending_bytes_.load(std::memory_order_relaxed); }
  // When the leader was last lost; nothing while there is one.
  std::optional<base::Nanos> no_leader_since() const;
  // On the consensus executor, then hands the status over.
  void GetStatus(absl::AnyInvocable<void(raft::Status)> done);

 private:
  struct Mail;
  struct Read {
    ReadCallback done;
    base::Nanos give_up;
  };
  struct PendingProposal {
    base::SharedBytes data;
    base::Nanos give_up;
    std::optional<raft::Term> only_in;
  };
  struct AwaitedReady {
    raft::Persisted ack;
    bool written;  // goes through the log writer
    std::vector<raft::Message> send;
  };

  // Where the turn that reads the mail may run: on the caller's thread, which saves waking another, or not.
  // Those who bring one piece at a time offer it for the end of what their thread is at: before that their
  // pieces would get a turn each.
  enum class Turn { kLater, kHere, kHereSoon };
  void Deliver(absl::FunctionRef<void(Mail&)> put, Turn turn = Turn::kLater);
  void Run(absl::AnyInvocable<void()> task);
  void Drain();
  void DrainHere();
  void OnTick();
  void ProposePending();
  void DropStale(base::Nanos now);
  void StartRead();
  void FinishReads(const std::vector<raft::ReadState>& reads);
  void HandleReadys();
  void HandleReady(raft::Ready ready);
  void TellCommitLater();
  void OnPersisted(const raft::Persisted& ack);
  void AckUnwritten();
  void PublishState();
  void TrimLog();
  void WatchDisk(base::Nanos now);

  const Options options_;
  base::Executor& consensus_;
  LogWriter& writer_;
  RaftTransport& transport_;
  CommitSink& sink_;

  // Consensus executor only.
  std::unique_ptr<raft::MemoryLog> log_;
  std::unique_ptr<raft::RaftCore> core_;
  std::vector<PendingProposal> pending_;
  std::vector<Read> reads_waiting_;   // for the next round
  std::vector<Read> reads_in_round_;  // for the answer to round_
  uint64_t round_ = 0;
  base::Nanos round_started_{0};
  std::vector<AwaitedReady> awaited_;  // Readys not yet acknowledged, in order
  std::optional<raft::HardState> unwritten_hard_;
  std::deque<std::pair<uint64_t, std::shared_ptr<const raft::Snapshot>>> unwritten_snapshots_;  // by Ready
  raft::SoftState soft_;
  raft::Index reported_applied_ = 0;
  raft::Index trimmed_at_ = 0;
  base::Nanos next_disk_check_{0};
  std::optional<raft::Index> tell_commit_;  // a timer will see whether all have been told of it
  bool stopped_ = false;

  std::unique_ptr<Mail> mail_;  // has its own lock

  std::atomic<raft::NodeId> leader_{0};
  std::atomic<raft::Role> role_{raft::Role::kFollower};
  std::atomic<raft::Term> term_{0};
  std::atomic<raft::Index> commit_{0};
  std::atomic<raft::Index> last_index_{0};
  std::atomic<raft::Index> applied_{0};
  std::atomic<size_t> pending_bytes_{0};
  std::atomic<int64_t> no_leader_since_{0};  // nanoseconds; -1 while there is a leader
};

}  // namespace kvd::server
