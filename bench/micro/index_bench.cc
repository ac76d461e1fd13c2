// The key index: what a look-up, a count and an insert cost with 1,000,000 keys in it.
#include <benchmark/benchmark.h>

#include <string>

#include "base/random.h"
#include "instructions.h"
#include "storage/key_index.h"

namespace kvd::storage {
namespace {

constexpr uint64_t kKeys = 1'000'000;

std::string KeyOf(uint64_t i) {
  std::string number = std::to_string(i);
  return "/registry/pods/default/" + std::string(9 - number.size(), '0') + number;
}

KeyIndex& Filled() {
  static KeyIndex* index = [] {
    auto* filled = new KeyIndex;
    for (uint64_t i = 0; i < kKeys; ++i) {
      const auto revision = static_cast<int64_t>(i) + 2;
      // Every second key, so that there is room between them.
      filled->Append(KeyOf(i * 2), {.mod_main = revision, .create_main = revision, .version = 1});
    }
    return filled;
  }();
  return *index;
}

void BM_IndexGet(benchmark::State& state) {
  KeyIndex& index = Filled();
  base::Random random(1);
  const bench::InstructionCounter instructions;
  for (auto _ : state) benchmark::DoNotOptimize(index.FindLatest(KeyOf(random.Below(kKeys) * 2)));
  instructions.Report(state, state.iterations());
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_IndexGet);

void BM_IndexCount(benchmark::State& state) {
  KeyIndex& index = Filled();
  base::Random random(2);
  const bench::InstructionCounter instructions;
  for (auto _ : state) {
    const uint64_t first = random.Below(kKeys);
    const std::string start = KeyOf(first), end = KeyOf(2 * kKeys - 1);
    benchmark::DoNotOptimize(index.CountLive(base::KeyInterval::FromRequest(start, end)));
  }
  instructions.Report(state, state.iterations());
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_IndexCount);

// Another version of a key that is there; compacted away again outside the time.
void BM_IndexUpdate(benchmark::State& state) {
  KeyIndex& index = Filled();
  base::Random random(3);
  static int64_t revision = static_cast<int64_t>(kKeys) + 2;
  const bench::InstructionCounter instructions;
  for (auto _ : state) {
    ++revision;
    index.Append(KeyOf(random.Below(kKeys) * 2), {.mod_main = revision, .create_main = 2, .version = 2});
  }
  instructions.Report(state, state.iterations());
  state.SetItemsProcessed(state.iterations());
  std::vector<DeadVersion> dead;
  bool kept = false;
  std::string resume, next;
  while (!index.Sweep(revision, {}, resume, 1 << 20, &dead, &kept, &next)) resume = next;
}
BENCHMARK(BM_IndexUpdate);

// New keys between those that are there; the index is made anew for each run.
void BM_IndexInsert(benchmark::State& state) {
  KeyIndex index;
  base::Random random(4);
  int64_t revision = 1;
  const bench::InstructionCounter instructions;
  for (auto _ : state) {
    ++revision;
    std::string key = "/registry/pods/" + std::to_string(random.Next());
    index.Append(key, {.mod_main = revision, .create_main = revision, .version = 1});
  }
  instructions.Report(state, state.iterations());
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_IndexInsert)->Iterations(500'000);

}  // namespace
}  // namespace kvd::storage
