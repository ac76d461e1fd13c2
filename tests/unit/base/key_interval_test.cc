#include "base/key_interval.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace kvd::base {
namespace {

const std::string kZero(1, '\0');

// Every string of at most three letters of a small alphabet that has both ends of the byte range in it. The
// intervals below are spelled with the shorter ones, so a key lies between any two that differ as sets.
std::vector<std::string> Words(size_t longest) {
  const std::string alphabet = {'\0', 'a', '\xff'};
  std::vector<std::string> words = {""};
  for (size_t from = 0, length = 1; length <= longest; ++length) {
    const size_t to = words.size();
    for (; from < to; ++from) {
      for (char c : alphabet) words.push_back(words[from] + c);
    }
  }
  return words;
}

std::set<std::string> KeysOf(const KeyInterval& interval, const std::vector<std::string>& universe) {
  std::set<std::string> keys;
  for (const std::string& key : universe) {
    if (interval.Contains(key)) keys.insert(key);
  }
  return keys;
}

TEST(KeyInterval, FromRequest_Spellings) {
  EXPECT_TRUE(KeyInterval::FromRequest("k", "").is_single());
  EXPECT_TRUE(KeyInterval::FromRequest("k", kZero).is_open());
  EXPECT_FALSE(KeyInterval::FromRequest("k", kZero).Contains("j"));
  EXPECT_TRUE(KeyInterval::FromRequest(kZero, kZero).Contains(""));
  EXPECT_TRUE(KeyInterval::FromRequest("b", "a").empty());
  EXPECT_TRUE(KeyInterval::FromRequest("a", "a").empty());
  EXPECT_FALSE(KeyInterval::FromRequest("a", "b").empty());
}

TEST(KeyInterval, CoversAndOverlaps_EqualTheSetsOfKeys) {
  const std::vector<std::string> universe = Words(4);
  std::vector<KeyInterval> intervals;
  const std::vector<std::string> bounds = Words(2);
  for (const std::string& key : bounds) {
    intervals.push_back(KeyInterval::Single(key));
    intervals.push_back(KeyInterval::From(key));
    for (const std::string& end : bounds) intervals.push_back(KeyInterval::Between(key, end));
  }
  std::vector<std::set<std::string>> keys;
  keys.reserve(intervals.size());
  for (const KeyInterval& i : intervals) keys.push_back(KeysOf(i, universe));
  for (size_t a = 0; a < intervals.size(); ++a) {
    EXPECT_EQ(intervals[a].empty(), keys[a].empty());
    for (size_t b = 0; b < intervals.size(); ++b) {
      const bool covers = std::includes(keys[a].begin(), keys[a].end(), keys[b].begin(), keys[b].end());
      std::vector<std::string> common;
      std::set_intersection(keys[a].begin(), keys[a].end(), keys[b].begin(), keys[b].end(),
                            std::back_inserter(common));
      // An open end reaches beyond every key of the universe, which the sets cannot show.
      if (!intervals[b].is_open() || intervals[a].is_open()) {
        ASSERT_EQ(intervals[a].Covers(intervals[b]), covers) << a << " " << b;
      } else {
        ASSERT_FALSE(intervals[a].Covers(intervals[b])) << a << " " << b;
      }
      ASSERT_EQ(intervals[a].Overlaps(intervals[b]), !common.empty()) << a << " " << b;
    }
  }
}

TEST(KeyInterval, Before_HoldsOnlyBeyondTheLastKey) {
  EXPECT_FALSE(KeyInterval::Between("b", "d").Before("c"));
  EXPECT_TRUE(KeyInterval::Between("b", "d").Before("d"));
  EXPECT_FALSE(KeyInterval::From("b").Before("\xff"));
  EXPECT_TRUE(KeyInterval::Single("b").Before("c"));
  EXPECT_FALSE(KeyInterval::Single("b").Before("a"));
}

TEST(KeyInterval, PrefixRangeEnd_IsTheLeastKeyBeyondThePrefix) {
  EXPECT_EQ(PrefixRangeEnd("foo"), "fop");
  EXPECT_EQ(PrefixRangeEnd("a\xff"), "b");
  EXPECT_EQ(PrefixRangeEnd("\xff\xff"), kZero);
  EXPECT_EQ(PrefixRangeEnd(""), kZero);
}

}  // namespace
}  // namespace kvd::base
