// One segment file: its name, and a reader that walks its records and says where and why it stopped.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/file_system.h"
#include "wal/record.h"

namespace kvd::wal {

struct SegmentName {
  uint64_t sequence = 0;
  uint64_t first_index = 0;  // of the entries that it may hold

  std::string ToString() const;
  // False if `name` is not a segment's.
  static bool Parse(std::string_view name, SegmentName* out);
};

// The segments of a directory by sequence; other files are passed over. kNotFound if there is no such
// directory.
absl::StatusOr<std::vector<SegmentName>> ListSegments(base::FileSystem& fs, const std::string& dir);

// Thread-compatible.
class SegmentReader {
 public:
  enum class Step {
    kRecord,
    kEnd,     // the end of the file, or a length of zero
    kDamage,  // see damage()
  };
  struct Damage {
    std::string reason;
    // By etcd's rule for the last record of a log: it runs past the end of the file, or one of its 512-byte
    // sectors is all zeros.
    bool looks_torn = false;
  };

  // `crc` is the checksum of the records of the segments before; 0 if this is the first that is read.
  static absl::StatusOr<std::unique_ptr<SegmentReader>> Open(base::FileSystem& fs, const std::string& path,
                                                             uint32_t crc);

  // The next record, whose data stay valid until the next call. Errors: those of reading the file.
  absl::StatusOr<Step> Next(Record* record);
  // Says that the record last read, though intact, makes no sense: Next will not pass it.
  void Reject(std::string reason);

  // Where the last good record ends.
  uint64_t end_offset() const { return end_offset_; }
  uint32_t crc() const { return crc_; }
  const Damage& damage() const { return damage_; }

 private:
  SegmentReader(std::unique_ptr<base::File> file, uint64_t size, uint32_t crc)
      : file_(std::move(file)), size_(size), crc_(crc) {}

  // The `n` bytes at `offset`, which lie within the file.
  absl::StatusOr<std::string_view> Bytes(uint64_t offset, uint64_t n);
  Step Damaged(std::string reason, bool looks_torn);

  const std::unique_ptr<base::File> file_;
  const uint64_t size_;
  uint32_t crc_;
  uint32_t crc_before_ = 0;  // that of the records before the last one
  uint64_t end_offset_ = 0;
  uint64_t end_offset_before_ = 0;
  std::string window_;
  uint64_t window_offset_ = 0;
  Damage damage_;
};

}  // namespace kvd::wal
