// Where new segments come from: a locked, preallocated temporary file, made in advance if there is an
// executor for it, since allocating space takes time that no append should wait for.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/executor.h"
#include "base/file_system.h"

namespace kvd::wal {

struct PreparedSegment {
  std::string path;
  std::unique_ptr<base::File> file;
  std::unique_ptr<base::FileLock> lock;
};

// Thread-compatible; its background task works on a state of its own.
class SegmentSource {
 public:
  SegmentSource(base::FileSystem& fs, std::string dir, uint64_t segment_bytes, base::Executor* background);
  // What was prepared and not taken is removed.
  ~SegmentSource();

  // Starts to prepare one, unless one is ready or under way, or there is no executor for it.
  void Prepare();
  // One that was prepared, or one made now.
  absl::StatusOr<PreparedSegment> Take();
  // Removes one that was taken and is not needed after all.
  void Discard(PreparedSegment segment);

 private:
  struct Shared;

  const std::shared_ptr<Shared> shared_;
  base::Executor* const background_;
};

}  // namespace kvd::wal
