// Writes Readys to the log on an executor of its own. Jobs that wait while the disk syncs are written
// together and share the next sync. What must not be sent before it is durable leaves from here, without a
// detour through the consensus executor.
//
// A failed sync is final (Linux has dropped the pages, a retry would prove nothing): nothing is acknowledged
// any more, and the process must stop. A full disk is waited for: the jobs stay queued, in order, and nothing
// is acknowledged until there is room.
//
// Thread-safety: Submit from one thread (the consensus executor's). Ownership: borrows the log, the
// executor and the transport.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "base/executor.h"
#include "raft/raft_core.h"
#include "server/node/raft_transport.h"

namespace kvd::wal {
class Wal;
}

namespace kvd::server {

class LogWriter {
 public:
  struct Job {
    std::optional<raft::HardState> hard;
    std::shared_ptr<const raft::Snapshot> snapshot;
    std::vector<raft::Entry> entries;
    bool must_sync = false;
    std::vector<raft::Message> send_after;
    raft::Persisted ack;
    base::Nanos submitted{0};  // set by Submit
  };
  // Called on the log executor with the last acknowledgement of each write, after everything else is done.
  using PersistedCallback = absl::AnyInvocable<void(const raft::Persisted&)>;

  // `hard` is the state that the member starts with. The log may name a lower commit index, which what was
  // applied has shown to be late.
  LogWriter(wal::Wal& wal, raft::HardState hard, base::Executor& executor, RaftTransport& transport);
  ~LogWriter();

  // Told once that the log has failed for good; it ends the process. Runs on the log executor.
  using FailureCallback = absl::AnyInvocable<void(const absl::Status&)>;

  // Before the first Submit.
  void SetFailureCallback(FailureCallback failed) { on_failure_ = std::move(failed); }
  void SetPersistedCallback(PersistedCallback done) { persisted_ = std::move(done); }
  void Submit(Job job);
  // Records that the state machine is safe up to the marker without the log, and lets go of the log up to
  // there. Any thread.
  void Checkpoint(raft::SnapshotMeta marker);
  // Writes the last hard state and syncs; `done` then runs on the log executor. For an orderly stop. Any
  // thread.
  void Finish(absl::AnyInvocable<void()> done);

  // How long the oldest job has been waiting for its sync; 0 if none is, or if it waits for room on the disk.
  base::Nanos stalled_for() const;

 private:
  enum class Outcome { kWritten, kNoSpace, kFailed };

  void WriteQueued();
  Outcome Write(const Job& job);
  Outcome Check(const absl::Status& status);
  // After a write that was not done: waits for space, or does nothing any more.
  void Pause(Outcome outcome);
  absl::Status SaveMarker(const raft::SnapshotMeta& marker);

  wal::Wal& wal_;
  base::Executor& executor_;
  RaftTransport& transport_;
  PersistedCallback persisted_;
  FailureCallback on_failure_;

  std::mutex mutex_;
  std::vector<Job> queued_;  // guarded by mutex_
  bool scheduled_ = false;   // guarded by mutex_

  // Log executor only.
  std::vector<Job> writing_;  // the first `encoded_` of them are in the log's buffer already
  size_t encoded_ = 0;
  size_t last_entries_ = 0;  // of the write before
  bool waiting_for_space_ = false;
  bool failed_ = false;
  raft::HardState hard_;       // last given to the log, if one was:
  bool hard_entered_ = false;  // by this writer
  raft::Index marked_ = 0;     // the greatest index of a marker that was written here
  std::atomic<bool> no_space_{false};
  std::atomic<int64_t> owed_since_{0};  // monotonic nanoseconds; 0: nothing
};

}  // namespace kvd::server
