// Writes an etcd database file (bbolt's format), as etcd's Snapshot RPC gives it out: what a backup is, and
// what a member sends to another one that is too far behind.
//
// The keys come in order, so every tree is built from its leaves upwards in one pass: memory holds two pages
// per level of one tree, whatever the size of the database. The two meta pages at the start are written last.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kvd::base {
class File;
}

namespace kvd::storage::image {

// Thread-compatible.
class ImageWriter {
 public:
  // `file` is empty, open for writing, and outlives the writer; syncing it is the caller's affair.
  explicit ImageWriter(base::File& file);
  ~ImageWriter();

  // The following Put()s go into this bucket. A bucket may stay empty. Errors, here and below:
  // kInvalidArgument for names or keys that do not ascend, are empty, or are longer than the format allows
  // (32768 bytes; values 2 GiB); those of File::WriteAt, after which the file is of no use.
  absl::Status BeginBucket(std::string_view name);
  // REQUIRES: BeginBucket was called.
  absl::Status Put(std::string_view key, std::string_view value);
  // Completes the file and gives its size in bytes, a multiple of the page size. Nothing may follow.
  absl::StatusOr<uint64_t> Finish();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// Appends the SHA-256 of the file's bytes, which is what tells a backup from a database copied in use. `size`
// is what Finish returned. Errors: those of the file.
absl::Status AppendSha256(base::File& file, uint64_t size);

}  // namespace kvd::storage::image
