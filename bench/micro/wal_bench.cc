// The log: encoding into its buffer, and with the sync that makes it durable. TMPDIR says on which disk.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/file_system.h"
#include "instructions.h"
#include "wal/wal.h"

namespace kvd::wal {
namespace {

// A log in a directory of its own, which goes with it.
class Home {
 public:
  explicit Home(bool no_fsync) {
    std::string pattern = (std::filesystem::temp_directory_path() / "kvd-bench-XXXXXX").string();
    KVD_CHECK(::mkdtemp(pattern.data()) != nullptr, "no temporary directory");
    path_ = pattern;
    Options options;
    options.no_fsync = no_fsync;
    auto created = Wal::Create(base::PosixFileSystem(), path_ + "/wal", "metadata", options);
    KVD_CHECK(created.ok(), "the log is not created");
    wal = *std::move(created);
  }
  ~Home() {
    wal.reset();
    std::filesystem::remove_all(path_);
  }
  std::unique_ptr<Wal> wal;

 private:
  std::string path_;
};

// The arguments: entries of 300 bytes between two syncs, and whether the sync reaches the disk.
void BM_WalAppend(benchmark::State& state) {
  Home home(/*no_fsync=*/state.range(1) == 0);
  const auto n = static_cast<size_t>(state.range(0));
  std::vector<Entry> entries(n);
  const base::SharedBytes data(std::string(300, 'x'));
  uint64_t index = 0;
  const bench::InstructionCounter instructions;
  for (auto _ : state) {
    for (Entry& entry : entries) entry = {.index = ++index, .term = 1, .data = data};
    const HardState hard{.term = 1, .vote = 1, .commit = index};
    KVD_CHECK(home.wal->Append(&hard, entries).ok() && home.wal->Sync().ok(), "the log fails");
  }
  const int64_t operations = state.iterations() * static_cast<int64_t>(n);
  instructions.Report(state, operations);
  state.SetItemsProcessed(operations);
}
BENCHMARK(BM_WalAppend)->ArgsProduct({{1, 64, 256}, {0}})->ArgNames({"entries", "sync"});
BENCHMARK(BM_WalAppend)->ArgsProduct({{1, 64}, {1}})->ArgNames({"entries", "sync"})->UseRealTime();

}  // namespace
}  // namespace kvd::wal
