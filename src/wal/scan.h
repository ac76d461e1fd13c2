// Reading a log directory: which segments, what they hold, and whether damage at the end is a torn write or
// rot.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/file_system.h"
#include "wal/segment.h"
#include "wal/wal.h"

namespace kvd::wal {

struct Scan {
  Contents contents;
  bool metadata_found = false;
  std::vector<SegmentName> segments;  // all of the directory, also those not read
  // A last segment that never got its head: not part of the log. It is not in `segments`.
  std::optional<SegmentName> headless;
  // Where appending goes on, in the last of `segments`.
  uint64_t end_offset = 0;
  // Up to where that segment is known to be on the disk; 0 if nothing is known.
  uint64_t synced_offset = 0;
  uint32_t crc = 0;
  uint64_t last_index = 0;  // of entries and markers
};

// Reads behind `from`, or everything and without keeping entries if `from` is null. `contents.repair` says
// what would have to be cut off, without a copy's path. Changes nothing. Errors as Wal::Open.
absl::StatusOr<Scan> ScanLog(base::FileSystem& fs, const std::string& dir, const SnapshotMarker* from);

}  // namespace kvd::wal
