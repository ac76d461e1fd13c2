// Every key in memory, in order: a B+ tree whose inner nodes sum up the live keys below them, and per key the
// versions that are kept. It answers counts, lengths of lists, existence and metadata at any kept revision
// without touching the engine.
//
// Costs: a key with one version takes about 80 bytes and its own; each further version 32. Lookup, CountLive
// and SumLive are O(log n); a walk costs O(1) per key.
//
// Thread-safety: thread-compatible. The store guards it with a lock of readers and one writer.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "base/key_interval.h"
#include "base/protobuf_wire.h"
#include "storage/records.h"

namespace kvd::storage {

// One version of a key.
struct KeyVersion {
  int64_t mod_main = 0;
  int64_t create_main = 0;  // 0 for a tombstone
  int64_t version = 0;      // 0 for a tombstone
  uint32_t mod_sub = 0;
  // Of its record, so that a list knows its length before it reads any; kLongRecord: that or more. 0 for a
  // tombstone.
  uint32_t record_bytes : 29 = 0;
  bool tombstone : 1 = false;
  bool leased : 1 = false;
  bool large : 1 = false;  // its record is among the large ones (stored_record.h)

  static constexpr uint32_t kLongRecord = (uint32_t{1} << 29) - 1;

  Revision revision() const { return {mod_main, mod_sub}; }
  // Of a list in which it stands.
  int64_t listed_bytes() const {
    return tombstone ? 0 : static_cast<int64_t>(base::BytesFieldSize(record_bytes));
  }
  void set_record_bytes(size_t bytes) {
    record_bytes = static_cast<uint32_t>(std::min<size_t>(bytes, kLongRecord)) & kLongRecord;
  }
};
static_assert(sizeof(KeyVersion) == 32);

// What a list of live keys comes to. `bytes` is no longer exact if it is KeyVersion::kLongRecord or more.
struct LiveSum {
  int64_t keys = 0;
  int64_t bytes = 0;

  LiveSum& operator+=(const LiveSum& other) {
    keys += other.keys;
    bytes += other.bytes;
    return *this;
  }
  LiveSum& operator-=(const LiveSum& other) {
    keys -= other.keys;
    bytes -= other.bytes;
    return *this;
  }
  friend bool operator==(const LiveSum&, const LiveSum&) = default;
};

// A version that may go from the engine.
struct DeadVersion {
  Revision revision;
  bool tombstone = false;
  bool large = false;
};

class KeyIndex {
 public:
  KeyIndex();
  ~KeyIndex();
  KeyIndex(const KeyIndex&) = delete;
  KeyIndex& operator=(const KeyIndex&) = delete;

  // Adds a version, newer than every one of the key (CHECKed). The first of a key is not a tombstone, unless
  // it stands at the compacted revision. Returns what it changes in the sum of the live keys.
  LiveSum Append(std::string_view key, const KeyVersion& version);

  // The newest version with mod_main <= revision, tombstones included; null if there is none. Valid until the
  // index changes.
  const KeyVersion* Find(std::string_view key, int64_t revision) const;
  // The newest version of all, tombstones included.
  const KeyVersion* FindLatest(std::string_view key) const;
  // All kept versions of the key, ascending.
  absl::Span<const KeyVersion> Versions(std::string_view key) const;

  // Live keys of the interval, by their newest versions. O(log n).
  int64_t CountLive(const base::KeyInterval& interval) const;
  // The same with their bytes. O(log n), and up to 64 keys are looked at on either end.
  LiveSum SumLive(const base::KeyInterval& interval) const;
  int64_t live_keys() const;
  // Keys, dead ones that are still kept included.
  int64_t keys() const;

  // Visits the keys of the interval that live at `revision`, ascending from `resume` (inclusive; empty: from
  // the start of the interval), until `visit` returns false, or `max_keys` keys (dead ones count) have been
  // looked at. True if the interval is exhausted; else `*resume_at` is the key to go on from.
  bool Walk(const base::KeyInterval& interval, std::string_view resume, int64_t revision, size_t max_keys,
            absl::FunctionRef<bool(std::string_view key, const KeyVersion& version)> visit,
            std::string* resume_at) const;

  // One slice of a sweep that drops what a compaction at `compact_revision` lets go: of each key every
  // version below the newest one <= compact_revision, and that one too if it is a tombstone older than
  // compact_revision. A version that one of `pins` (ascending revisions) reads stays, and then the key's
  // later ones too. Looks at up to `max_keys` keys from `resume` on (inclusive; empty: from the first),
  // appends what it dropped to `dead`, sets
  // `*kept_for_pins` if a pin held something. True if it reached the end; else `*resume_at` is where to go
  // on.
  bool Sweep(int64_t compact_revision, absl::Span<const int64_t> pins, std::string_view resume,
             size_t max_keys, std::vector<DeadVersion>* dead, bool* kept_for_pins, std::string* resume_at);

  // Fills an empty index: first every live key with its newest version, keys ascending, then every version of
  // every key, revisions ascending (the newest ones again: only they know their mod_sub). FinishLoad makes
  // the index usable; false if the two disagree.
  void LoadLatest(std::string_view key, const KeyVersion& version);
  void LoadVersion(std::string_view key, const KeyVersion& version);
  bool FinishLoad();

  // Bytes in use, about.
  size_t memory_bytes() const;

 private:
  struct Tree;
  std::unique_ptr<Tree> tree_;
};

}  // namespace kvd::storage
