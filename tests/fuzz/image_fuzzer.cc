// Any bytes as an etcd database file: every bucket is walked to its end or to an error.

#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/file_system.h"
#include "base/mem_file_system.h"
#include "storage/image/image_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  kvd::base::MemFileSystem fs;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (!fs.CreateDirs("/d").ok() || !kvd::base::WriteFileAtomically(fs, "/d/db", bytes).ok()) std::abort();
  auto file = fs.Open("/d/db", kvd::base::FileSystem::Mode::kRead);
  if (!file.ok()) std::abort();
  (void)kvd::storage::image::CheckSha256(**file);
  auto reader = kvd::storage::image::ImageReader::Open(**file);
  if (!reader.ok()) return 0;
  auto buckets = (*reader)->Buckets();
  if (!buckets.ok()) return 0;
  for (const std::string& bucket : *buckets) {
    size_t seen = 0;
    (void)(*reader)->ForEach(bucket, [&](std::string_view key, std::string_view value) {
      seen += key.size() + value.size();
      return absl::OkStatus();
    });
  }
  return 0;
}
