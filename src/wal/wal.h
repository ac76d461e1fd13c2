// The write-ahead log: what a member has promised (votes, terms, entries) in the order it promised it, in
// etcd's own format, so that etcd's tools read ours and we read etcd's.
//
// A directory holds segments "%016x-%016x.wal" (sequence, index of the first entry that it may hold). A
// segment is a row of frames: an 8-byte little-endian length (low 56 bits; the top byte is 0x80|padding if
// the record is padded to 8 bytes), then walpb.Record{type=1, crc=2, data=3}. The crc is a CRC-32C that rolls
// over the data of every record, across segments. A segment starts with a crc record (the sum so far), the
// metadata and, after a cut, the hard state; it is preallocated, so its unused tail is zeros and a length of
// zero ends it.
//
// Beside the segments lie "lock", which a running member holds, and "synced": the segment and offset that are
// known to be on the disk. It is rewritten after each sync without being synced itself, so it costs no disk
// write of its own and may lag after a power loss, but never leads. Damage before that mark is rot, and the
// log is not opened; damage behind it is the torn end of a write that was never acknowledged, and is cut off.
//
// Thread-safety: thread-compatible; in the process, the log thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/bytes.h"

namespace kvd::base {
class Executor;
class FileSystem;
}  // namespace kvd::base

namespace kvd::wal {

// raftpb.Entry
struct Entry {
  uint64_t index = 0;
  uint64_t term = 0;
  int32_t type = 0;  // raftpb.EntryType
  base::SharedBytes data;

  friend bool operator==(const Entry&, const Entry&) = default;
};

// raftpb.HardState
struct HardState {
  uint64_t term = 0;
  uint64_t vote = 0;
  uint64_t commit = 0;

  friend bool operator==(const HardState&, const HardState&) = default;
};

// walpb.Snapshot: the state up to `index` is safe elsewhere, and reading may start behind it.
struct SnapshotMarker {
  uint64_t index = 0;
  uint64_t term = 0;
  std::string conf_state;  // encoded raftpb.ConfState; empty if none

  friend bool operator==(const SnapshotMarker&, const SnapshotMarker&) = default;
};

struct Options {
  // A segment is preallocated to this size, and the log goes on in a new one once it is reached (etcd's
  // SegmentSizeBytes).
  uint64_t segment_bytes = 64'000'000;
  // Released segments are removed, oldest first, while there are more segments than this. 0: none is removed.
  uint32_t max_segments = 5;
  // Prepares the next segment and removes old ones. Null: inline. Must outlive the Wal; its tasks that are
  // still queued when the Wal is destroyed do nothing.
  base::Executor* background = nullptr;
  // --unsafe-no-fsync: Sync writes but does not sync.
  bool no_fsync = false;
};

// What was cut off the end of the log when it was opened.
struct Repair {
  std::string path;         // of the segment
  uint64_t offset = 0;      // the log now ends here
  std::string reason;       // what was wrong there
  std::string broken_copy;  // the segment as it was found; empty if there was no room for a copy
};

// Everything read from a log.
struct Contents {
  std::string metadata;
  HardState hard_state;
  // Those behind the marker, by index without gaps. Where the log holds several entries of one index, the
  // last written stands and those behind it are dropped, as raft overwrote them.
  std::vector<Entry> entries;
  // Markers read whose index is at most hard_state.commit, in the order of writing.
  std::vector<SnapshotMarker> snapshots;
  std::optional<Repair> repair;
};

class Wal {
 public:
  struct Opened;

  // A log of `metadata` and an empty snapshot marker, synced. It is built in `dir`.tmp and renamed, so a
  // crash leaves a whole log or none. Errors: kAlreadyExists if `dir` holds a log.
  static absl::StatusOr<std::unique_ptr<Wal>> Create(base::FileSystem& fs, const std::string& dir,
                                                     std::string_view metadata, const Options& options);

  // Reads the log behind `from`, repairs a torn end, and makes it ready for appending. Errors: kNotFound if
  // there is no log or no such marker in it; kFailedPrecondition if the marker's term differs, or segments
  // are missing; kUnavailable if another process holds the log; kDataLoss for rot, with the file, the offset
  // and what to do.
  static absl::StatusOr<Opened> Open(base::FileSystem& fs, const std::string& dir, const SnapshotMarker& from,
                                     const Options& options);

  // The same without taking locks or changing anything: a torn end is reported, not repaired.
  static absl::StatusOr<Contents> Read(base::FileSystem& fs, const std::string& dir,
                                       const SnapshotMarker& from);

  // The markers that Open may start from, in the order of writing: those covered by the last hard state's
  // commit.
  static absl::StatusOr<std::vector<SnapshotMarker>> ReadSnapshotMarkers(base::FileSystem& fs,
                                                                         const std::string& dir);

  static absl::StatusOr<bool> Exists(base::FileSystem& fs, const std::string& dir);

  // Syncs nothing: what was appended without Sync may be lost.
  ~Wal();

  // Encodes into the buffer: the entries, then the hard state if it is not null. Starts a new segment first
  // if the current one is full; if there is no room for one, goes on in the current one and tries again next
  // time. Errors: those of Sync.
  absl::Status Append(const HardState* state, absl::Span<const Entry> entries);

  // Writes the buffer and syncs it with one fdatasync; all that was appended before is then safe.
  //
  // kResourceExhausted: the disk is full. Nothing is lost: the buffer is kept, and calling again continues.
  // Any other error is final: the kernel may have dropped what was written, so it must not be retried. Every
  // later call returns it again, and the caller ends the process without acknowledging anything.
  absl::Status Sync();

  // Appends a marker and syncs. REQUIRES: the snapshot it names is itself safe on the disk. Errors: those of
  // Sync.
  absl::Status SaveSnapshot(const SnapshotMarker& marker);

  // Entries up to `index` are no longer needed: lets go of the segments that hold nothing else, and removes
  // the oldest beyond Options::max_segments. A failure to remove is logged and tried again at the next call.
  void ReleaseTo(uint64_t index);

  // The highest index appended; that of `from` if none.
  uint64_t last_index() const;
  // Bytes appended but not yet synced.
  uint64_t buffered_bytes() const;
  // Bytes that this Wal has written, for the metrics.
  uint64_t written_bytes() const;

 private:
  class Impl;
  explicit Wal(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

struct Wal::Opened {
  std::unique_ptr<Wal> wal;
  Contents contents;
};

}  // namespace kvd::wal
