// Finding the watchers of a key, among 10,000 of single keys and 1,000 of intervals.
#include <benchmark/benchmark.h>

#include <deque>
#include <string>

#include "base/random.h"
#include "instructions.h"
#include "server/watch/watcher_index.h"

namespace kvd::server {
namespace {

constexpr uint64_t kSingles = 10'000;
constexpr uint64_t kIntervals = 1000;

std::string KeyOf(uint64_t i) {
  std::string number = std::to_string(i);
  return "/registry/pods/" + std::string(9 - number.size(), '0') + number;
}

struct Watchers {
  Watchers() {
    for (uint64_t i = 0; i < kSingles; ++i) {
      const std::string key = KeyOf(i);
      index.Insert(all.emplace_back(), base::KeyInterval::FromRequest(key, ""));
    }
    for (uint64_t i = 0; i < kIntervals; ++i) {
      const std::string start = KeyOf(i * 10), end = KeyOf(i * 10 + 10);
      index.Insert(all.emplace_back(), base::KeyInterval::FromRequest(start, end));
    }
  }
  ~Watchers() {
    for (Watcher& watcher : all) index.Remove(watcher);
  }
  std::deque<Watcher> all;
  WatcherIndex index;
};

void BM_WatchMatch(benchmark::State& state) {
  static Watchers watchers;
  base::Random random(1);
  uint64_t found = 0;
  const bench::InstructionCounter instructions;
  for (auto _ : state) {
    watchers.index.Match(KeyOf(random.Below(kSingles)), [&](Watcher&) { return ++found > 0; });
  }
  instructions.Report(state, state.iterations());
  state.counters["found"] = static_cast<double>(found) / static_cast<double>(state.iterations());
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_WatchMatch);

void BM_WatchMatchOfNobody(benchmark::State& state) {
  static Watchers watchers;
  base::Random random(2);
  uint64_t found = 0;
  const bench::InstructionCounter instructions;
  for (auto _ : state) {
    watchers.index.Match(KeyOf(kSingles + random.Below(kSingles)), [&](Watcher&) { return ++found > 0; });
  }
  instructions.Report(state, state.iterations());
  state.counters["found"] = static_cast<double>(found);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_WatchMatchOfNobody);

}  // namespace
}  // namespace kvd::server
