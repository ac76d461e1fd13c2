// The store's hot paths, and the choice of tables behind them (src/storage/records.h): a put into the two
// tables, a point read, lists by key from the latest records, from the past and keys only, counts, and
// opening.
//
// KVD_BENCH_KEYS sets the number of keys (default 100,000).
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "base/check.h"
#include "base/executor.h"
#include "base/random.h"
#include "storage/key_index.h"
#include "storage/store.h"

namespace kvd::storage {
namespace {

constexpr size_t kValueBytes = 256;

uint64_t Keys() {
  const char* text = std::getenv("KVD_BENCH_KEYS");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 100'000;
}

std::string KeyOf(uint64_t i) {
  std::string number = std::to_string(i);
  return "/registry/pods/default/" + std::string(9 - number.size(), '0') + number;
}

// A store on RocksDB in a directory of its own, which goes with it.
class Home {
 public:
  Home() {
    std::string pattern = (std::filesystem::temp_directory_path() / "kvd-bench-XXXXXX").string();
    KVD_CHECK(::mkdtemp(pattern.data()) != nullptr, "no temporary directory");
    path_ = pattern;
    Open();
  }
  ~Home() {
    store.reset();
    std::filesystem::remove_all(path_);
  }
  void Open() {
    auto engine = OpenRocksEngine(path_ + "/db", {});
    KVD_CHECK(engine.ok(), "the engine does not open");
    auto opened = Store::Open(*std::move(engine), background_);
    KVD_CHECK(opened.ok(), "the store does not open");
    store = *std::move(opened);
  }
  // Every key once, then every tenth again: the past differs from the present.
  void Fill() {
    std::string value(kValueBytes, 'v');
    for (int round = 0; round < 2; ++round) {
      uint64_t step = round == 0 ? 1 : 10;
      for (uint64_t i = 0; i < Keys();) {
        ApplyBatch batch = store->BeginApply();
        for (int n = 0; n < 64 && i < Keys(); ++n, i += step) batch.Put({.key = KeyOf(i), .value = value});
        batch.Commit({.index = ++index, .term = 1});
      }
    }
    store->Flush();
  }

  std::unique_ptr<Store> store;
  uint64_t index = 0;

 private:
  std::string path_;
  base::ThreadExecutor background_{"background"};
};

Home& Filled() {
  static Home home;
  static const bool filled = (home.Fill(), true);
  static_cast<void>(filled);
  return home;
}

void BM_Put(benchmark::State& state) {
  Home home;
  base::Random random(1);
  std::string value(kValueBytes, 'v');
  const auto per_batch = static_cast<uint64_t>(state.range(0));
  uint64_t puts = 0;
  for (auto _ : state) {
    ApplyBatch batch = home.store->BeginApply();
    for (uint64_t i = 0; i < per_batch; ++i) batch.Put({.key = KeyOf(random.Below(Keys())), .value = value});
    batch.Commit({.index = ++home.index, .term = 1});
    puts += per_batch;
  }
  state.SetItemsProcessed(static_cast<int64_t>(puts));
}
BENCHMARK(BM_Put)->Arg(1)->Arg(64);

void BM_PointRead(benchmark::State& state) {
  Home& home = Filled();
  base::Random random(2);
  for (auto _ : state) {
    OpResult result;
    home.store->Range({.key = KeyOf(random.Below(Keys()))}, &result);
    benchmark::DoNotOptimize(result.body.data());
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_PointRead);

void BM_PointReadOfMissingKey(benchmark::State& state) {
  Home& home = Filled();
  base::Random random(3);
  for (auto _ : state) {
    OpResult result;
    home.store->Range({.key = KeyOf(random.Below(Keys())) + "x"}, &result);
    benchmark::DoNotOptimize(result.count);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_PointReadOfMissingKey);

void ListAll(benchmark::State& state, RangeArgs args) {
  Home& home = Filled();
  args.key = "/registry/";
  args.range_end = "/registry0";
  int64_t keys = 0;
  for (auto _ : state) {
    OpResult result;
    home.store->Range(args, &result);
    KVD_CHECK(result.ok(), "a list fails");
    keys += result.count;
  }
  state.SetItemsProcessed(keys);
}
void BM_ListLatest(benchmark::State& state) {
  ListAll(state, {});
}
void BM_ListThePast(benchmark::State& state) {
  ListAll(state, {.revision = static_cast<int64_t>(Keys()) + 1});
}
void BM_ListKeysOnly(benchmark::State& state) {
  ListAll(state, {.keys_only = true});
}
BENCHMARK(BM_ListLatest)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_ListThePast)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_ListKeysOnly)->Unit(benchmark::kMillisecond);

void BM_Count(benchmark::State& state) {
  Home& home = Filled();
  for (auto _ : state) {
    OpResult result;
    home.store->Range({.key = "/registry/", .range_end = "/registry0", .count_only = true}, &result);
    benchmark::DoNotOptimize(result.count);
  }
}
BENCHMARK(BM_Count);

void BM_HashKv(benchmark::State& state) {
  Home& home = Filled();
  for (auto _ : state) benchmark::DoNotOptimize(home.store->HashKv(0).hash);
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(Keys()));
}
BENCHMARK(BM_HashKv)->Unit(benchmark::kMillisecond);

void BM_Open(benchmark::State& state) {
  Home& home = Filled();
  for (auto _ : state) {
    home.store.reset();
    home.Open();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(Keys()));
}
BENCHMARK(BM_Open)->Unit(benchmark::kMillisecond);

void BM_IndexMemory(benchmark::State& state) {
  for (auto _ : state) {
    KeyIndex index;
    size_t key_bytes = 0;
    for (uint64_t i = 0; i < Keys(); ++i) {
      std::string key = KeyOf(i * 7919 % Keys());
      key_bytes += key.size();
      KeyVersion version;
      version.mod_main = version.create_main = static_cast<int64_t>(i) + 2;
      version.version = 1;
      index.Append(key, version);
    }
    state.counters["overhead_bytes_per_key"] =
        static_cast<double>(index.memory_bytes() - key_bytes) / static_cast<double>(Keys());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(Keys()));
}
BENCHMARK(BM_IndexMemory)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace kvd::storage
