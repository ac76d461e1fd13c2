#include "storage_test_util.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>

#include "base/check.h"

namespace kvd::storage {

namespace fs = std::filesystem;

EngineHome::EngineHome(EngineKind kind) : kind_(kind) {
  if (kind == EngineKind::kModel) {
    disk_ = NewModelDisk();
    return;
  }
  std::string pattern = (fs::temp_directory_path() / "kvd-storage-XXXXXX").string();
  KVD_CHECK(::mkdtemp(pattern.data()) != nullptr, "no temporary directory");
  base_ = pattern;
  path_ = base_ + "/db0";
}

EngineHome::~EngineHome() {
  if (!base_.empty()) fs::remove_all(base_);
}

std::unique_ptr<Engine> EngineHome::Open() {
  if (kind_ == EngineKind::kModel) return OpenModelEngine(disk_);
  RocksOptions options;
  options.block_cache_bytes = 8 << 20;
  if (kind_ == EngineKind::kRocksTiny) {
    options.write_buffer_bytes = 64 << 10;
    options.target_file_bytes = 64 << 10;
    options.level_base_bytes = 256 << 10;
    options.block_cache_bytes = 64 << 10;
    options.separate_value_bytes = 256;
  }
  auto engine = OpenRocksEngine(path_, options);
  KVD_CHECK(engine.ok(), "the test's engine does not open");
  return *std::move(engine);
}

namespace {

using Listing = std::map<std::string, uintmax_t>;

Listing List(const std::string& path) {
  Listing files;
  for (const auto& file : fs::directory_iterator(path)) {
    std::error_code gone;
    files[file.path().filename()] = fs::file_size(file.path(), gone);
  }
  return files;
}

}  // namespace

// RocksDB's own log is off, so the files as they are now are what a crash now leaves: the next generation is
// a copy of them, taken before a clean close could flush. Background work may change them meanwhile; then it
// copies again.
void EngineHome::RememberAsCrashed() {
  if (kind_ == EngineKind::kModel) return;
  std::string next = base_ + "/db" + std::to_string(++generation_);
  Listing before;
  do {
    fs::remove_all(next);
    fs::create_directory(next);
    before = List(path_);
    for (const auto& [name, size] : before) {
      std::error_code gone;
      fs::copy_file(fs::path(path_) / name, fs::path(next) / name, gone);
    }
  } while (before != List(path_) || before != List(next));
  path_ = next;
}

void EngineHome::Crash(std::unique_ptr<Engine>* engine) {
  RememberAsCrashed();
  engine->reset();
}

}  // namespace kvd::storage

#if defined(__SANITIZE_THREAD__)
// RocksDB's library, and those it calls, are not built for ThreadSanitizer: their own synchronisation is
// invisible, what they call is not.
extern "C" const char* __tsan_default_suppressions() {
  return "called_from_lib:librocksdb.so\ncalled_from_lib:libstdc++.so\nrace:librocksdb.so\nrace:libzstd."
         "so\nrace:liblz4.so\n";
}
#endif
