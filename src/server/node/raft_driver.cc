#include "server/node/raft_driver.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "base/bytes.h"
#include "base/log.h"
#include "base/mutant.h"
#include "base/sites.h"

namespace kvd::server {
namespace {

// Proposals handed to the core in one call; all of a call are accepted or none.
constexpr size_t kProposeChunk = 128;

std::string RoundToken(uint64_t round) {
  std::string token;
  base::AppendBigEndian64(token, round);
  return token;
}

}  // namespace

// What arrived since the last turn.
struct RaftDriver::Mail {
  std::mutex mutex;
  bool scheduled = false;  // a turn is on its way
  // Or this thread offers one when it is done with what it is at. Others do not rely on that: it may take
  // long.
  const base::Executor* soon_on = nullptr;
  std::vector<raft::Message> messages;
  std::vector<PendingProposal> proposals;
  std::vector<Read> reads;
  std::vector<absl::AnyInvocable<void()>> tasks;
  std::optional<raft::Persisted> persisted;
};

RaftDriver::RaftDriver(const raft::Config& config, std::unique_ptr<raft::MemoryLog> log, uint64_t seed,
                       base::Executor& consensus, LogWriter& writer, RaftTransport& transport,
                       CommitSink& sink, Options options)
    : options_(options),
      consensus_(consensus),
      writer_(writer),
      transport_(transport),
      sink_(sink),
      log_(std::move(log)),
      core_(std::make_unique<raft::RaftCore>(config, log_.get(), base::Random(seed), options.trace)),
      mail_(std::make_unique<Mail>()) {
  // An answer to a read of this member's last life must not be taken for one of this: rounds are not counted
  // from the same number again.
  round_ = KVD_MUTANT("read_rounds_start_over") ? 0 : base::Random(seed).Split("read rounds").Next();
  applied_ = config.applied;
  reported_applied_ = config.applied;
  trimmed_at_ = log_->FirstIndex();
  no_leader_since_ = consensus_.clock().Monotonic().count();
  term_ = core_->term();
  commit_ = core_->commit();
  last_index_ = core_->last_index();
  writer_.SetPersistedCallback([this](const raft::Persisted& ack) {
    Deliver([&](Mail& mail) { mail.persisted = ack; }, Turn::kHere);
  });
}

RaftDriver::~RaftDriver() = default;

void RaftDriver::Start() {
  consensus_.Post([this] {
    for (int i = 0; i < options_.advance_ticks; ++i) core_->Tick();
    // A member that is alone has nobody to wait for.
    const raft::Status status = core_->GetStatus();
    if (status.conf_state.voters == std::vector<raft::NodeId>{status.id}) core_->Campaign();
    HandleReadys();
    consensus_.PostAfter(options_.tick, [this] { OnTick(); });
  });
}

void RaftDriver::Stop() {
  Run([this] { stopped_ = true; });
}

void RaftDriver::Deliver(absl::FunctionRef<void(Mail&)> put, Turn turn) {
  base::Executor* const here = base::Executor::OfThisThread();
  const bool soon = turn == Turn::kHereSoon && here != nullptr;
  {
    std::lock_guard<std::mutex> lock(mail_->mutex);
    put(*mail_);
    if (mail_->scheduled || (soon && mail_->soon_on == here)) return;
    if (soon) {
      mail_->soon_on = here;
    } else {
      mail_->scheduled = true;
    }
  }
  if (soon) {
    here->Post([this] { DrainHere(); });
  } else if (turn == Turn::kHere) {
    consensus_.PostOrRun([this] { Drain(); });
  } else {
    consensus_.Post([this] { Drain(); });
  }
}

// At the end of what a thread was at, unless somebody in more of a hurry has read the mail meanwhile.
void RaftDriver::DrainHere() {
  {
    std::lock_guard<std::mutex> lock(mail_->mutex);
    if (mail_->soon_on == nullptr) return;
  }
  consensus_.PostOrRun([this] { Drain(); });
}

void RaftDriver::Run(absl::AnyInvocable<void()> task) {
  Deliver([&](Mail& mail) { mail.tasks.push_back(std::move(task)); });
}

void RaftDriver::Propose(base::SharedBytes data, std::optional<raft::Term> only_in) {
  base::Nanos give_up = consensus_.clock().Monotonic() + options_.request_timeout;
  pending_bytes_.fetch_add(data.size(), std::memory_order_relaxed);
  Deliver(
      [&](Mail& mail) {
        mail.proposals.push_back({std::move(data), give_up, only_in});
      },
      Turn::kHereSoon);
}

void RaftDriver::ReadIndex(ReadCallback done) {
  base::Nanos give_up = consensus_.clock().Monotonic() + options_.request_timeout;
  Deliver([&](Mail& mail) { mail.reads.push_back({std::move(done), give_up}); }, Turn::kHereSoon);
}

void RaftDriver::Step(std::vector<raft::Message> messages) {
  Deliver(
      [&](Mail& mail) {
        if (mail.messages.empty()) {
          mail.messages = std::move(messages);
        } else {
          std::move(messages.begin(), messages.end(), std::back_inserter(mail.messages));
        }
      },
      Turn::kHere);
}

void RaftDriver::ProposeConfChange(raft::ConfChange change,
                                   absl::AnyInvocable<void(raft::ProposeResult)> done) {
  Run([this, change = std::move(change), done = std::move(done)]() mutable {
    done(core_->ProposeConfChange(change));
  });
}

void RaftDriver::ReportUnreachable(raft::NodeId id) {
  Run([this, id] { core_->ReportUnreachable(id); });
}

void RaftDriver::ReportSnapshot(raft::NodeId id, bool ok) {
  Run([this, id, ok] { core_->ReportSnapshot(id, ok); });
}

void RaftDriver::TransferLeadership(raft::NodeId to, absl::AnyInvocable<void(raft::TransferResult)> done) {
  Run([this, to, done = std::move(done)]() mutable { done(core_->TransferLeadership(to)); });
}

void RaftDriver::Campaign() {
  Run([this] { core_->Campaign(); });
}

void RaftDriver::GetStatus(absl::AnyInvocable<void(raft::Status)> done) {
  Run([this, done = std::move(done)]() mutable { done(core_->GetStatus()); });
}

void RaftDriver::OnApplied(raft::Index index) {
  raft::Index before = applied_.exchange(index, std::memory_order_acq_rel);
  // The core learns of it at its next turn; it is woken only when enough has gathered to matter to it.
  if (before / options_.trim_every != index / options_.trim_every) Run([] {});
}

void RaftDriver::ApplyConfChange(raft::ConfChangeV2 change, ConfStateCallback done) {
  Run([this, change = std::move(change), done = std::move(done)]() mutable {
    done(core_->ApplyConfChange(change));
  });
}

void RaftDriver::SetSnapshotPoint(raft::SnapshotMeta meta) {
  Run([this, meta = std::move(meta)]() mutable {
    if (meta.index + 1 < log_->FirstIndex() || meta.index > log_->LastIndex()) return;
    log_->SetSnapshotToSend(std::move(meta));
  });
}

RaftDriver::State RaftDriver::state() const {
  return {leader_.load(std::memory_order_acquire), role_.load(std::memory_order_acquire),
          term_.load(std::memory_order_acquire), commit_.load(std::memory_order_acquire),
          last_index_.load(std::memory_order_acquire)};
}

std::optional<base::Nanos> RaftDriver::no_leader_since() const {
  int64_t since = no_leader_since_.load(std::memory_order_acquire);
  if (since < 0) return std::nullopt;
  return base::Nanos(since);
}

void RaftDriver::OnTick() {
  if (stopped_) return;
  base::Nanos now = consensus_.clock().Monotonic();
  core_->Tick();
  WatchDisk(now);
  DropStale(now);
  // A round that was lost on the way, or with its leader, is asked again; the reads of both rounds are later
  // than either, so one new round serves them all.
  if (!reads_in_round_.empty() &&
      (now - round_started_ >= options_.read_retry || KVD_BUGGIFY("node/ask again for a read"))) {
    std::move(reads_in_round_.begin(), reads_in_round_.end(), std::back_inserter(reads_waiting_));
    reads_in_round_.clear();
  }
  Drain();
  consensus_.PostAfter(options_.tick, [this] { OnTick(); });
}

void RaftDriver::Drain() {
  std::vector<raft::Message> messages;
  std::vector<PendingProposal> proposals;
  std::vector<Read> reads;
  std::vector<absl::AnyInvocable<void()>> tasks;
  std::optional<raft::Persisted> persisted;
  {
    std::lock_guard<std::mutex> lock(mail_->mutex);
    mail_->scheduled = false;
    mail_->soon_on = nullptr;
    messages.swap(mail_->messages);
    proposals.swap(mail_->proposals);
    reads.swap(mail_->reads);
    tasks.swap(mail_->tasks);
    persisted.swap(mail_->persisted);
  }
  if (stopped_) {
    for (Read& read : reads) read.done(Error::kStopped, 0);
    return;
  }
  if (persisted) OnPersisted(*persisted);
  // Before anything is proposed: a change of the membership waits for the one before it to be applied.
  raft::Index applied = applied_.load(std::memory_order_acquire);
  if (applied > reported_applied_) {
    reported_applied_ = applied;
    core_->OnApplied(applied);
    TrimLog();
  }
  if (!messages.empty()) {
    core_->SetPatient(reads_waiting_.empty() && reads_in_round_.empty() && !sink_.AwaitsCommits());
  }
  for (raft::Message& message : messages) core_->Step(std::move(message));
  for (auto& task : tasks) task();
  std::move(proposals.begin(), proposals.end(), std::back_inserter(pending_));
  ProposePending();
  std::move(reads.begin(), reads.end(), std::back_inserter(reads_waiting_));
  StartRead();
  HandleReadys();
  if (stopped_) {
    for (Read& read : reads_waiting_) read.done(Error::kStopped, 0);
    for (Read& read : reads_in_round_) read.done(Error::kStopped, 0);
    reads_waiting_.clear();
    reads_in_round_.clear();
  }
}

void RaftDriver::ProposePending() {
  std::erase_if(pending_, [this](const PendingProposal& p) {
    if (KVD_MUTANT("revocation_outlives_term")) return false;
    if (p.only_in && *p.only_in != core_->term()) KVD_PROBE("node/revocation of an older term dropped");
    if (!p.only_in || (core_->role() == raft::Role::kLeader && core_->term() == *p.only_in)) return false;
    pending_bytes_.fetch_sub(p.data.size(), std::memory_order_relaxed);
    return true;
  });
  size_t at = 0;
  std::vector<base::SharedBytes> chunk;
  while (at < pending_.size()) {
    size_t end = std::min(pending_.size(), at + kProposeChunk);
    chunk.clear();
    for (size_t i = at; i < end; ++i) chunk.push_back(pending_[i].data);
    if (core_->Propose(absl::MakeSpan(chunk)) != raft::ProposeResult::kOk)
      break;  // later, or its time runs out
    at = end;
  }
  if (at == 0) return;
  size_t bytes = 0;
  for (size_t i = 0; i < at; ++i) bytes += pending_[i].data.size();
  pending_bytes_.fetch_sub(bytes, std::memory_order_relaxed);
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<ptrdiff_t>(at));
}

void RaftDriver::DropStale(base::Nanos now) {
  std::erase_if(pending_, [this, now](const PendingProposal& p) {
    if (p.give_up > now) return false;
    pending_bytes_.fetch_sub(p.data.size(), std::memory_order_relaxed);
    return true;
  });
  for (std::vector<Read>* reads : {&reads_waiting_, &reads_in_round_}) {
    std::vector<Read> late;
    auto keep =
        std::stable_partition(reads->begin(), reads->end(), [now](const Read& r) { return r.give_up > now; });
    std::move(keep, reads->end(), std::back_inserter(late));
    reads->erase(keep, reads->end());
    for (Read& read : late) read.done(Error::kTimeout, 0);
  }
}

void RaftDriver::StartRead() {
  if (reads_waiting_.empty() || !reads_in_round_.empty()) return;
  if (!core_->ReadIndex(RoundToken(round_ + 1))) return;  // no leader: again at the next tick
  ++round_;
  round_started_ = consensus_.clock().Monotonic();
  reads_in_round_.swap(reads_waiting_);
}

void RaftDriver::FinishReads(const std::vector<raft::ReadState>& reads) {
  for (const raft::ReadState& state : reads) {
    if (state.token.size() != sizeof(uint64_t) || base::LoadBigEndian64(state.token.data()) != round_)
      continue;
    std::vector<Read> done;
    done.swap(reads_in_round_);
    for (Read& read : done) read.done(Error::kOk, state.index);
  }
}

void RaftDriver::HandleReadys() {
  while (core_->HasReady()) {
    raft::Ready ready = core_->TakeReady();
    // Before anybody hears of it: who has may come back and ask what is applied here (a lease's keys).
    commit_.store(core_->commit(), std::memory_order_release);
    last_index_.store(core_->last_index(), std::memory_order_release);
    HandleReady(std::move(ready));
    StartRead();
  }
  TellCommitLater();
}

// Under load the next entries take the commit index along, and the timer finds that they did.
void RaftDriver::TellCommitLater() {
  if (tell_commit_ || core_->CommitToldToAll() >= core_->commit()) return;
  tell_commit_ = core_->commit();
  consensus_.PostAfter(options_.tell_after, [this] {
    const raft::Index awaited = *std::exchange(tell_commit_, std::nullopt);
    if (stopped_) return;
    if (core_->CommitToldToAll() < awaited) {
      KVD_PROBE("node/commit told later");
      core_->TellCommit();
    }
    HandleReadys();
  });
}

void RaftDriver::HandleReady(raft::Ready ready) {
  if (ready.soft) {
    soft_ = *ready.soft;
    PublishState();
    ProposePending();
  } else if (ready.hard && ready.hard->term != term_.load(std::memory_order_relaxed)) {
    PublishState();
  }
  if (ready.snapshot) log_->InstallSnapshot(ready.snapshot->meta);
  log_->Append(ready.append);
  // Entries go out before they are written here: the others' writes are what is waited for. What is committed
  // is handed on first, since a client waits for it.
  const bool entries = !ready.append.empty();
  if (entries && !ready.send_now.empty()) transport_.Send(std::exchange(ready.send_now, {}));

  // A commit index alone is not worth a write: it goes with the next one, and a restart finds it out again.
  if (ready.hard) unwritten_hard_ = ready.hard;
  bool write = ready.must_sync || ready.snapshot != nullptr || !ready.append.empty();
  if (write) {
    LogWriter::Job job;
    job.hard = std::exchange(unwritten_hard_, std::nullopt);
    job.snapshot = ready.snapshot;
    job.entries = std::move(ready.append);
    job.must_sync = true;
    job.send_after = std::move(ready.send_after_persist);
    job.ack = ready.ack;
    awaited_.push_back({ready.ack, true, {}});
    writer_.Submit(std::move(job));
  } else {
    awaited_.push_back({ready.ack, false, std::move(ready.send_after_persist)});
  }
  if (ready.snapshot) {
    applied_.store(ready.snapshot->meta.index, std::memory_order_release);
    reported_applied_ = ready.snapshot->meta.index;
    // The state machine must not be ahead of what the log knows of, or a crash would look like a loss.
    if (KVD_MUTANT("snapshot_before_log")) {
      sink_.OnSnapshot(ready.snapshot);
    } else {
      unwritten_snapshots_.emplace_back(ready.number, ready.snapshot);
    }
  }
  if (!ready.committed.empty()) sink_.OnCommitted(std::move(ready.committed));
  if (!ready.send_now.empty()) transport_.Send(std::move(ready.send_now));
  FinishReads(ready.reads);
  AckUnwritten();
}

void RaftDriver::OnPersisted(const raft::Persisted& ack) {
  auto covered = std::find_if(awaited_.begin(), awaited_.end(),
                              [&](const AwaitedReady& r) { return r.ack.number > ack.number; });
  for (auto it = awaited_.begin(); it != covered; ++it) {
    if (!it->send.empty()) transport_.Send(std::move(it->send));
  }
  awaited_.erase(awaited_.begin(), covered);
  while (!unwritten_snapshots_.empty() && unwritten_snapshots_.front().first <= ack.number) {
    sink_.OnSnapshot(std::move(unwritten_snapshots_.front().second));
    unwritten_snapshots_.pop_front();
  }
  core_->OnPersisted(ack);
  AckUnwritten();
}

// Readys with nothing to write are done once everything before them is.
void RaftDriver::AckUnwritten() {
  size_t n = 0;
  while (n < awaited_.size() && !awaited_[n].written) {
    if (!awaited_[n].send.empty()) transport_.Send(std::move(awaited_[n].send));
    ++n;
  }
  if (n == 0) return;
  raft::Persisted last = awaited_[n - 1].ack;
  awaited_.erase(awaited_.begin(), awaited_.begin() + static_cast<ptrdiff_t>(n));
  core_->OnPersisted(last);
}

void RaftDriver::PublishState() {
  raft::NodeId leader = core_->leader();
  bool changed = leader != leader_.load(std::memory_order_relaxed) ||
                 core_->role() != role_.load(std::memory_order_relaxed) ||
                 core_->term() != term_.load(std::memory_order_relaxed);
  if (leader == raft::kNoNode && leader_.load(std::memory_order_relaxed) != raft::kNoNode) {
    no_leader_since_ = consensus_.clock().Monotonic().count();
  } else if (leader != raft::kNoNode) {
    no_leader_since_ = -1;
  }
  term_.store(core_->term(), std::memory_order_release);
  role_.store(core_->role(), std::memory_order_release);
  leader_.store(leader, std::memory_order_release);
  commit_.store(core_->commit(), std::memory_order_release);
  if (!changed) return;
  if (!reads_in_round_.empty()) {  // the old leader's answer will not come
    std::move(reads_in_round_.begin(), reads_in_round_.end(), std::back_inserter(reads_waiting_));
    reads_in_round_.clear();
    KVD_PROBE("node/reads outlive their leader");
  }
  sink_.OnStateChange();
}

// Writes go on without the leader's own disk as long as the others' work, but a leader that may never sync
// again holds everybody up sooner or later. It hands over to somebody who has synced what it has not.
void RaftDriver::WatchDisk(base::Nanos now) {
  if (options_.stall_limit <= base::Nanos(0) || core_->role() != raft::Role::kLeader ||
      now < next_disk_check_)
    return;
  const base::Nanos stalled = writer_.stalled_for();
  if (stalled <= options_.stall_limit) return;
  next_disk_check_ = now + options_.stall_limit;
  const raft::Status status = core_->GetStatus();
  raft::Index own = 0;
  raft::PeerStatus best;
  for (const raft::PeerStatus& peer : status.peers) {
    if (peer.id == status.id) {
      own = peer.match;
    } else if (!peer.learner && peer.recent_active && peer.match > best.match) {
      best = peer;
    }
  }
  const int64_t ms = std::chrono::duration_cast<std::chrono::milliseconds>(stalled).count();
  if (best.match <= own) {
    KVD_LOG(kWarn, "the disk of the log is stalled, and no other member has more on its own",
            {"stalled-for-ms", ms});
    return;
  }
  KVD_LOG(kWarn, "the disk of the log is stalled; giving up the leadership", {"stalled-for-ms", ms},
          {"successor", base::HexId(best.id)});
  (void)core_->TransferLeadership(best.id);
}

void RaftDriver::TrimLog() {
  bool too_large = log_->bytes() > options_.max_log_bytes || KVD_BUGGIFY("node/trim hard");
  if (!too_large && reported_applied_ < trimmed_at_ + options_.trim_every) return;
  trimmed_at_ = reported_applied_;
  uint64_t keep = too_large ? 0 : options_.catch_up_entries;
  if (reported_applied_ <= keep) return;
  // What is trimmed must be within the reach of a snapshot.
  raft::Index reach = reported_applied_ - keep;
  std::optional<raft::SnapshotMeta> snapshot = log_->SnapshotToSend();
  if (!snapshot) return;
  log_->Compact(std::min({reach, snapshot->index, log_->LastIndex()}));
}

}  // namespace kvd::server
