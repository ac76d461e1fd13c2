// Faults that etcd has had, each as a test under its number in etcd's tracker.
#include "server/watch/watch_hub.h"
#include "watch_fixture.h"

namespace kvd::server {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<int64_t> Revisions(const TestSink& sink, int64_t id) {
  std::vector<int64_t> revisions;
  for (const auto& r : sink.received) {
    if (r.watch_id() != id) continue;
    for (const auto& e : r.events()) revisions.push_back(e.kv().mod_revision());
  }
  return revisions;
}

std::vector<int64_t> Sequence(int64_t first, int64_t last) {
  std::vector<int64_t> v;
  for (int64_t i = first; i <= last; ++i) v.push_back(i);
  return v;
}

class WatchRegressionTest : public WatchTest {};

// Progress must not run ahead of events that are still to come.
TEST_F(WatchRegressionTest, Etcd15220_ProgressNeverAheadOfUndeliveredEvents) {
  MakeHub({.max_queued_bytes = 300, .slice_events = 4});
  for (int i = 0; i < 50; ++i) Put("a", "v");
  Settle();
  TestClient client(*hub_);
  client.Create({.key = "a", .start = 2});
  client.Progress();  // still behind: no answer
  client.Hold();
  Settle();
  client.Progress();  // blocked: no answer
  Settle();
  for (int i = 0; i < 100 && client.TakeOne(); ++i) {  // every answer is one more message
    Settle();
    client.Progress();
    Settle();
  }
  client.Release();
  int64_t delivered = 1;
  int progress = 0;
  for (const auto& r : client.sink().received) {
    for (const auto& e : r.events()) delivered = e.kv().mod_revision();
    if (!r.created() && r.events_size() == 0) {
      ++progress;
      EXPECT_EQ(delivered, 51) << "progress " << r.header().revision() << " before all events";
    }
  }
  EXPECT_EQ(delivered, 51);
  EXPECT_GE(progress, 1);
}

// A member that was cut off and comes back by snapshot goes on where its watchers were, and never back.
TEST_F(WatchRegressionTest, Etcd15271_NoTimeTravelWhenASnapshotReplacesTheStore) {
  TestClient client(*hub_);
  client.Create({.key = "a", .id = 1});
  client.Create({.key = "a", .start = 9, .id = 2});
  client.Create({.key = "a", .start = 100, .id = 3});
  Settle();
  for (int i = 0; i < 4; ++i) Put("a", std::to_string(i));  // up to 5
  Settle();
  auto other = NewStore(*background_);
  uint64_t index = 0;
  for (int i = 0; i < 10; ++i) Write(*other, ++index, {{false, "a", std::to_string(i)}});  // up to 11
  store_->ReplaceWith(std::move(other), nullptr);
  index_ = index;
  Settle();
  Put("a", "present");
  Settle();
  EXPECT_EQ(Revisions(client.sink(), 1), Sequence(2, 12));
  EXPECT_EQ(Revisions(client.sink(), 2), Sequence(9, 12));
  EXPECT_THAT(Revisions(client.sink(), 3), IsEmpty());
}

TEST_F(WatchRegressionTest, Etcd15271_SnapshotThatHasCompactedTooFarCancels) {
  TestClient client(*hub_);
  client.Create({.key = "a"});
  Settle();
  Put("a", "x");
  Settle();
  auto other = NewStore(*background_);
  uint64_t index = 0;
  for (int i = 0; i < 10; ++i) Write(*other, ++index, {{false, "a", "y"}});
  auto batch = other->BeginApply();
  ASSERT_TRUE(batch.Compact(8).ok());
  batch.Commit({.index = ++index, .term = 1});
  store_->ReplaceWith(std::move(other), nullptr);
  Settle();
  EXPECT_THAT(client.Take(),
              ElementsAre("created 0 @1", "events 0 @2: put a=x/2", "canceled 0 @0 compacted 8"));
}

// The handover from catching up to the present must not repeat an event, at whatever moment a write comes.
TEST_F(WatchRegressionTest, Etcd17247_NoDuplicateWhenCatchUpMeetsWrites) {
  for (int steps = 0; steps < 40; ++steps) {
    SCOPED_TRACE(steps);
    TestClient client(*hub_);
    const int64_t first = store_->current_revision() + 1;
    for (int i = 0; i < 3; ++i) Put("a", "old");
    client.Create({.key = "a", .start = first});
    for (int i = 0; i < steps; ++i) {
      scheduler_.RunOne();
      if (i % 3 == 2) Put("a", "new");
    }
    Put("a", "last");
    Settle();
    EXPECT_EQ(Revisions(client.sink(), 0), Sequence(first, store_->current_revision()));
  }
}

// A consumer that starves while writes go on loses nothing.
TEST_F(WatchRegressionTest, Etcd17529_NothingLostUnderStarvation) {
  MakeHub({.max_queued_bytes = 500, .slice_events = 8, .slice_bytes = 400, .max_backlog_bytes = 3000});
  TestClient client(*hub_);
  client.Create({.key = "a", .range_end = "c", .prev_kv = true});
  Settle();
  client.Hold();
  for (int i = 0; i < 600; ++i) {
    Txn({{false, "a", std::to_string(i)}, {false, "b", std::to_string(i)}});
    if (i % 50 == 49) Settle();  // in between the backlog overflows
    if (i % 7 == 0) client.TakeOne();
    if (i % 11 == 0) scheduler_.RunOne();
  }
  while (true) {
    Settle();
    if (!client.TakeOne()) break;
  }
  std::vector<int64_t> want;
  for (int64_t r = 2; r <= 601; ++r) want.insert(want.end(), {r, r});
  EXPECT_EQ(Revisions(client.sink(), 0), want);
  for (const auto& r : client.sink().received) {
    EXPECT_EQ(r.events_size() % 2, 0) << "a revision was split";
    for (const auto& e : r.events()) EXPECT_EQ(e.has_prev_kv(), e.kv().mod_revision() > 2);
  }
}

// A compaction that lands on a deletion takes no event from a watcher that is entitled to it.
TEST_F(WatchRegressionTest, Etcd18089_EventsAfterACompactionOnADeleteAreThere) {
  Put("a", "1");                     // 2
  const int64_t gone = Delete("a");  // 3
  Put("a", "2");                     // 4
  Delete("a");                       // 5
  Settle();
  Compact(gone);
  Settle();
  TestClient client(*hub_);
  client.Create({.key = "a", .start = gone});
  Settle();
  EXPECT_THAT(client.Take(), ElementsAre("created 0 @5", "events 0 @5: del a/3, put a=2/4, del a/5"));
}

// The deletion that stands exactly at the compacted revision is still delivered.
TEST_F(WatchRegressionTest, Etcd19179_DeleteAtTheCompactedRevisionIsDelivered) {
  Put("a", "1");
  Put("b", "1");
  const int64_t gone = Txn({{true, "a"}, {true, "b"}});
  Settle();
  Compact(gone);
  scheduler_.RunFor(std::chrono::seconds(5));  // the sweep has passed
  TestClient client(*hub_);
  client.Create({.key = "a", .range_end = "c", .start = gone});
  Settle();
  client.Create({.key = "a", .range_end = "c", .start = gone - 1});
  Settle();
  EXPECT_THAT(client.Take(), ElementsAre("created 0 @4", "events 0 @4: del a/4, del b/4", "created 1 @4",
                                         "canceled 1 @0 compacted 4"));
}

// A watch of the future is silent until then: no events, no progress of either kind.
TEST_F(WatchRegressionTest, Etcd20221_FutureWatchIsSilentUntilItsRevision) {
  MakeHub({.progress_interval = std::chrono::seconds(1)});
  TestClient client(*hub_);
  client.Create({.key = "a", .start = 10, .progress_notify = true});
  Settle();
  for (int i = 0; i < 4; ++i) {
    Put("a", "early");
    client.Progress();
    scheduler_.RunFor(std::chrono::seconds(3));
  }
  EXPECT_THAT(client.Take(), ElementsAre("created 0 @1"));
  while (store_->current_revision() < 9) Put("b", "early");
  Settle();
  client.Progress();
  scheduler_.RunFor(std::chrono::seconds(3));
  EXPECT_THAT(client.Take(), IsEmpty());
  Put("a", "now");
  Settle();
  client.Progress();
  Settle();
  EXPECT_THAT(client.Take(), ElementsAre("events 0 @10: put a=now/10", "progress -1 @10"));
}

// A reader that has seen a revision, and then asks for progress, hears of no older one (the watch cache's
// wait).
TEST_F(WatchRegressionTest, Etcd17507_ProgressIsNotBelowWhatWasPublished) {
  for (uint64_t seed = 1; seed < 30; ++seed) {
    TestClient client(*hub_);
    client.Create({.key = "a"});
    for (uint64_t i = 0; i < seed % 7; ++i) scheduler_.RunOne();
    Put("a", "x");
    const int64_t seen = store_->current_revision();
    client.Progress();
    Settle();
    bool answered = false;
    for (const auto& r : client.sink().received) {
      if (r.created() || r.events_size() > 0) continue;
      answered = true;
      EXPECT_GE(r.header().revision(), seen);
    }
    EXPECT_TRUE(answered);
  }
}

}  // namespace
}  // namespace kvd::server
