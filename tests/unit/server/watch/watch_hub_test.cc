// What a client sees of Watch, rule by rule.
#include "server/watch/watch_hub.h"

#include <algorithm>
#include <map>
#include <set>

#include "watch_fixture.h"

namespace kvd::server {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr int64_t kMinute = 60'000;
const std::string kOpenEnd("\0", 1);

class WatchHubTest : public WatchTest {};

TEST_F(WatchHubTest, CreatedComesFirstThenEvents) {
  TestClient client(*hub_);
  client.Create({.key = "a"});
  Settle();
  EXPECT_THAT(client.Take(), ElementsAre("created 0 @1"));
  Put("a", "x");
  Put("b", "y");
  Settle();
  Delete("a");
  Settle();
  EXPECT_THAT(client.Take(), ElementsAre("events 0 @3: put a=x/2", "events 0 @4: del a/4"));
}

TEST_F(WatchHubTest, IdsAreGivenUpwardsAroundChosenOnes) {
  TestClient client(*hub_);
  client.Create({.key = "a"});
  client.Create({.key = "a", .id = 1});
  client.Create({.key = "a", .id = 7});
  client.Create({.key = "a"});
  client.Create({.key = "a", .id = 7});
  client.Cancel(1);
  client.Create({.key = "a"});
  client.Create({.key = "a", .id = 1});
  Settle();
  EXPECT_THAT(client.Take(),
              ElementsAre("created 0 @1", "created 1 @1", "created 7 @1", "created 2 @1",
                          "refused -1 @1: mvcc: duplicate watch ID provided on the WatchStream",
                          "canceled 1 @1", "created 3 @1", "created 1 @1"));
}

TEST_F(WatchHubTest, RangesAreSpelledAsInRange) {
  TestClient client(*hub_);
  client.Create({.key = "b", .range_end = "d", .id = 1});
  client.Create({.key = "c", .range_end = kOpenEnd, .id = 2});
  client.Create({.key = "", .range_end = kOpenEnd, .id = 3});
  client.Create({.key = kOpenEnd, .range_end = kOpenEnd, .id = 4});
  client.Create({.key = "d", .range_end = "b", .id = 5});
  client.Create({.key = "d", .range_end = "d", .id = 6});
  Settle();
  EXPECT_THAT(client.Take(), ElementsAre("created 1 @1", "created 2 @1", "created 3 @1", "created 4 @1",
                                         "refused -1 @1: mvcc: watcher range is empty",
                                         "refused -1 @1: mvcc: watcher range is empty"));
  for (const char* key : {"a", "b", "d"}) Put(key, "v");
  Settle();
  EXPECT_THAT(client.Take(), testing::UnorderedElementsAre("events 1 @4: put b=v/3", "events 2 @4: put d=v/4",
                                                           "events 3 @4: put a=v/2, put b=v/3, put d=v/4",
                                                           "events 4 @4: put a=v/2, put b=v/3, put d=v/4"));
}

TEST_F(WatchHubTest, RefusalsLeaveTheStreamOpen) {
  TestClient client(*hub_,
                    {.permission = [](const base::KeyInterval& interval) -> std::optional<std::string> {
                      if (interval.start() == "ok") return std::nullopt;
                      return "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
                    }});
  client.Create({.key = "secret"});
  client.Create({.key = "ok", .start = -3});
  client.Create({.key = "ok"});
  Settle();
  EXPECT_THAT(
      client.Take(),
      ElementsAre("refused -1 @1: rpc error: code = PermissionDenied desc = etcdserver: permission denied",
                  "refused -1 @1: etcdserver: mvcc: required revision has been compacted", "created 0 @1"));
  EXPECT_EQ(client.sink().finished, "");
}

TEST_F(WatchHubTest, GarbageEndsTheStreamAndEmptyRequestsAreIgnored) {
  TestClient client(*hub_);
  client.Send("");
  client.Create({.key = "a"});
  Settle();
  EXPECT_THAT(client.Take(), ElementsAre("created 0 @1"));
  client.Send("\xff\xff\xff");
  client.Create({.key = "a"});
  Settle();
  EXPECT_EQ(client.sink().finished, "13: grpc: failed to unmarshal the received message");
  EXPECT_THAT(client.Take(), IsEmpty());
  EXPECT_EQ(hub_->stats().streams, 0);
  EXPECT_EQ(hub_->stats().watchers, 0);
}

TEST_F(WatchHubTest, NothingFollowsACancel) {
  TestClient client(*hub_);
  client.Create({.key = "a"});
  Settle();
  client.Cancel(0);
  client.Cancel(0);
  client.Cancel(5);
  Settle();
  Put("a", "x");
  Settle();
  EXPECT_THAT(client.Take(), ElementsAre("created 0 @1", "canceled 0 @1"));
  EXPECT_EQ(hub_->stats().watchers, 0);
}

TEST_F(WatchHubTest, FiltersLeaveNothingToSend) {
  TestClient client(*hub_);
  client.Create({.key = "a", .id = 1, .no_put = true});
  client.Create({.key = "a", .id = 2, .no_delete = true});
  client.Create({.key = "a", .id = 3, .no_put = true, .no_delete = true});
  Settle();
  client.Take();
  Put("a", "x");
  Settle();
  EXPECT_THAT(client.Take(), ElementsAre("events 2 @2: put a=x/2"));
  Delete("a");
  Settle();
  EXPECT_THAT(client.Take(), ElementsAre("events 1 @3: del a/3"));
  client.Create({.key = "a", .start = 1, .id = 4, .no_put = true});
  Settle();
  EXPECT_THAT(client.Take(), ElementsAre("created 4 @3", "events 4 @3: del a/3"));
}

TEST_F(WatchHubTest, HistoryComesBeforeThePresent) {
  for (int i = 0; i < 10; ++i) Put("a", std::to_string(i));
  Settle();
  TestClient client(*hub_);
  client.Create({.key = "a", .start = 9});
  Settle();
  EXPECT_THAT(client.Take(), ElementsAre("created 0 @11", "events 0 @11: put a=7/9, put a=8/10, put a=9/11"));
  Put("a", "later");
  Settle();
  EXPECT_THAT(client.Take(), ElementsAre("events 0 @12: put a=later/12"));
}

TEST_F(WatchHubTest, WhatCameWhileNobodyWatchedIsHistory) {
  Put("a", "1");
  Put("a", "2");
  Settle();
  TestClient client(*hub_);
  client.Create({.key = "a", .start = 2, .id = 1});
  client.Create({.key = "a", .id = 2});
  Settle();
  EXPECT_THAT(client.Take(),
              ElementsAre("created 1 @3", "created 2 @3", "events 1 @3: put a=1/2, put a=2/3"));
  client.Close();
  Settle();
  Put("a", "3");
  TestClient next(*hub_);
  next.Create({.key = "a", .start = 4});
  Put("a", "4");
  Settle();
  EXPECT_THAT(next.Take(), ElementsAre("created 0 @5", "events 0 @5: put a=3/4, put a=4/5"));
}

TEST_F(WatchHubTest, AWatchFromNowIsNotToldOfWhatWasDone) {
  TestClient client(*hub_);
  Put("a", "before");  // published; the hub has not yet given it out
  client.Create({.key = "a"});
  Settle();
  Put("a", "after");
  Settle();
  EXPECT_THAT(client.Take(), ElementsAre("created 0 @2", "events 0 @3: put a=after/3"));
}

TEST_F(WatchHubTest, PreviousValues) {
  Put("a", "1");
  Put("a", "2");
  Settle();
  TestClient client(*hub_);
  client.Create({.key = "a", .start = 1, .id = 1, .prev_kv = true});
  client.Create({.key = "a", .start = 1, .id = 2});
  Settle();
  EXPECT_THAT(client.Take(),
              ElementsAre("created 1 @3", "created 2 @3", "events 1 @3: put a=1/2, put a=2/3 was 1",
                          "events 2 @3: put a=1/2, put a=2/3"));
  Put("a", "3");
  Delete("a");
  Put("a", "4");
  Settle();
  EXPECT_THAT(client.Take(),
              testing::UnorderedElementsAre("events 1 @6: put a=3/4 was 2, del a/5 was 3, put a=4/6",
                                            "events 2 @6: put a=3/4, del a/5, put a=4/6"));
}

TEST_F(WatchHubTest, PreviousValueBelowTheCompactionIsLeftOut) {
  Put("a", "1");
  Put("a", "2");
  Put("a", "3");
  Settle();
  Compact(3);
  Settle();
  TestClient client(*hub_);
  client.Create({.key = "a", .start = 3, .prev_kv = true});
  Settle();
  EXPECT_THAT(client.Take(), ElementsAre("created 0 @4", "events 0 @4: put a=2/3, put a=3/4 was 2"));
}

TEST_F(WatchHubTest, StartBelowTheCompactionIsCanceledAfterCreated) {
  for (int i = 0; i < 5; ++i) Put("a", "v");
  Compact(4);
  Settle();
  TestClient client(*hub_);
  client.Create({.key = "a", .start = 3});
  client.Create({.key = "a", .start = 4});
  Settle();
  EXPECT_THAT(client.Take(), ElementsAre("created 0 @6", "canceled 0 @0 compacted 4", "created 1 @6",
                                         "events 1 @6: put a=v/4, put a=v/5, put a=v/6"));
  EXPECT_EQ(hub_->stats().watchers, 1);
}

TEST_F(WatchHubTest, WhatCompactionEndedKeepsItsIdUntilItIsCanceled) {
  for (int i = 0; i < 5; ++i) Put("a", "v");
  Compact(4);
  Settle();
  TestClient client(*hub_);
  client.Create({.key = "a", .start = 3, .id = 7});
  Settle();
  EXPECT_THAT(client.Take(), ElementsAre("created 7 @6", "canceled 7 @0 compacted 4"));
  client.Create({.key = "a", .id = 7});
  client.Cancel(7);
  client.Cancel(7);
  client.Create({.key = "a", .id = 7});
  Settle();
  EXPECT_THAT(client.Take(),
              ElementsAre("refused -1 @6: mvcc: duplicate watch ID provided on the WatchStream",
                          "canceled 7 @6", "created 7 @6"));
}

TEST_F(WatchHubTest, CompactionDoesNotTouchWhoIsSynced) {
  TestClient client(*hub_);
  client.Create({.key = "a", .start = 2});
  Settle();
  for (int i = 0; i < 5; ++i) Put("b", "v");
  Settle();
  Compact(6);
  Put("a", "x");
  Settle();
  EXPECT_THAT(client.Take(), ElementsAre("created 0 @1", "events 0 @7: put a=x/7"));
}

TEST_F(WatchHubTest, ManualProgressSpeaksForAllOfTheStream) {
  TestClient client(*hub_);
  client.Create({.key = "a"});
  Put("a", "x");
  client.Progress();
  Settle();
  // A write that its client knows of has been published: progress is not told below it.
  Put("b", "y");
  client.Progress();
  Settle();
  const auto got = client.Take();
  ASSERT_FALSE(got.empty());
  EXPECT_EQ(got.back(), "progress -1 @3");
  TestClient idle(*hub_);
  idle.Progress();
  Settle();
  EXPECT_THAT(idle.Take(), ElementsAre("progress -1 @3"));
}

TEST_F(WatchHubTest, PeriodicProgressOfIdleWatchersOnly) {
  MakeHub({.progress_interval = minutes(10)});
  TestClient client(*hub_);
  client.Create({.key = "idle", .id = 1, .progress_notify = true});
  client.Create({.key = "busy", .id = 2, .progress_notify = true});
  client.Create({.key = "silent", .id = 3});
  Settle();
  client.Take();
  Put("busy", "x");
  scheduler_.RunFor(minutes(9));
  client.Take();
  scheduler_.RunFor(minutes(2));
  EXPECT_THAT(client.Take(), ElementsAre("progress 1 @2"));
  scheduler_.RunFor(milliseconds(11 * kMinute));
  EXPECT_THAT(client.Take(), ElementsAre("progress 1 @2", "progress 2 @2"));
  client.Close();
  scheduler_.RunFor(minutes(60));
  EXPECT_THAT(client.Take(), IsEmpty());
}

TEST_F(WatchHubTest, OneRevisionIsOneResponse) {
  TestClient client(*hub_);
  client.Create({.key = "a", .range_end = "z"});
  Settle();
  Txn({{false, "b", "1"}, {false, "c", "2"}, {false, "d", "3"}});
  Settle();
  Delete("b", "d");
  Settle();
  EXPECT_THAT(client.Take(), ElementsAre("created 0 @1", "events 0 @2: put b=1/2, put c=2/2, put d=3/2",
                                         "events 0 @3: del b/3, del c/3"));
}

TEST_F(WatchHubTest, FragmentsSplitWhatIsTooLarge) {
  MakeHub({.fragment_bytes = 60});
  TestClient client(*hub_);
  client.Create({.key = "a", .range_end = "z", .id = 1, .fragment = true});
  client.Create({.key = "a", .range_end = "z", .id = 2});
  Settle();
  client.Take();
  Txn({{false, "b", "1"}, {false, "c", std::string(80, 'x')}, {false, "d", "3"}, {false, "e", "4"}});
  Settle();
  const std::string big = "put c=" + std::string(80, 'x') + "/2";
  EXPECT_THAT(client.Take(),
              testing::UnorderedElementsAre("fragment 1 @2: put b=1/2", "fragment 1 @2: " + big,
                                            "events 1 @2: put d=3/2, put e=4/2",
                                            "events 2 @2: put b=1/2, " + big + ", put d=3/2, put e=4/2"));
}

TEST_F(WatchHubTest, SlowStreamWaitsAndOthersDoNot) {
  MakeHub({.max_queued_bytes = 2000});
  TestClient slow(*hub_);
  TestClient fast(*hub_);
  slow.Create({.key = "a"});
  fast.Create({.key = "a"});
  Settle();
  slow.Take();
  fast.Take();
  slow.Hold();
  for (int i = 0; i < 100; ++i) {
    Put("a", std::string(100, 'x'));
    Settle();
  }
  EXPECT_EQ(fast.Take().size(), 100u);
  EXPECT_LT(slow.sink().max_queued, 2400u);
  EXPECT_EQ(hub_->stats().unsynced_watchers, 1);
  slow.Release();
  Settle();
  int64_t revision = 1;
  for (const auto& response : slow.sink().received) {
    for (const auto& event : response.events()) EXPECT_EQ(event.kv().mod_revision(), ++revision);
  }
  EXPECT_EQ(revision, 101);
  EXPECT_EQ(hub_->stats().unsynced_watchers, 0);
  EXPECT_EQ(hub_->stats().events_sent, 200);
}

TEST_F(WatchHubTest, SlowStreamThatCompactionPassesIsCanceled) {
  MakeHub({.max_queued_bytes = 300});
  TestClient client(*hub_);
  client.Create({.key = "a"});
  Settle();
  client.Take();
  client.Hold();
  for (int i = 0; i < 20; ++i) {
    Put("a", std::string(100, 'x'));
    Settle();
  }
  Compact(15);
  Settle();
  client.Release();
  Settle();
  const auto got = client.Take();
  EXPECT_EQ(got.back(), "canceled 0 @0 compacted 15");
}

TEST_F(WatchHubTest, ShutdownFinishesEveryStream) {
  TestClient one(*hub_);
  TestClient two(*hub_);
  one.Create({.key = "a"});
  Settle();
  hub_->Shutdown(absl::StatusCode::kUnavailable, "etcdserver: server stopped");
  TestClient late(*hub_);
  Put("a", "x");
  Settle();
  for (TestClient* client : {&one, &two, &late}) {
    EXPECT_EQ(client->sink().finished, "14: etcdserver: server stopped");
  }
  EXPECT_EQ(hub_->stats().watchers, 0);
}

// Keeps what it is sent as it was sent.
struct KeepBatches final : WatchSink {
  void Send(ResponseBatch responses) override {
    queued += responses.size();
    batches.push_back(std::move(responses));
  }
  size_t queued_bytes() override { return queued; }
  void Finish(absl::StatusCode, std::string_view) override {}

  // The watch IDs of one batch.
  std::vector<int64_t> IdsOf(size_t batch) const {
    std::vector<int64_t> ids;
    batches[batch].ForEach([&](std::string_view message) {
      etcdserverpb::WatchResponse response;
      EXPECT_TRUE(response.ParseFromString(std::string(message)));
      ids.push_back(response.watch_id());
    });
    return ids;
  }

  std::vector<ResponseBatch> batches;
  size_t queued = 0;
};

std::string WatchOf(const std::string& key) {
  etcdserverpb::WatchRequest request;
  request.mutable_create_request()->set_key(key);
  return request.SerializeAsString();
}

TEST_F(WatchHubTest, ManyWatchersShareTheBytesOfAnEvent) {
  std::vector<std::shared_ptr<KeepBatches>> sinks;
  std::vector<std::unique_ptr<WatchStream>> streams;
  for (int i = 0; i < 50; ++i) {
    sinks.push_back(std::make_shared<KeepBatches>());
    streams.push_back(hub_->Open(sinks.back()));
    for (int watches = 0; watches < 3; ++watches) streams.back()->OnRequest(WatchOf("a"));
  }
  Settle();
  Put("a", "x");
  Settle();
  std::set<const char*> bytes;
  for (const auto& sink : sinks) {
    const ResponseBatch& last = sink->batches.back();
    ASSERT_EQ(last.count(), 3u);
    for (size_t i = 0; i < last.count(); ++i) {
      last.ForEachPiece(i, [&](const base::SharedBytes& piece) { bytes.insert(piece.data()); });
    }
  }
  EXPECT_EQ(bytes.size(), 1u);
}

TEST_F(WatchHubTest, WhatOneTaskHasForAStreamIsHandedOverOnce) {
  auto sink = std::make_shared<KeepBatches>();
  auto other = std::make_shared<KeepBatches>();
  const auto stream = hub_->Open(sink);
  const auto other_stream = hub_->Open(other);
  for (int i = 0; i < 3; ++i) stream->OnRequest(WatchOf("a"));
  other_stream->OnRequest(WatchOf("b"));
  stream->OnRequest(WatchOf("b"));
  Settle();
  sink->batches.clear();
  other->batches.clear();
  Txn({{false, "a", "x"}, {false, "b", "y"}});
  Settle();
  ASSERT_EQ(sink->batches.size(), 1u);
  EXPECT_THAT(sink->IdsOf(0), testing::UnorderedElementsAre(0, 1, 2, 3));
  ASSERT_EQ(other->batches.size(), 1u);
  EXPECT_THAT(other->IdsOf(0), testing::ElementsAre(0));
}

// What many watchers are to get of many events is not gathered all at once.
TEST_F(WatchHubTest, ManyDeliveriesGoOutAtARevision) {
  constexpr int kWatchers = 70;
  constexpr int kWrites = 1000;
  MakeHub({.max_queued_bytes = size_t{64} << 20});
  auto sink = std::make_shared<KeepBatches>();
  const auto stream = hub_->Open(sink);
  for (int i = 0; i < kWatchers; ++i) stream->OnRequest(WatchOf("a"));
  Settle();
  sink->batches.clear();
  for (int i = 0; i < kWrites; ++i) Put("a", "x");
  Settle();
  std::map<int64_t, std::vector<int64_t>> revisions;
  size_t most = 0;
  for (const ResponseBatch& batch : sink->batches) {
    batch.ForEach([&](std::string_view message) {
      etcdserverpb::WatchResponse response;
      ASSERT_TRUE(response.ParseFromString(std::string(message)));
      most = std::max(most, static_cast<size_t>(response.events_size()));
      for (const auto& event : response.events()) {
        revisions[response.watch_id()].push_back(event.kv().mod_revision());
      }
    });
  }
  EXPECT_LT(most, static_cast<size_t>(kWrites));
  ASSERT_EQ(revisions.size(), static_cast<size_t>(kWatchers));
  for (const auto& [id, seen] : revisions) {
    ASSERT_EQ(seen.size(), static_cast<size_t>(kWrites));
    EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
    EXPECT_EQ(seen.back() - seen.front(), kWrites - 1);
  }
}

// The stream begins to send before the last of it is made, and what it has not sent by then counts.
TEST_F(WatchHubTest, ManyBytesAreHandedOverInParts) {
  constexpr size_t kLimit = size_t{1} << 20;
  MakeHub({.max_queued_bytes = kLimit});
  auto sink = std::make_shared<KeepBatches>();
  const auto stream = hub_->Open(sink);
  constexpr int kWatchers = 100;
  for (int i = 0; i < kWatchers; ++i) stream->OnRequest(WatchOf("a"));
  Settle();
  sink->batches.clear();
  Put("a", std::string(10'000, 'x'));
  Settle();
  ASSERT_GT(sink->batches.size(), 2u);
  EXPECT_LT(sink->batches[0].size(), size_t{300} << 10);
  size_t responses = 0;
  for (size_t i = 0; i < sink->batches.size(); ++i) {
    responses += sink->IdsOf(i).size();
  }
  EXPECT_EQ(responses, static_cast<size_t>(kWatchers));

  sink->batches.clear();
  sink->queued = kLimit - 600'000;
  Put("a", std::string(10'000, 'y'));
  Settle();
  EXPECT_GT(sink->queued, kLimit);
  EXPECT_LT(sink->queued, kLimit + (size_t{300} << 10));
  EXPECT_GT(hub_->stats().unsynced_watchers, 0);
}

}  // namespace
}  // namespace kvd::server
