#include "server/node/snapshot_file.h"

#include <memory>
#include <utility>

#include "base/file_system.h"
#include "storage/image/image_reader.h"
#include "storage/image/image_writer.h"
#include "storage/store.h"

namespace kvd::server {

absl::StatusOr<uint64_t> WriteSnapshotFile(storage::StoreImage& image, base::FileSystem& fs,
                                           const std::string& path, Checksum checksum) {
  absl::StatusOr<std::unique_ptr<base::File>> file = fs.Open(path, base::FileSystem::Mode::kCreateNew);
  if (!file.ok()) return file.status();
  storage::image::ImageWriter writer(**file);
  absl::Status status;
  std::string bucket_name;
  image.ForEachRecord([&](std::string_view bucket, std::string_view key, std::string_view value) {
    if (bucket != bucket_name) {
      bucket_name = std::string(bucket);
      status = writer.BeginBucket(bucket);
      if (!status.ok()) return false;
    }
    if (!key.empty()) status = writer.Put(key, value);  // an empty key names a bucket without records
    return status.ok();
  });
  if (!status.ok()) return status;
  absl::StatusOr<uint64_t> size = writer.Finish();
  if (!size.ok()) return size.status();
  if (checksum == Checksum::kAppended) {
    if (absl::Status appended = storage::image::AppendSha256(**file, *size); !appended.ok()) return appended;
  }
  if (absl::Status synced = (*file)->Sync(); !synced.ok()) return synced;
  return (*file)->Size();
}

absl::Status ReadSnapshotFile(base::FileSystem& fs, const std::string& path, storage::StoreBuilder& builder) {
  absl::StatusOr<std::unique_ptr<base::File>> file = fs.Open(path, base::FileSystem::Mode::kRead);
  if (!file.ok()) return file.status();
  absl::StatusOr<std::unique_ptr<storage::image::ImageReader>> reader =
      storage::image::ImageReader::Open(**file);
  if (!reader.ok()) return reader.status();
  absl::StatusOr<std::vector<std::string>> buckets = (*reader)->Buckets();
  if (!buckets.ok()) return buckets.status();
  for (const std::string& bucket : *buckets) {
    absl::Status read = (*reader)->ForEach(bucket, [&](std::string_view key, std::string_view value) {
      return builder.Add(bucket, key, value);
    });
    if (!read.ok()) return read;
  }
  return absl::OkStatus();
}

}  // namespace kvd::server
