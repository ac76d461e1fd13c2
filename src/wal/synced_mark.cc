#include "wal/synced_mark.h"

#include <utility>

#include "base/bytes.h"
#include "base/crc32c.h"

namespace kvd::wal {
namespace {

// Little-endian: sequence (8), offset (8), CRC-32C of those (4).
constexpr size_t kBodyBytes = 16;
constexpr size_t kMarkBytes = kBodyBytes + 4;

std::string PathIn(const std::string& dir) {
  return base::JoinPath(dir, "synced");
}

}  // namespace

absl::StatusOr<std::optional<SyncedMark>> ReadSyncedMark(base::FileSystem& fs, const std::string& dir) {
  auto bytes = base::ReadFile(fs, PathIn(dir));
  if (absl::IsNotFound(bytes.status())) return std::nullopt;
  if (!bytes.ok()) return bytes.status();
  SyncedMark mark;
  if (bytes->size() == kMarkBytes && base::LoadLittleEndian32(bytes->data() + kBodyBytes) ==
                                         base::Crc32c(0, std::string_view(*bytes).substr(0, kBodyBytes))) {
    mark.sequence = base::LoadLittleEndian64(bytes->data());
    mark.offset = base::LoadLittleEndian64(bytes->data() + 8);
  }
  return mark;
}

absl::StatusOr<std::unique_ptr<SyncedMarkWriter>> SyncedMarkWriter::Open(base::FileSystem& fs,
                                                                         const std::string& dir) {
  auto file = fs.Open(PathIn(dir), base::FileSystem::Mode::kCreate);
  if (!file.ok()) return file.status();
  return std::unique_ptr<SyncedMarkWriter>(new SyncedMarkWriter(*std::move(file)));
}

void SyncedMarkWriter::Write(const SyncedMark& mark) {
  char bytes[kMarkBytes];
  base::StoreLittleEndian64(bytes, mark.sequence);
  base::StoreLittleEndian64(bytes + 8, mark.offset);
  const uint32_t crc = base::Crc32c(0, std::string_view(bytes, kBodyBytes));
  for (size_t i = 0; i < 4; ++i) bytes[kBodyBytes + i] = static_cast<char>(crc >> (8 * i));
  file_->WriteAt(0, std::string_view(bytes, kMarkBytes)).IgnoreError();
}

}  // namespace kvd::wal
