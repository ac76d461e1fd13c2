#include "server/node/raft_driver.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <vector>

#include "base/mem_file_system.h"
#include "base/sim_executor.h"
#include "wal/wal.h"

namespace kvd::server {
namespace {

constexpr raft::NodeId kMembers = 3;
constexpr char kDir[] = "/wal";

// A member without a state machine, and its end of the network.
class DriverMember final : public RaftTransport, public CommitSink {
 public:
  DriverMember(raft::NodeId id, base::SimScheduler& scheduler,
               std::vector<std::unique_ptr<DriverMember>>& all)
      : all_(all),
        consensus_(scheduler.NewExecutor("consensus")),
        log_(scheduler.NewExecutor("log")),
        network_(scheduler.NewExecutor("network")) {
    auto wal = wal::Wal::Create(fs_, kDir, "metadata", {});
    EXPECT_TRUE(wal.ok()) << wal.status();
    wal_ = *std::move(wal);
    writer_ = std::make_unique<LogWriter>(*wal_, raft::HardState(), *log_, *this);
    raft::Config config;
    config.id = id;
    for (raft::NodeId voter = 1; voter <= kMembers; ++voter) config.conf_state.voters.push_back(voter);
    driver_ = std::make_unique<RaftDriver>(config, std::make_unique<raft::MemoryLog>(), id, *consensus_,
                                           *writer_, *this, *this, RaftDriver::Options());
    driver_->Start();
  }

  RaftDriver& driver() { return *driver_; }
  // Messages that told somebody of a commit index which this member did not admit to yet.
  int told_too_early() const { return told_too_early_; }
  raft::Index told() const { return told_; }
  // Appends without entries that were sent: they only tell of a commit index.
  int notices() const { return notices_; }
  void SetPatient(bool patient) { patient_ = patient; }

  // RaftTransport
  void Send(std::vector<raft::Message> messages) override {
    for (raft::Message& message : messages) {
      if (message.commit > driver_->commit()) ++told_too_early_;
      told_ = std::max(told_, message.commit);
      if (message.type == raft::MessageType::kApp && message.entries.empty()) ++notices_;
      DriverMember& to = *all_[message.to - 1];
      to.network_->Post([&to, message = std::move(message)]() mutable {
        std::vector<raft::Message> one;
        one.push_back(std::move(message));
        to.driver_->Step(std::move(one));
      });
    }
  }
  // CommitSink
  void OnCommitted(std::vector<raft::Entry> entries) override {
    if (entries.back().index > driver_->commit()) ++told_too_early_;
    driver_->OnApplied(entries.back().index);
  }
  void OnSnapshot(std::shared_ptr<const raft::Snapshot>) override {}
  void OnStateChange() override {}
  bool AwaitsCommits() const override { return !patient_; }

 private:
  std::vector<std::unique_ptr<DriverMember>>& all_;
  base::MemFileSystem fs_;
  std::unique_ptr<base::Executor> consensus_, log_, network_;
  std::unique_ptr<wal::Wal> wal_;
  std::unique_ptr<LogWriter> writer_;
  std::unique_ptr<RaftDriver> driver_;
  int told_too_early_ = 0;
  raft::Index told_ = 0;
  int notices_ = 0;
  bool patient_ = false;
};

// A follower that has heard of a commit index may ask the leader about what it applied (a lease's keys): the
// leader must then wait for at least as much itself.
TEST(RaftDriverTest, CommitIsPublishedBeforeAnybodyHearsOfIt) {
  base::SimScheduler scheduler(7);
  std::vector<std::unique_ptr<DriverMember>> members;
  for (raft::NodeId id = 1; id <= kMembers; ++id) {
    members.push_back(std::make_unique<DriverMember>(id, scheduler, members));
  }
  members[0]->driver().Campaign();
  scheduler.RunFor(std::chrono::seconds(1));
  ASSERT_TRUE(members[0]->driver().is_leader());
  for (int i = 0; i < 20; ++i) {
    members[0]->driver().Propose(base::SharedBytes(std::string("entry")));
    scheduler.RunFor(std::chrono::milliseconds(100));
  }
  EXPECT_GT(members[0]->told(), 20u);
  for (const auto& member : members) EXPECT_EQ(member->told_too_early(), 0);
}

// Entries in a row take the commit index along; after the last one it comes by itself, and long before the
// next heartbeat.
TEST(RaftDriverTest, FollowersWhereNobodyWaits_HearOfCommitsALittleLater) {
  std::array<int, 2> notices;
  for (bool patient : {false, true}) {
    base::SimScheduler scheduler(11);
    std::vector<std::unique_ptr<DriverMember>> members;
    for (raft::NodeId id = 1; id <= kMembers; ++id) {
      members.push_back(std::make_unique<DriverMember>(id, scheduler, members));
      members.back()->SetPatient(patient);
    }
    members[0]->driver().Campaign();
    scheduler.RunFor(std::chrono::seconds(1));
    ASSERT_TRUE(members[0]->driver().is_leader());
    const int before = members[0]->notices();
    for (int i = 0; i < 20; ++i) {
      members[0]->driver().Propose(base::SharedBytes(std::string("entry")));
      scheduler.RunFor(std::chrono::milliseconds(1));
    }
    notices[patient] = members[0]->notices() - before;
    scheduler.RunFor(3 * RaftDriver::Options().tell_after);
    for (const auto& member : members) {
      EXPECT_EQ(member->driver().commit(), members[0]->driver().state().last_index);
    }
  }
  EXPECT_GE(notices[false], 20);
  EXPECT_LE(notices[true], 4);
}

}  // namespace
}  // namespace kvd::server
