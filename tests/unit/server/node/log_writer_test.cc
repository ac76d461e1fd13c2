#include "server/node/log_writer.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "base/mem_file_system.h"
#include "base/sim_executor.h"
#include "raft/types.h"
#include "wal/wal.h"

namespace kvd::server {
namespace {

constexpr char kDir[] = "/wal";

class NoNetwork final : public RaftTransport {
 public:
  void Send(std::vector<raft::Message>) override {}
};

class LogWriterTest : public ::testing::Test {
 protected:
  LogWriterTest() : scheduler_(1), executor_(scheduler_.NewExecutor("log")) {
    auto wal = wal::Wal::Create(fs_, kDir, "metadata", {});
    EXPECT_TRUE(wal.ok()) << wal.status();
    wal_ = *std::move(wal);
    writer_ = std::make_unique<LogWriter>(*wal_, raft::HardState(), *executor_, network_);
    writer_->SetPersistedCallback([](const raft::Persisted&) {});
  }

  void ReceiveSnapshot(raft::Index index, raft::Term term) {
    auto snapshot = std::make_shared<raft::Snapshot>();
    snapshot->meta = {index, term, {}};
    LogWriter::Job job;
    job.hard = raft::HardState{term, 0, index};
    job.snapshot = std::move(snapshot);
    job.must_sync = true;
    writer_->Submit(std::move(job));
  }
  raft::Index LastMarker() {
    scheduler_.RunFor(std::chrono::seconds(1));
    auto markers = wal::Wal::ReadSnapshotMarkers(fs_, kDir);
    EXPECT_TRUE(markers.ok()) << markers.status();
    return markers->back().index;
  }

  base::MemFileSystem fs_;
  base::SimScheduler scheduler_;
  std::unique_ptr<base::Executor> executor_;
  NoNetwork network_;
  std::unique_ptr<wal::Wal> wal_;
  std::unique_ptr<LogWriter> writer_;
};

TEST_F(LogWriterTest, Checkpoint_MovesTheMarker) {
  ReceiveSnapshot(66, 10);
  EXPECT_EQ(LastMarker(), 66u);
  writer_->Checkpoint({70, 10, {}});
  EXPECT_EQ(LastMarker(), 70u);
}

// The last marker says from where a member starts. One of the state machine's that is late must not hide that
// of a snapshot which was received, acknowledged, and not yet installed.
TEST_F(LogWriterTest, LateCheckpoint_LeavesTheMarkerOfANewerSnapshot) {
  ReceiveSnapshot(66, 10);
  ReceiveSnapshot(67, 11);
  writer_->Checkpoint({66, 10, {}});
  EXPECT_EQ(LastMarker(), 67u);
}

// Where the member starts with what it has applied, the log may not yet say that this was committed.
TEST_F(LogWriterTest, Checkpoint_OfWhatTheMemberStartedWith) {
  writer_ = std::make_unique<LogWriter>(*wal_, raft::HardState{10, 0, 70}, *executor_, network_);
  writer_->Checkpoint({70, 10, {}});
  EXPECT_EQ(LastMarker(), 70u);
}

// A marker counts only up to the commit index that the log names last.
TEST_F(LogWriterTest, Job_FromBeforeTheCheckpoint_LeavesItsMarker) {
  ReceiveSnapshot(66, 10);
  writer_->Checkpoint({70, 10, {}});
  EXPECT_EQ(LastMarker(), 70u);
  LogWriter::Job job;
  job.hard = raft::HardState{11, 0, 68};
  job.must_sync = true;
  writer_->Submit(std::move(job));
  EXPECT_EQ(LastMarker(), 70u);
}

}  // namespace
}  // namespace kvd::server
