// Power losses at any moment of a log's life, one seed each: what was synced is there afterwards, what
// follows is a prefix of what was appended, and the log goes on.
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <set>

#include "base/random.h"
#include "base/sim_executor.h"
#include "base/strings.h"
#include "wal/wal.h"
#include "wal_fixture.h"

namespace kvd::wal {
namespace {

using CrashOptions = base::MemFileSystem::CrashOptions;

class WalCrashTest : public WalFixture {};

// What a log holds at one point of its life.
struct Expected {
  HardState state;
  std::map<uint64_t, Entry> entries;
  SnapshotMarker marker;

  void Append(const Entry& e) {
    entries.erase(entries.lower_bound(e.index), entries.end());
    entries[e.index] = e;
  }
  std::string ToString() const {
    std::string text =
        base::StrCat("marker ", marker.index, " term ", state.term, " commit ", state.commit, ":");
    for (const auto& [index, e] : entries) base::StrAppend(&text, " ", index, "@", e.term);
    return text;
  }
};

class CrashingLog {
 public:
  explicit CrashingLog(uint64_t seed)
      : random_(seed), world_(seed), background_(world_.NewExecutor("background")) {
    fs_ = std::make_unique<base::MemFileSystem>();
    options_.segment_bytes = random_.Between(1, 4) * 4096;
    options_.max_segments = static_cast<uint32_t>(random_.Below(4));
    if (random_.Chance(0.5)) options_.background = background_.get();
  }

  void Go() {
    for (int life = 0; life < 6 && !testing::Test::HasFailure(); ++life) {
      StartLife();
      if (!wal_) return;  // reported
      const uint64_t steps = random_.Below(60);
      for (uint64_t i = 0; i < steps; ++i) Step();
      EndLife();
    }
  }

 private:
  void StartLife() {
    if (!created_) {
      auto wal = Wal::Create(*fs_, kDir, "metadata", options_);
      ASSERT_TRUE(wal.ok()) << wal.status();
      wal_ = *std::move(wal);
      created_ = true;
      return;
    }
    auto markers = Wal::ReadSnapshotMarkers(*fs_, kDir);
    ASSERT_TRUE(markers.ok()) << markers.status();
    ASSERT_FALSE(markers->empty());
    // A snapshot whose hard state did not make it was never installed, and what came later may contradict it
    // here (in a cluster it cannot).
    if (installing_ && !(markers->back() == *installing_)) abandoned_.insert(installing_->conf_state);
    installing_.reset();
    std::erase_if(*markers, [&](const SnapshotMarker& m) { return abandoned_.contains(m.conf_state); });
    const SnapshotMarker marker = markers->back();
    EXPECT_GE(marker.index, synced_.marker.index);
    auto opened = Wal::Open(*fs_, kDir, marker, options_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    wal_ = std::move(opened->wal);
    Check(opened->contents, marker);
  }

  // The log must be at the synced point or at one of those after it.
  void Check(const Contents& found, const SnapshotMarker& marker) {
    EXPECT_EQ(found.metadata, "metadata");
    Expected now{found.hard_state, {}, marker};
    for (const Entry& e : found.entries) now.entries[e.index] = e;
    bool matches = Matches(synced_, now);
    for (const Expected& point : unsynced_) matches = matches || Matches(point, now);
    EXPECT_TRUE(matches) << "found " << now.ToString() << "\nsynced " << synced_.ToString();
    // Entries up to the marker are not read back; a later run may not overwrite them anyway.
    latest_ = synced_ = std::move(now);
    unsynced_.clear();
  }

  static bool Matches(const Expected& point, const Expected& found) {
    const std::map<uint64_t, Entry> behind(point.entries.upper_bound(found.marker.index),
                                           point.entries.end());
    // The term of an entry whose hard state the crash has taken is entered on opening.
    HardState state = point.state;
    if (state.term > 0 && !behind.empty() && behind.rbegin()->second.term > state.term) {
      state = {behind.rbegin()->second.term, 0, state.commit};
    }
    return behind == found.entries && state == found.state && point.marker.index <= found.marker.index;
  }

  uint64_t LastIndex() const {
    return latest_.entries.empty() ? latest_.marker.index : latest_.entries.rbegin()->first;
  }

  void Append() {
    const uint64_t last = LastIndex();
    uint64_t first = last + 1;
    // Sometimes a new leader overwrites what is not committed.
    if (random_.Chance(0.1) && latest_.state.commit < last)
      first = random_.Between(latest_.state.commit + 1, last);
    // The hard state of the last entry's term may be what a crash has taken.
    uint64_t entered = latest_.state.term;
    if (!latest_.entries.empty()) entered = std::max(entered, latest_.entries.rbegin()->second.term);
    entered = std::max(entered, latest_.marker.term);
    const uint64_t term = entered + (first <= last ? 1 : random_.Below(2));
    std::vector<Entry> batch;
    for (uint64_t i = first, n = random_.Below(4); n > 0; --n, ++i) {
      batch.push_back(MakeEntry(i, term, random_.Chance(0.1) ? random_.Below(6000) : random_.Below(200)));
    }
    const uint64_t end = batch.empty() ? last : batch.back().index;
    const HardState state{term, random_.Below(3), random_.Between(latest_.state.commit, end)};
    ASSERT_TRUE(wal_->Append(&state, batch).ok());
    for (const Entry& e : batch) {
      latest_.Append(e);
      unsynced_.push_back(latest_);
    }
    latest_.state = state;
    unsynced_.push_back(latest_);
  }

  void Sync() {
    ASSERT_TRUE(wal_->Sync().ok());
    synced_ = latest_;
    unsynced_.clear();
  }

  void Snapshot() {
    if (latest_.state.commit <= latest_.marker.index) return;
    const uint64_t index = random_.Between(latest_.marker.index + 1, latest_.state.commit);
    if (!latest_.entries.contains(index)) return;
    const SnapshotMarker marker{index, latest_.entries[index].term, "conf"};
    latest_.marker = marker;
    ASSERT_TRUE(wal_->SaveSnapshot(marker).ok());
    synced_ = latest_;
    unsynced_.clear();
    wal_->ReleaseTo(marker.index);
  }

  // A leader's snapshot replaces the log.
  void Install() {
    const SnapshotMarker marker{latest_.state.commit + random_.Between(1, 10), latest_.state.term + 1,
                                base::StrCat("installed ", ++installs_)};
    installing_ = marker;
    unsynced_.push_back(latest_);
    ASSERT_TRUE(wal_->SaveSnapshot(marker).ok());
    const HardState state{marker.term, 0, marker.index};
    latest_ = {state, {}, marker};
    unsynced_.push_back(latest_);
    ASSERT_TRUE(wal_->Append(&state, {}).ok());
    Sync();
    if (!crashed_) installing_.reset();
  }

  void Step() {
    if (random_.Chance(0.02)) return Install();
    switch (random_.Below(10)) {
      case 0:
        return Snapshot();
      case 1:
      case 2:
      case 3:
        return Sync();
      case 4:
        world_.RunFor(base::Nanos(1));
        return;
      default:
        return Append();
    }
  }

  // Power is lost at a random operation of a last few steps, or the process just ends.
  void EndLife() {
    std::unique_ptr<base::MemFileSystem> after;
    const CrashOptions how{.keep_write = random_.Below(5) / 4.0,
                           .tear_write = random_.Below(3) / 2.0,
                           .keep_directory_op = random_.Below(3) / 2.0};
    std::optional<std::pair<Expected, std::vector<Expected>>> then;
    uint64_t left = random_.Below(40);
    if (random_.Chance(0.9)) {
      fs_->SetFaultHook([&](base::MemFileSystem::Op, const std::string&) {
        if (left-- == 0) {
          crashed_ = true;
          after = fs_->CrashClone(random_, how);
          then.emplace(synced_, unsynced_);
        }
        return absl::OkStatus();
      });
      for (int i = 0; i < 200 && !after && !testing::Test::HasFailure(); ++i) Step();
      fs_->SetFaultHook(nullptr);
    }
    crashed_ = false;
    wal_.reset();
    world_.RunFor(base::Nanos(1));
    if (after) {
      fs_ = std::move(after);
      synced_ = std::move(then->first);
      unsynced_ = std::move(then->second);
    }
  }

  base::Random random_;
  base::SimScheduler world_;
  std::unique_ptr<base::Executor> background_;
  std::unique_ptr<base::MemFileSystem> fs_;
  Options options_;
  std::unique_ptr<Wal> wal_;
  bool created_ = false;
  bool crashed_ = false;  // what happens from here on is lost
  uint64_t installs_ = 0;
  std::optional<SnapshotMarker> installing_;
  std::set<std::string> abandoned_;
  Expected synced_;                 // safe
  Expected latest_;                 // appended
  std::vector<Expected> unsynced_;  // each point on the way from one to the other
};

TEST_F(WalCrashTest, SyncedRecords_SurviveAnyPowerLoss) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(seed);
    CrashingLog(seed).Go();
    if (HasFailure()) return;
  }
}

TEST_F(WalCrashTest, Create_LeavesAWholeLogOrNone) {
  for (uint64_t stop = 0;; ++stop) {
    bool crashed = false;
    for (uint64_t seed = 0; seed < 20; ++seed) {
      base::Random random(seed);
      base::MemFileSystem fs;
      std::unique_ptr<base::MemFileSystem> after;
      uint64_t left = stop;
      fs.SetFaultHook([&](base::MemFileSystem::Op, const std::string&) {
        if (left-- == 0) after = fs.CrashClone(random, {0.5, 0.5, 0.5});
        return absl::OkStatus();
      });
      ASSERT_TRUE(Wal::Create(fs, kDir, "metadata", options_).ok());
      fs.SetFaultHook(nullptr);
      if (!after) continue;
      crashed = true;
      auto exists = Wal::Exists(*after, kDir);
      ASSERT_TRUE(exists.ok());
      if (*exists) {
        auto opened = Wal::Open(*after, kDir, {}, options_);
        ASSERT_TRUE(opened.ok()) << stop << " " << opened.status();
        EXPECT_EQ(opened->contents.metadata, "metadata");
      } else {
        auto created = Wal::Create(*after, kDir, "metadata", options_);
        ASSERT_TRUE(created.ok()) << stop << " " << created.status();
      }
    }
    if (!crashed) break;
  }
}

// A disk that says it has synced and has not: the log is shorter than the mark, or the member would not know.
TEST_F(WalCrashTest, LyingSync_IsFoundOutOrLeavesAPrefix) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    base::Random random(seed);
    base::MemFileSystem fs;
    auto wal = Wal::Create(fs, kDir, "metadata", options_);
    ASSERT_TRUE(wal.ok());
    fs.SetLyingSync(true);
    for (uint64_t i = 1; i <= 10; ++i) MustSave(**wal, {1, 1, i}, {MakeEntry(i, 1, 300)});
    auto after = fs.CrashClone(random, {0.7, 0.5, 1});
    auto opened = Wal::Open(*after, kDir, {}, options_);
    if (!opened.ok()) {
      EXPECT_TRUE(absl::IsDataLoss(opened.status())) << opened.status();
      continue;
    }
    const size_t n = opened->contents.entries.size();
    EXPECT_EQ(opened->contents.entries, MakeEntries(1, n, 1, 300));
  }
}

}  // namespace
}  // namespace kvd::wal
