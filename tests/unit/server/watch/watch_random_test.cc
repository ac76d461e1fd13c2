// Random writes, compactions, watches, slow and fast peers, under many schedules; every watcher must get
// exactly the part of history that it asked for, in order, each revision whole.
#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/key_interval.h"
#include "base/random.h"
#include "watch_fixture.h"

namespace kvd::server {
namespace {

struct Change {
  int64_t revision;
  bool is_delete;
  std::string key;
  std::string value;
  std::optional<std::string> previous;  // unless it is a creation
};

class History {
 public:
  void Add(int64_t revision, const std::vector<Op>& ops) {
    const auto before = live_;
    for (const Op& op : ops) {
      if (!op.is_delete) {
        Note(before, {revision, false, op.key, op.value_or_end, {}});
        live_[op.key] = op.value_or_end;
        continue;
      }
      const auto interval = base::KeyInterval::FromRequest(op.key, op.value_or_end);
      for (auto it = live_.begin(); it != live_.end();) {
        if (interval.Contains(it->first)) {
          Note(before, {revision, true, it->first, "", {}});
          it = live_.erase(it);
        } else {
          ++it;
        }
      }
    }
  }
  const std::vector<Change>& changes() const { return changes_; }
  bool Lives(const std::string& key) const { return live_.contains(key); }

 private:
  void Note(const std::map<std::string, std::string>& before, Change change) {
    const auto it = before.find(change.key);
    if (it != before.end()) change.previous = it->second;
    changes_.push_back(std::move(change));
  }
  std::map<std::string, std::string> live_;
  std::vector<Change> changes_;
};

struct Asked {
  TestClient::Watch watch;
  bool canceled = false;
};

struct Peer {
  explicit Peer(WatchHub& hub) : client(std::make_unique<TestClient>(hub)) {}
  std::unique_ptr<TestClient> client;
  std::map<int64_t, Asked> asked;  // every ID of this stream is used once
  int64_t next_id = 1;
};

class WatchRandomTest : public WatchTest, public testing::WithParamInterface<int> {
 protected:
  WatchRandomTest()
      : WatchTest({.max_queued_bytes = 900,
                   .fragment_bytes = 120,
                   .progress_interval = std::chrono::milliseconds(200),
                   .slice_events = 6,
                   .slice_bytes = 300,
                   .max_backlog_bytes = 4000},
                  static_cast<uint64_t>(GetParam()),
                  GetParam() % 2 == 0 ? EngineKind::kRocks : EngineKind::kModel),
        random_(static_cast<uint64_t>(GetParam())) {}

  std::string Key() { return std::string(1, static_cast<char>('a' + random_.Below(8))); }

  void RandomWrite() {
    std::vector<Op> ops;
    std::string used;
    const uint64_t n = random_.Chance(0.3) ? 1 + random_.Below(5) : 1;
    for (uint64_t i = 0; i < n; ++i) {
      const std::string key = Key();
      if (used.find(key) != std::string::npos) continue;
      used += key;
      if (random_.Chance(0.7)) {
        ops.push_back(
            {false, key, std::to_string(random_.Below(1000)) + std::string(random_.Below(40), '.')});
      } else if (history_.Lives(key)) {
        ops.push_back({true, key});
      }
    }
    if (ops.empty()) return;
    const int64_t before = store_->current_revision();
    const int64_t revision = Txn(ops);
    ASSERT_EQ(revision, before + 1);
    history_.Add(revision, ops);
  }

  void RandomWatch() {
    Peer& peer = *peers_[random_.Below(peers_.size())];
    const int64_t current = store_->current_revision();
    TestClient::Watch w{.key = Key(), .id = peer.next_id++};
    if (random_.Chance(0.6)) {
      w.range_end = random_.Chance(0.3) ? std::string("\0", 1) : Key();
      if (w.range_end <= w.key && w.range_end[0] != '\0') std::swap(w.key, w.range_end);
      if (w.range_end == w.key) w.range_end += "x";
    }
    const double draw = random_.Unit();
    if (draw < 0.5) {
      w.start = static_cast<int64_t>(1 + random_.Below(static_cast<uint64_t>(current) + 1));
    } else if (draw < 0.7) {
      w.start = current + static_cast<int64_t>(random_.Below(20));
    }
    w.prev_kv = random_.Chance(0.5);
    w.progress_notify = random_.Chance(0.3);
    w.fragment = random_.Chance(0.3);
    w.no_put = random_.Chance(0.1);
    w.no_delete = random_.Chance(0.1);
    peer.asked[w.id].watch = w;
    peer.client->Create(w);
  }

  void Step() {
    const double draw = random_.Unit();
    Peer& peer = *peers_[random_.Below(peers_.size())];
    if (draw < 0.35) {
      RandomWrite();
    } else if (draw < 0.40) {
      RandomWatch();
    } else if (draw < 0.42) {
      if (peer.next_id > 1) {
        const auto id = static_cast<int64_t>(1 + random_.Below(static_cast<uint64_t>(peer.next_id)));
        peer.client->Cancel(id);
      }
    } else if (draw < 0.43) {
      const int64_t current = store_->current_revision();
      const int64_t at = current - static_cast<int64_t>(random_.Below(60));
      if (at > store_->compact_revision() && at > 0) Compact(at);
    } else if (draw < 0.46) {
      peer.client->Hold();
    } else if (draw < 0.48) {
      peer.client->Release();
    } else if (draw < 0.60) {
      peer.client->TakeOne();
    } else if (draw < 0.63) {
      peer.client->Progress();
    } else if (draw < 0.64) {
      scheduler_.RunFor(std::chrono::milliseconds(random_.Below(300)));
    } else {
      scheduler_.RunOne();
    }
  }

  std::vector<Change> Expected(const TestClient::Watch& w, int64_t start) const {
    std::vector<Change> out;
    const auto interval = base::KeyInterval::FromRequest(w.key, w.range_end);
    for (const Change& c : history_.changes()) {
      if (c.revision < start || !interval.Contains(c.key)) continue;
      if (c.is_delete ? w.no_delete : w.no_put) continue;
      out.push_back(c);
    }
    return out;
  }

  void CheckPeer(Peer& peer);

  base::Random random_;
  History history_;
  std::vector<std::unique_ptr<Peer>> peers_;
};

// What the checker keeps of one watch while it walks over the stream's responses.
struct Progressing {
  bool created = false;
  bool ended = false;
  bool was_canceled_after = false;
  int64_t compacted = 0;
  int64_t start = 0;
  std::vector<Change> want;
  size_t got = 0;
  int64_t last_revision = 0;  // of the last whole response
  bool in_fragments = false;
};

void WatchRandomTest::CheckPeer(Peer& peer) {
  std::map<int64_t, Progressing> watches;
  // Everything of this watch up to `revision` is there.
  const auto complete = [&](const Progressing& p, int64_t revision) {
    return p.got == p.want.size() || p.want[p.got].revision > revision;
  };
  for (const auto& r : peer.client->sink().received) {
    if (r.watch_id() == -1) {
      ASSERT_FALSE(r.canceled());
      for (const auto& [id, p] : watches) {
        EXPECT_TRUE(p.ended || complete(p, r.header().revision())) << "progress ahead of watch " << id;
      }
      continue;
    }
    Progressing& p = watches[r.watch_id()];
    const auto& asked = peer.asked.at(r.watch_id()).watch;
    if (r.created()) {
      ASSERT_FALSE(p.created);
      p.created = true;
      p.start = asked.start != 0 ? asked.start : r.header().revision() + 1;
      p.want = Expected(asked, p.start);
      continue;
    }
    ASSERT_TRUE(p.created) << "events before created";
    if (p.compacted != 0 && r.canceled() && !std::exchange(p.was_canceled_after, true)) {
      EXPECT_EQ(r.compact_revision(), 0);  // the client cancels what compaction has ended
      continue;
    }
    ASSERT_FALSE(p.ended) << "something after the end of watch " << r.watch_id();
    if (r.canceled()) {
      p.ended = true;
      p.compacted = r.compact_revision();
      EXPECT_FALSE(p.in_fragments);
      if (p.compacted != 0) {
        EXPECT_LE(p.compacted, store_->compact_revision());
        EXPECT_LT(p.last_revision, p.compacted);
        EXPECT_LT(p.start, p.compacted);
      }
      continue;
    }
    for (const auto& e : r.events()) {
      ASSERT_LT(p.got, p.want.size());
      const Change& want = p.want[p.got++];
      ASSERT_EQ(e.kv().mod_revision(), want.revision);
      ASSERT_EQ(e.kv().key(), want.key);
      ASSERT_EQ(e.kv().value(), want.value);
      ASSERT_EQ(e.type() == mvccpb::Event::DELETE, want.is_delete);
      if (e.has_prev_kv()) {
        EXPECT_TRUE(asked.prev_kv);
        EXPECT_EQ(e.prev_kv().value(), want.previous);
        EXPECT_EQ(e.prev_kv().key(), want.key);
      } else if (asked.prev_kv && want.previous) {
        EXPECT_LT(want.revision - 1, store_->compact_revision()) << "no previous value";
      }
    }
    if (r.events_size() == 0) {
      EXPECT_TRUE(asked.progress_notify);
      EXPECT_TRUE(complete(p, r.header().revision()));
      EXPECT_GE(r.header().revision(), p.start - 1);
      continue;
    }
    EXPECT_GE(r.header().revision(), p.want[p.got - 1].revision);
    p.in_fragments = r.fragment();
    if (r.fragment()) {
      EXPECT_TRUE(asked.fragment);
      continue;
    }
    p.last_revision = p.want[p.got - 1].revision;
    EXPECT_TRUE(complete(p, p.last_revision)) << "a revision was split";
  }
  for (const auto& [id, asked] : peer.asked) {
    const Progressing& p = watches[id];
    EXPECT_TRUE(p.created);
    EXPECT_FALSE(p.in_fragments);
    EXPECT_TRUE(p.ended || p.got == p.want.size()) << "watch " << id << " misses events";
  }
}

TEST_P(WatchRandomTest, EveryWatcherGetsItsPartOfHistory) {
  for (int i = 0; i < 4; ++i) peers_.push_back(std::make_unique<Peer>(*hub_));
  for (int i = 0; i < 2000; ++i) Step();
  for (int round = 0; round < 3; ++round) {
    for (auto& peer : peers_) peer->client->Release();
    scheduler_.RunFor(std::chrono::milliseconds(500));
  }
  for (auto& peer : peers_) {
    peer->client->Release();
    CheckPeer(*peer);
  }
  EXPECT_EQ(hub_->stats().unsynced_watchers, 0);
  EXPECT_EQ(hub_->stats().backlog_events, 0);
}

// Odd seeds run on the model engine, even ones on RocksDB.
INSTANTIATE_TEST_SUITE_P(Seeds, WatchRandomTest, testing::Range(1, 31));

}  // namespace
}  // namespace kvd::server
