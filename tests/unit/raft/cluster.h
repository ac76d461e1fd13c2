// Members in one test: real cores, each with a disk and a state machine in memory, joined by a network that a
// test empties as it likes. Every step is explicit, so a test can stop between a write's start and its end.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/random.h"
#include "raft/conf_change.h"
#include "raft/memory_log.h"
#include "raft/raft_core.h"
#include "raft/trace.h"

namespace kvd::raft {

base::SharedBytes Bytes(std::string_view text);

// What a crash leaves of the log.
struct TestDisk {
  HardState hard;
  SnapshotMeta snapshot;  // the log begins behind it
  std::vector<Entry> log;
};

// What has been applied.
struct TestMachine {
  Index applied = 0;
  Term applied_term = 0;
  ConfState conf;
  std::map<Index, std::string> data;  // of every normal entry with a payload
};

// One member. Its state machine survives a crash up to its last durable point (Compact, or a snapshot).
class TestNode {
 public:
  TestNode(Config config, uint64_t seed, TraceSink* trace, TestDisk disk = {}, TestMachine machine = {});

  RaftCore& core() { return *core_; }
  const RaftCore& core() const { return *core_; }
  MemoryLog& log() { return *log_; }
  const Config& config() const { return config_; }

  bool CanTakeReady() const { return core_->HasReady(); }
  // Takes a Ready: the log view gets its entries, what may be sent goes to `out`.
  const Ready& TakeReady(std::vector<Message>* out);
  bool Writing() const { return !writing_.empty(); }
  // Ends the oldest write.
  void Persist(std::vector<Message>* out);
  bool Applying() const { return !applying_.empty(); }
  // Applies the oldest batch.
  void Apply();
  // All of the above until nothing is left.
  void Settle(std::vector<Message>* out);

  // Drops the log up to the applied index (keeping `keep` entries); the state machine becomes durable.
  void Compact(Index keep = 0);
  // A copy of what a restart after a crash finds; writes not yet ended are lost.
  std::unique_ptr<TestNode> Restarted(uint64_t seed, TraceSink* trace) const;

  const TestDisk& disk() const { return disk_; }
  const TestMachine& machine() const { return machine_; }
  std::vector<ReadState> TakeReads() { return std::exchange(reads_, {}); }
  // Payloads applied, in order.
  std::vector<std::string> Applied() const;
  std::vector<Entry> LogEntries() const;  // of the view

  // Where a snapshot finds the state of its sender.
  std::function<TestMachine(const SnapshotMeta&)> fetch_snapshot;

 private:
  Config config_;
  TestDisk disk_;
  TestMachine machine_;
  TestMachine durable_;
  std::unique_ptr<MemoryLog> log_;
  std::unique_ptr<RaftCore> core_;
  std::deque<Ready> writing_;
  std::deque<std::vector<Entry>> applying_;
  std::vector<ReadState> reads_;
};

// Several members with IDs 1, 2, 3, ... that all know one another from the start.
class TestCluster : public TraceSink {
 public:
  explicit TestCluster(size_t voters, Config config = {}, uint64_t seed = 1);
  TestCluster(ConfState conf, Config config, uint64_t seed = 1);

  TestNode& operator[](NodeId id) { return *nodes.at(id); }
  RaftCore& core(NodeId id) { return nodes.at(id)->core(); }
  // A member that knows nothing yet (to be added by a configuration change).
  TestNode& Add(NodeId id, ConfState conf = {}, TestDisk disk = {}, TestMachine machine = {});
  void Restart(NodeId id);

  // Lets every member finish what it has to do, and delivers; until all is quiet.
  void Stabilize();
  // Only the members' own work; messages stay in the network.
  void Settle();
  // Delivers what is in the network now, once.
  void Deliver();
  void Tick(NodeId id, int ticks = 1);
  // Campaigns, and lets the others agree.
  void Elect(NodeId id);
  ProposeResult Propose(NodeId id, std::string_view data);
  // The member that leads in the highest term; 0 if none.
  NodeId Leader() const;

  void Isolate(NodeId id);
  void Cut(NodeId from, NodeId to) { cut.insert({from, to}); }
  void Heal() {
    cut.clear();
    dropped_types.clear();
  }

  void OnEvent(NodeId node, const trace::Event& event) override;
  template <class Event>
  size_t CountEvents(NodeId node) const {
    size_t n = 0;
    for (const auto& [id, event] : events) n += id == node && std::holds_alternative<Event>(event);
    return n;
  }

  std::map<NodeId, std::unique_ptr<TestNode>> nodes;
  std::vector<Message> network;
  std::set<std::pair<NodeId, NodeId>> cut;
  std::set<MessageType> dropped_types;
  std::vector<std::pair<NodeId, trace::Event>> events;
  std::function<void(NodeId, const trace::Event&)> on_event;

 private:
  void Connect(TestNode& node);
  Config config_;
  uint64_t seed_;
};

}  // namespace kvd::raft
