// A log directory whose one segment holds any bytes: opening it repairs, refuses or reads, and what it read
// is read again the same.

#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/file_system.h"
#include "base/mem_file_system.h"
#include "wal/wal.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  kvd::base::MemFileSystem fs;
  if (!fs.CreateDirs("/wal").ok()) std::abort();
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (!kvd::base::WriteFileAtomically(fs, "/wal/0000000000000000-0000000000000000.wal", bytes).ok())
    std::abort();
  (void)kvd::wal::Wal::ReadSnapshotMarkers(fs, "/wal");
  kvd::wal::Options options;
  options.segment_bytes = 4096;
  auto first = kvd::wal::Wal::Open(fs, "/wal", {}, options);
  if (!first.ok()) return 0;
  kvd::wal::Contents read = std::move(first->contents);
  first->wal.reset();
  auto second = kvd::wal::Wal::Open(fs, "/wal", {}, options);
  if (!second.ok()) std::abort();
  if (second->contents.entries != read.entries || second->contents.hard_state != read.hard_state)
    std::abort();
  return 0;
}
