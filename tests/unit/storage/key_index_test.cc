#include "storage/key_index.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "base/random.h"

namespace kvd::storage {
namespace {

// The dumb index: every key with all its versions.
class Oracle {
 public:
  std::map<std::string, std::vector<KeyVersion>> keys;

  const KeyVersion* Find(const std::string& key, int64_t revision) const {
    auto it = keys.find(key);
    const KeyVersion* found = nullptr;
    if (it == keys.end()) return nullptr;
    for (const KeyVersion& v : it->second) {
      if (v.mod_main <= revision) found = &v;
    }
    return found;
  }
  LiveSum SumLive(const base::KeyInterval& interval) const {
    LiveSum sum;
    for (const auto& [key, versions] : keys) {
      const KeyVersion& newest = versions.back();
      if (!interval.Contains(key) || newest.tombstone) continue;
      const int64_t length_of_length = newest.record_bytes < 128 ? 1 : newest.record_bytes < 16384 ? 2 : 3;
      sum += {1, 1 + length_of_length + static_cast<int64_t>(newest.record_bytes)};
    }
    return sum;
  }
  std::vector<std::string> LiveAt(const base::KeyInterval& interval, int64_t revision) const {
    std::vector<std::string> live;
    for (const auto& [key, versions] : keys) {
      const KeyVersion* v = Find(key, revision);
      if (v && !v->tombstone && interval.Contains(key)) live.push_back(key);
    }
    return live;
  }
  // Drops by the words of the contract, one rule at a time.
  size_t Sweep(int64_t compact, const std::vector<int64_t>& pins) {
    size_t dropped = 0;
    for (auto it = keys.begin(); it != keys.end();) {
      std::vector<KeyVersion> kept;
      std::vector<KeyVersion>& all = it->second;
      bool older_kept = false;
      for (size_t i = 0; i < all.size(); ++i) {
        bool is_newest = i + 1 == all.size() || all[i + 1].mod_main > compact;
        bool keep;
        if (all[i].mod_main > compact) {
          keep = true;
        } else if (is_newest) {
          keep = !all[i].tombstone || all[i].mod_main == compact || older_kept;
        } else {
          keep = false;
          for (int64_t pin : pins) keep |= pin >= all[i].mod_main && pin < all[i + 1].mod_main;
          older_kept |= keep;
        }
        if (keep) {
          kept.push_back(all[i]);
        } else {
          ++dropped;
        }
      }
      all = kept;
      it = all.empty() ? keys.erase(it) : std::next(it);
    }
    return dropped;
  }
};

std::string SomeKey(base::Random& random, uint64_t space) {
  std::string key = "/k/" + std::to_string(random.Below(space));
  if (random.Chance(0.1)) key.push_back('\0');
  if (random.Chance(0.05)) key = std::string(1, static_cast<char>(0xff)) + key;
  return key;
}

base::KeyInterval SomeInterval(base::Random& random, uint64_t space, std::string* a, std::string* b) {
  *a = SomeKey(random, space);
  *b = SomeKey(random, space);
  switch (random.Below(5)) {
    case 0:
      return base::KeyInterval::Single(*a);
    case 1:
      return base::KeyInterval::From(*a);
    case 2:
      return base::KeyInterval::All();
    default:
      return base::KeyInterval::Between(*a, *b);
  }
}

std::vector<std::string> WalkAll(const KeyIndex& index, const base::KeyInterval& interval, int64_t revision,
                                 size_t slice) {
  std::vector<std::string> keys;
  std::string resume, next;
  while (!index.Walk(
      interval, resume, revision, slice,
      [&](std::string_view key, const KeyVersion&) {
        keys.emplace_back(key);
        return true;
      },
      &next)) {
    resume = next;
  }
  return keys;
}

void ExpectEqual(const KeyIndex& index, const Oracle& oracle, base::Random& random, uint64_t space,
                 int64_t top) {
  ASSERT_EQ(index.keys(), static_cast<int64_t>(oracle.keys.size()));
  ASSERT_EQ(index.live_keys(), oracle.SumLive(base::KeyInterval::All()).keys);
  for (int i = 0; i < 20; ++i) {
    std::string a, b;
    base::KeyInterval interval = SomeInterval(random, space, &a, &b);
    const LiveSum want_sum = oracle.SumLive(interval);
    ASSERT_EQ(index.CountLive(interval), want_sum.keys) << a << " " << b;
    ASSERT_EQ(index.SumLive(interval), want_sum) << a << " " << b;
    int64_t revision = static_cast<int64_t>(random.Below(static_cast<uint64_t>(top) + 2));
    ASSERT_EQ(WalkAll(index, interval, revision, 1 + random.Below(100)), oracle.LiveAt(interval, revision));
    const KeyVersion* got = index.Find(a, revision);
    const KeyVersion* want = oracle.Find(a, revision);
    ASSERT_EQ(got == nullptr, want == nullptr) << a << "@" << revision;
    if (got) {
      ASSERT_EQ(got->revision(), want->revision());
      ASSERT_EQ(got->tombstone, want->tombstone);
      ASSERT_EQ(got->version, want->version);
    }
  }
}

class KeyIndexProperty : public ::testing::TestWithParam<uint64_t> {};

TEST_P(KeyIndexProperty, EqualsAnOrderedMap_UnderChangesSweepsAndReloads) {
  base::Random random(GetParam());
  const uint64_t space = random.Chance(0.5) ? 30 : 5'000;
  auto index = std::make_unique<KeyIndex>();
  Oracle oracle;
  int64_t revision = 1;
  for (int step = 0; step < 25; ++step) {
    for (int i = 0; i < 300; ++i) {
      ++revision;
      std::string key = SomeKey(random, space);
      auto it = oracle.keys.find(key);
      bool live = it != oracle.keys.end() && !it->second.back().tombstone;
      KeyVersion v;
      v.mod_main = revision;
      v.mod_sub = static_cast<uint32_t>(random.Below(3));
      if (live && random.Chance(0.4)) {
        v.tombstone = true;
      } else {
        v.version = live ? it->second.back().version + 1 : 1;
        v.create_main = live ? it->second.back().create_main : revision;
        v.set_record_bytes(random.Below(random.Chance(0.1) ? 100'000 : 300));
      }
      LiveSum change{v.tombstone ? 0 : 1, v.listed_bytes()};
      if (live) change -= {1, it->second.back().listed_bytes()};
      oracle.keys[key].push_back(v);
      ASSERT_EQ(index->Append(key, v), change);
    }
    if (random.Chance(0.4)) {
      int64_t compact = static_cast<int64_t>(random.Between(1, static_cast<uint64_t>(revision)));
      std::vector<int64_t> pins;
      while (random.Chance(0.4)) {
        pins.push_back(static_cast<int64_t>(random.Below(static_cast<uint64_t>(compact))));
      }
      std::sort(pins.begin(), pins.end());
      std::vector<DeadVersion> dead;
      bool kept = false;
      std::string resume, next;
      while (!index->Sweep(compact, pins, resume, 1 + random.Below(200), &dead, &kept, &next)) resume = next;
      ASSERT_EQ(dead.size(), oracle.Sweep(compact, pins));
    }
    if (random.Chance(0.2)) {
      auto loaded = std::make_unique<KeyIndex>();
      for (const auto& [key, versions] : oracle.keys) {
        KeyVersion latest = versions.back();
        latest.mod_sub = 0;  // a latest record does not know it
        if (!latest.tombstone) loaded->LoadLatest(key, latest);
      }
      std::map<std::pair<Revision, std::string>, KeyVersion> history;
      for (const auto& [key, versions] : oracle.keys) {
        for (const KeyVersion& v : versions) history[{v.revision(), key}] = v;
      }
      for (const auto& [at, v] : history) loaded->LoadVersion(at.second, v);
      ASSERT_TRUE(loaded->FinishLoad());
      index = std::move(loaded);
    }
    ASSERT_NO_FATAL_FAILURE(ExpectEqual(*index, oracle, random, space, revision));
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, KeyIndexProperty, ::testing::Range<uint64_t>(1, 13));

// Keys of one transaction in any order, one of them deleted and put again within it.
TEST(KeyIndexTest, Load_OfLargeTransactions_FindsEachKeysVersions) {
  constexpr uint32_t kKeys = 300;
  KeyIndex index;
  auto key = [](uint32_t i) { return "k" + std::to_string(1000 + i); };
  for (uint32_t i = 0; i < kKeys; ++i)
    index.LoadLatest(key(i), {.mod_main = 9, .create_main = 9, .version = 1});
  index.LoadVersion(key(7), {.mod_main = 8, .create_main = 8, .version = 1});
  index.LoadVersion(key(7), {.mod_main = 9, .mod_sub = 0, .tombstone = true});
  for (uint32_t i = 0; i < kKeys; ++i) {
    index.LoadVersion(key(i * 7 % kKeys), {.mod_main = 9, .create_main = 9, .version = 1, .mod_sub = i + 1});
  }
  index.LoadVersion("gone", {.mod_main = 10, .tombstone = true});
  ASSERT_TRUE(index.FinishLoad());
  EXPECT_EQ(index.live_keys(), kKeys);
  EXPECT_EQ(index.keys(), kKeys + 1);
  for (uint32_t i = 0; i < kKeys; ++i) {
    EXPECT_EQ(index.FindLatest(key(i * 7 % kKeys))->mod_sub, i + 1);
  }
  ASSERT_EQ(index.Versions(key(7)).size(), 3u);
  EXPECT_EQ(index.Find(key(7), 8)->mod_main, 8);
}

TEST(KeyIndexTest, RecordBytes_BeyondItsBits_SaysThatItIsLong) {
  KeyVersion version;
  version.set_record_bytes(KeyVersion::kLongRecord - 1);
  EXPECT_EQ(version.record_bytes, KeyVersion::kLongRecord - 1);
  version.set_record_bytes(size_t{3} << 30);
  EXPECT_EQ(version.record_bytes, KeyVersion::kLongRecord);
}

TEST(KeyIndexTest, Load_LatestThatTheHistoryLacks_IsTold) {
  KeyIndex index;
  index.LoadLatest("a", {.mod_main = 2, .create_main = 2, .version = 1});
  index.LoadLatest("b", {.mod_main = 3, .create_main = 3, .version = 1});
  index.LoadVersion("a", {.mod_main = 2, .create_main = 2, .version = 1});
  EXPECT_FALSE(index.FinishLoad());
}

TEST(KeyIndexTest, Sweep_TakesAllKeys_LeavesAnEmptyIndex) {
  KeyIndex index;
  int64_t revision = 1;
  for (int i = 0; i < 20'000; ++i) {
    index.Append("k" + std::to_string(i), {.mod_main = ++revision, .create_main = revision, .version = 1});
  }
  for (int i = 0; i < 20'000; ++i)
    index.Append("k" + std::to_string(i), {.mod_main = ++revision, .tombstone = true});
  EXPECT_EQ(index.live_keys(), 0);
  size_t full = index.memory_bytes();
  std::vector<DeadVersion> dead;
  bool kept = false;
  std::string resume, next;
  while (!index.Sweep(revision + 1, {}, resume, 1000, &dead, &kept, &next)) resume = next;
  EXPECT_EQ(dead.size(), 40'000u);
  EXPECT_EQ(index.keys(), 0);
  EXPECT_LT(index.memory_bytes(), full / 100);
  index.Append("again", {.mod_main = revision + 2, .create_main = revision + 2, .version = 1});
  EXPECT_EQ(index.CountLive(base::KeyInterval::All()), 1);
}

TEST(KeyIndexTest, MemoryOfAKeyWithOneVersion_IsWithinItsBudget) {
  KeyIndex index;
  constexpr int kKeys = 100'000;
  size_t key_bytes = 0;
  for (int i = 0; i < kKeys; ++i) {
    std::string key = "/registry/pods/default/" + std::to_string(i * 7919 % kKeys);
    key_bytes += key.size();
    index.Append(key, {.mod_main = i + 2, .create_main = i + 2, .version = 1});
  }
  EXPECT_LE(index.memory_bytes() - key_bytes, 100u * kKeys);
}

}  // namespace
}  // namespace kvd::storage
