#include "server/node/log_writer.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/mutant.h"
#include "base/sites.h"
#include "server/node/log_records.h"
#include "wal/wal.h"

namespace kvd::server {
namespace {

constexpr base::Nanos kSpaceRetry = std::chrono::milliseconds(500);
constexpr base::Nanos kSlowSync = std::chrono::seconds(1);

// Entries of one write from which on the log is under load.
constexpr size_t kLoad = 8;

}  // namespace

LogWriter::LogWriter(wal::Wal& wal, raft::HardState hard, base::Executor& executor, RaftTransport& transport)
    : wal_(wal), executor_(executor), transport_(transport), hard_(hard) {}

LogWriter::~LogWriter() = default;

void LogWriter::Submit(Job job) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    job.submitted = executor_.clock().Monotonic();
    int64_t nothing = 0;
    owed_since_.compare_exchange_strong(nothing, job.submitted.count(), std::memory_order_acq_rel);
    queued_.push_back(std::move(job));
    if (scheduled_) return;
    scheduled_ = true;
  }
  executor_.Post([this] { WriteQueued(); });
}

base::Nanos LogWriter::stalled_for() const {
  int64_t since = owed_since_.load(std::memory_order_acquire);
  return since == 0 || no_space_.load(std::memory_order_acquire)
             ? base::Nanos(0)
             : executor_.clock().Monotonic() - base::Nanos(since);
}

// A full disk is waited for; any other failure of the log is final.
LogWriter::Outcome LogWriter::Check(const absl::Status& status) {
  if (status.ok()) return Outcome::kWritten;
  if (status.code() == absl::StatusCode::kResourceExhausted) {
    if (!waiting_for_space_) {
      KVD_LOG(kError, "the disk of the log is full; writes wait until there is room", {"error", status});
    }
    waiting_for_space_ = true;
    return Outcome::kNoSpace;
  }
  KVD_LOG(kError, "the log cannot be written; what was written may be lost", {"error", status});
  KVD_PROBE("log/sync failed");
  failed_ = true;
  on_failure_(status);
  return Outcome::kFailed;
}

LogWriter::Outcome LogWriter::Write(const Job& job) {
  const std::vector<wal::Entry> entries = ToWal(job.entries);
  if (job.hard) {
    // Not back behind the commit index that a checkpoint has entered meanwhile: its marker would not count.
    const raft::Index entered = hard_.commit;
    hard_ = *job.hard;
    hard_.commit = std::max(hard_.commit, entered);
    hard_entered_ = true;
  }
  wal::HardState hard = ToWal(hard_);
  if (KVD_MUTANT("vote_not_persisted")) hard.vote = raft::kNoNode;
  if (job.snapshot != nullptr) {
    // The marker first: a commit index that the log does not reach would look like a loss after a crash in
    // between.
    marked_ = std::max(marked_, job.snapshot->meta.index);
    if (Outcome o = Check(wal_.SaveSnapshot(ToWal(job.snapshot->meta))); o != Outcome::kWritten) return o;
  }
  return Check(wal_.Append(job.hard ? &hard : nullptr, entries));
}

absl::Status LogWriter::SaveMarker(const raft::SnapshotMeta& marker) {
  // A member starts from the last marker. One of a state machine that has yet to install the snapshot which
  // was received after it would hide that snapshot, whose entries the log does not hold.
  if (marker.index <= marked_) return absl::OkStatus();
  // A marker counts only if the log also says that its index is committed.
  if (!hard_entered_ || hard_.commit < marker.index) {
    hard_entered_ = true;
    hard_.commit = std::max(hard_.commit, marker.index);
    wal::HardState hard = ToWal(hard_);
    if (absl::Status status = wal_.Append(&hard, {}); !status.ok()) return status;
  }
  if (absl::Status status = wal_.SaveSnapshot(ToWal(marker)); !status.ok()) return status;
  marked_ = marker.index;
  return absl::OkStatus();
}

void LogWriter::WriteQueued() {
  // Under load those who are about to hand something in go first, if they wait for this processor: a sync and
  // all that it sets off then serve more entries. With a processor to spare it changes nothing.
  if (last_entries_ >= kLoad) std::this_thread::yield();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    auto end = queued_.end();
    if (queued_.size() > 1 && KVD_BUGGIFY("log/one job")) end = queued_.begin() + 1;
    std::move(queued_.begin(), end, std::back_inserter(writing_));
    queued_.erase(queued_.begin(), end);
    scheduled_ = !queued_.empty();
    if (scheduled_) executor_.Post([this] { WriteQueued(); });
  }
  if (writing_.empty() || failed_) return;
  base::Nanos start = executor_.clock().Monotonic();

  bool sync = false;
  for (; encoded_ < writing_.size(); ++encoded_) {
    if (Outcome o = Write(writing_[encoded_]); o != Outcome::kWritten) return Pause(o);
  }
  last_entries_ = 0;
  for (const Job& job : writing_) {
    sync = sync || job.must_sync;
    last_entries_ += job.entries.size();
  }
  if (sync) {
    if (Outcome o = Check(wal_.Sync()); o != Outcome::kWritten) return Pause(o);
  }
  if (waiting_for_space_) {
    KVD_LOG(kInfo, "the disk of the log has room again");
    waiting_for_space_ = false;
    no_space_.store(false, std::memory_order_release);
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    owed_since_.store(queued_.empty() ? 0 : queued_.front().submitted.count(), std::memory_order_release);
  }
  if (base::Nanos took = executor_.clock().Monotonic() - start; took > kSlowSync) {
    KVD_LOG(kWarn, "slow fdatasync", {"took", absl::StrCat(took.count() / 1000000, "ms")},
            {"expected-duration", "1s"});
  }

  std::vector<raft::Message> messages;
  for (Job& job : writing_) {
    std::move(job.send_after.begin(), job.send_after.end(), std::back_inserter(messages));
  }
  raft::Persisted last = writing_.back().ack;
  writing_.clear();
  encoded_ = 0;
  if (!messages.empty()) transport_.Send(std::move(messages));
  persisted_(last);
}

void LogWriter::Pause(Outcome outcome) {
  if (outcome == Outcome::kFailed) return;
  KVD_PROBE("log/full disk");
  no_space_.store(true, std::memory_order_release);
  executor_.PostAfter(kSpaceRetry, [this] { WriteQueued(); });
}

void LogWriter::Checkpoint(raft::SnapshotMeta marker) {
  executor_.Post([this, marker = std::move(marker)] {
    if (failed_ || waiting_for_space_ || !writing_.empty()) return;  // the next checkpoint covers this one
    if (Check(SaveMarker(marker)) == Outcome::kWritten) {
      wal_.ReleaseTo(marker.index);
    } else {
      waiting_for_space_ = false;
    }
  });
}

void LogWriter::Finish(absl::AnyInvocable<void()> done) {
  executor_.Post([this, done = std::move(done)]() mutable {
    if (writing_.empty() && !failed_) {
      wal::HardState hard = ToWal(hard_);
      absl::Status status = wal_.Append(&hard, {});
      if (status.ok()) status = wal_.Sync();
      if (!status.ok()) KVD_LOG(kWarn, "the last state of the log was not written", {"error", status});
    }
    done();
  });
}

}  // namespace kvd::server
