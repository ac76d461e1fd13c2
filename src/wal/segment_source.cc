#include "wal/segment_source.h"

#include <mutex>
#include <optional>
#include <utility>

#include "base/strings.h"

namespace kvd::wal {
namespace {

absl::StatusOr<PreparedSegment> Make(base::FileSystem& fs, const std::string& path, uint64_t bytes) {
  PreparedSegment segment;
  segment.path = path;
  auto lock = fs.Lock(path);  // creates it
  if (!lock.ok()) return lock.status();
  segment.lock = *std::move(lock);
  auto file = fs.Open(path, base::FileSystem::Mode::kReadWrite);
  if (!file.ok()) return file.status();
  segment.file = *std::move(file);
  // What an earlier process left there must not be read as records.
  absl::Status s = segment.file->Truncate(0);
  if (s.ok()) s = segment.file->Preallocate(bytes);
  if (!s.ok()) {
    fs.Remove(path).IgnoreError();
    return s;
  }
  return segment;
}

}  // namespace

struct SegmentSource::Shared {
  Shared(base::FileSystem& f, std::string d, uint64_t bytes)
      : fs(f), dir(std::move(d)), segment_bytes(bytes) {}

  std::string NextPath() { return base::JoinPath(dir, base::StrCat(made++, ".tmp")); }

  base::FileSystem& fs;
  const std::string dir;
  const uint64_t segment_bytes;

  std::mutex mutex;
  uint64_t made = 0;
  bool preparing = false;
  bool closed = false;
  std::optional<PreparedSegment> ready;
};

SegmentSource::SegmentSource(base::FileSystem& fs, std::string dir, uint64_t segment_bytes,
                             base::Executor* background)
    : shared_(std::make_shared<Shared>(fs, std::move(dir), segment_bytes)), background_(background) {}

SegmentSource::~SegmentSource() {
  std::optional<PreparedSegment> unused;
  {
    std::lock_guard<std::mutex> lock(shared_->mutex);
    shared_->closed = true;
    unused.swap(shared_->ready);
  }
  if (unused) Discard(*std::move(unused));
}

void SegmentSource::Prepare() {
  if (background_ == nullptr) return;
  std::string path;
  {
    std::lock_guard<std::mutex> lock(shared_->mutex);
    if (shared_->preparing || shared_->ready) return;
    shared_->preparing = true;
    path = shared_->NextPath();
  }
  background_->Post([shared = shared_, path] {
    {
      std::lock_guard<std::mutex> lock(shared->mutex);
      if (shared->closed) return;
    }
    auto made = Make(shared->fs, path, shared->segment_bytes);
    std::lock_guard<std::mutex> lock(shared->mutex);
    shared->preparing = false;
    if (!made.ok()) return;  // Take() makes one itself, and reports why it cannot
    if (shared->closed) {
      shared->fs.Remove(path).IgnoreError();
    } else {
      shared->ready = *std::move(made);
    }
  });
}

absl::StatusOr<PreparedSegment> SegmentSource::Take() {
  std::string path;
  {
    std::lock_guard<std::mutex> lock(shared_->mutex);
    if (shared_->ready) {
      PreparedSegment segment = *std::move(shared_->ready);
      shared_->ready.reset();
      return segment;
    }
    // One that is still under way has another name and will serve next time.
    path = shared_->NextPath();
  }
  return Make(shared_->fs, path, shared_->segment_bytes);
}

void SegmentSource::Discard(PreparedSegment segment) {
  segment.file.reset();
  shared_->fs.Remove(segment.path).IgnoreError();
}

}  // namespace kvd::wal
