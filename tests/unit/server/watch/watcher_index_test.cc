#include "server/watch/watcher_index.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/random.h"

namespace kvd::server {
namespace {

using base::KeyInterval;

std::vector<int64_t> Ids(const WatcherIndex& index, std::string_view key) {
  std::vector<int64_t> ids;
  index.Match(key, [&](Watcher& w) {
    ids.push_back(w.id);
    return true;
  });
  return ids;
}

TEST(WatcherIndex, FindsSinglesAndIntervals) {
  WatcherIndex index;
  std::deque<Watcher> watchers(5);
  for (size_t i = 0; i < watchers.size(); ++i) watchers[i].id = static_cast<int64_t>(i);
  index.Insert(watchers[0], KeyInterval::Single("b"));
  index.Insert(watchers[1], KeyInterval::Between("a", "c"));
  index.Insert(watchers[2], KeyInterval::From("b"));
  index.Insert(watchers[3], KeyInterval::All());
  index.Insert(watchers[4], KeyInterval::Between("a", "c"));
  const auto sorted = [&](std::string_view key) {
    const auto ids = Ids(index, key);
    return std::multiset<int64_t>(ids.begin(), ids.end());
  };
  EXPECT_EQ(sorted(""), (std::multiset<int64_t>{3}));
  EXPECT_EQ(sorted("a"), (std::multiset<int64_t>{1, 3, 4}));
  EXPECT_EQ(sorted("b"), (std::multiset<int64_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(sorted(std::string_view("b\0", 2)), (std::multiset<int64_t>{1, 2, 3, 4}));
  EXPECT_EQ(sorted("c"), (std::multiset<int64_t>{2, 3}));
  EXPECT_EQ(WatcherIndex::IntervalOf(watchers[1]).end(), "c");
  EXPECT_TRUE(WatcherIndex::IntervalOf(watchers[2]).is_open());
  EXPECT_TRUE(WatcherIndex::IntervalOf(watchers[0]).is_single());
  for (Watcher& w : watchers) index.Remove(w);
  EXPECT_EQ(Ids(index, "b"), std::vector<int64_t>());
}

TEST(WatcherIndex, AVisitThatReturnsFalseIsTheLast) {
  WatcherIndex index;
  std::deque<Watcher> watchers(9);
  for (size_t i = 0; i < watchers.size(); i += 3) {
    index.Insert(watchers[i], KeyInterval::Single("b"));
    index.Insert(watchers[i + 1], KeyInterval::Between("a", "c"));
    index.Insert(watchers[i + 2], KeyInterval::From(std::string(i / 3 + 1, 'a')));
  }
  for (size_t last = 1; last <= watchers.size(); ++last) {
    size_t visits = 0;
    EXPECT_FALSE(index.Match("b", [&](Watcher&) { return ++visits < last; }));
    EXPECT_EQ(visits, last);
  }
  EXPECT_TRUE(index.Match("b", [](Watcher&) { return true; }));
  for (Watcher& w : watchers) index.Remove(w);
}

TEST(WatcherIndex, MatchesAModelUnderRandomChanges) {
  base::Random random(11);
  WatcherIndex index;
  std::map<int64_t, Watcher> watchers;
  const auto key = [&] { return std::string(1 + random.Below(3), static_cast<char>('a' + random.Below(6))); };
  int64_t next = 0;
  for (int step = 0; step < 10'000; ++step) {
    if (watchers.size() < 300 && random.Chance(0.5)) {
      const std::string start = key();
      const std::string end = key();
      const auto interval = random.Chance(0.3)   ? KeyInterval::Single(start)
                            : random.Chance(0.1) ? KeyInterval::From(start)
                                                 : KeyInterval::Between(start, end);
      if (interval.empty()) continue;
      Watcher& w = watchers[next];
      w.id = next++;
      index.Insert(w, interval);
    } else if (!watchers.empty() && random.Chance(0.5)) {
      auto it = watchers.lower_bound(static_cast<int64_t>(random.Below(static_cast<uint64_t>(next))));
      if (it == watchers.end()) it = watchers.begin();
      index.Remove(it->second);
      watchers.erase(it);
    } else {
      const std::string at = key();
      std::multiset<int64_t> want;
      for (const auto& [id, w] : watchers) {
        if (WatcherIndex::IntervalOf(w).Contains(at)) want.insert(id);
      }
      const auto got = Ids(index, at);
      ASSERT_EQ(std::multiset<int64_t>(got.begin(), got.end()), want) << "key " << at << ", step " << step;
    }
  }
  for (auto& [id, w] : watchers) index.Remove(w);
}

}  // namespace
}  // namespace kvd::server
