// A store, a hub and any number of watch streams in one simulated world.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/sim_executor.h"
#include "etcdserverpb/rpc.pb.h"
#include "server/watch/watch_hub.h"
#include "storage/store.h"

namespace kvd::server {

// Keeps what it is sent until the test, as the peer, takes it; by itself at once unless held.
class TestSink final : public WatchSink {
 public:
  explicit TestSink(size_t limit) : half_(limit / 2) {}

  void Send(ResponseBatch responses) override;
  size_t queued_bytes() override { return queued_; }
  void Finish(absl::StatusCode code, std::string_view message) override;

  void Hold() { held_ = true; }
  // Takes one message off the queue; true if the stream is to be told that there is room.
  bool TakeOne();
  bool empty() const { return queue_.empty(); }

  std::vector<etcdserverpb::WatchResponse> received;
  std::vector<int> responses_sent;  // in each call
  std::string finished;             // "code: message"
  size_t max_queued = 0;

 private:
  friend class TestClient;
  size_t half_;
  bool held_ = false;
  std::deque<std::string> queue_;
  size_t queued_ = 0;
};

// The peer of one stream.
class TestClient {
 public:
  TestClient(WatchHub& hub, WatchStreamOptions options = {});

  struct Watch {
    std::string key;
    std::string range_end = {};
    int64_t start = 0;
    int64_t id = 0;
    bool prev_kv = false;
    bool progress_notify = false;
    bool fragment = false;
    bool no_put = false;
    bool no_delete = false;
  };
  void Create(const Watch& watch);
  void Cancel(int64_t id);
  void Progress();
  void Send(std::string_view bytes) { stream_->OnRequest(bytes); }
  void Close() { stream_->Close(); }
  // From now on nothing is taken, until Release, or one by one.
  void Hold() { sink_->Hold(); }
  bool TakeOne();
  void Release();

  TestSink& sink() { return *sink_; }
  // What has come since the last call, in words (Describe).
  std::vector<std::string> Take();

 private:
  std::shared_ptr<TestSink> sink_;
  std::unique_ptr<WatchStream> stream_;
};

// "created 0 @1", "refused -1 @1: why", "canceled 0 @4", "canceled 0 @0 compacted 7", "progress -1 @9",
// "events 0 @3: put a=x/2, del b/3 was y", and "fragment ..." for events that go on in the next response.
std::string Describe(const etcdserverpb::WatchResponse& response);

class FixedHeaders final : public HeaderSource {
 public:
  uint64_t cluster_id() const override { return 11; }
  uint64_t member_id() const override { return 12; }
  uint64_t term() const override { return 13; }
};

// A fresh store on the model engine, or on a RocksDB in `directory`.
std::unique_ptr<storage::Store> NewStore(base::Executor& background, const std::string& directory = {});
// Each returns the revision it made (or left).
struct Op {
  bool is_delete = false;
  std::string key;
  std::string value_or_end = {};
};
int64_t Write(storage::Store& store, uint64_t index, const std::vector<Op>& ops);

class WatchTest : public testing::Test {
 protected:
  enum class EngineKind { kModel, kRocks };
  explicit WatchTest(WatchHub::Options options = {}, uint64_t seed = 1,
                     EngineKind engine = EngineKind::kModel);
  ~WatchTest() override;

  void MakeHub(WatchHub::Options options);
  int64_t Put(const std::string& key, const std::string& value) { return Txn({{false, key, value}}); }
  int64_t Delete(const std::string& key, const std::string& end = "") { return Txn({{true, key, end}}); }
  int64_t Txn(const std::vector<Op>& ops) { return Write(*store_, ++index_, ops); }
  void Compact(int64_t revision);
  void Settle() { scheduler_.RunFor(std::chrono::milliseconds(1)); }

  base::SimScheduler scheduler_;
  std::unique_ptr<base::Executor> watch_;
  std::unique_ptr<base::Executor> background_;
  FixedHeaders headers_;
  uint64_t index_ = 0;
  std::string directory_;  // of RocksDB, if that is the engine
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<WatchHub> hub_;
};

}  // namespace kvd::server
