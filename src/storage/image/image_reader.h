// Reads an etcd database file: one that kvd wrote, a backup made by etcdctl, or an etcd member's own
// member/snap/db. Nothing in the file is believed: whatever its bytes are, reading ends with a result or with
// an error.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kvd::base {
class File;
}

namespace kvd::storage::image {

// Thread-compatible.
class ImageReader {
 public:
  using Visitor = absl::FunctionRef<absl::Status(std::string_view key, std::string_view value)>;

  // Reads the newer of the meta pages that are intact. `file` outlives the reader, and must not change
  // meanwhile; it may be longer than the database (a checksum may follow). Errors, here and below: kDataLoss
  // for a file that is not an intact database, with its path and what is wrong; those of File::ReadAt.
  static absl::StatusOr<std::unique_ptr<ImageReader>> Open(const base::File& file);
  ~ImageReader();

  // The names of the buckets, ascending.
  absl::StatusOr<std::vector<std::string>> Buckets() const;
  // Calls `visit` for each key of the bucket, ascending, until it returns an error, which is then returned.
  // The views are valid during the call. kNotFound if there is no such bucket.
  absl::Status ForEach(std::string_view bucket, Visitor visit) const;

  // The bytes that the database takes up at the start of the file.
  uint64_t size_bytes() const;
  uint64_t page_size() const;

 private:
  class Impl;
  explicit ImageReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

enum class Sha256Trailer {
  kNone,  // the size says that there is none: a database copied as it was in use
  kMatches,
};
// Whether a backup's checksum is there, by etcd's rule: 32 bytes behind a multiple of 512. Errors: kDataLoss
// if it does not match; those of the file.
absl::StatusOr<Sha256Trailer> CheckSha256(const base::File& file);

}  // namespace kvd::storage::image
