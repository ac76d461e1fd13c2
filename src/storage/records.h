// The encodings of the store: revisions as etcd's keys, records as etcd's mvccpb.KeyValue messages, and the
// table prefixes that keep the tables apart within one ordered map.
//
// Thread-safety: pure functions and values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace kvd::storage {

// A change: `main` counts write transactions, `sub` the changes within one, from 0.
struct Revision {
  int64_t main = 0;
  int64_t sub = 0;
  friend bool operator==(const Revision&, const Revision&) = default;
  friend auto operator<=>(const Revision&, const Revision&) = default;
};

// The first byte of every key of the engine. The order of the bytes is the order on disk; values are part of
// the format on disk.
enum class Table : char {
  kAlarm = 'A',
  kMembers = 'B',
  kCluster = 'C',
  kMembersRemoved = 'D',
  kAuth = 'E',
  kAuthRoles = 'F',
  kAuthUsers = 'G',
  kLatest = 'L',    // user key -> its latest record, if it lives; see stored_record.h, kLatestThroughKey
  kMeta = 'M',      // see meta.h
  kRevision = 'R',  // revision -> record: the history; see stored_record.h
  kLease = 'T',
  kLarge = 'V',  // revision -> record, of the large ones
};

// The parts of a mvccpb.KeyValue. Views into whatever was decoded.
struct KeyValueView {
  std::string_view key;
  int64_t create_revision = 0;
  int64_t mod_revision = 0;
  int64_t version = 0;
  std::string_view value;
  int64_t lease = 0;
};

// Byte for byte what etcd stores: fields in order, zero and empty ones left out.
void AppendKeyValue(std::string& out, const KeyValueView& kv);
// How many bytes AppendKeyValue appends.
size_t KeyValueSize(const KeyValueView& kv);
// False if the bytes are not such a message. Unknown fields are skipped.
bool DecodeKeyValue(std::string_view bytes, KeyValueView* kv);

// etcd's key of a revision: main (8 bytes big-endian), '_', sub (8 bytes), and 't' for a tombstone.
inline constexpr size_t kRevisionKeySize = 17;
void AppendRevisionKey(std::string& out, Revision revision, bool tombstone);
// False if it is not one.
bool DecodeRevisionKey(std::string_view key, Revision* revision, bool* tombstone);

// `table`'s prefix, then `key`.
std::string TableKey(Table table, std::string_view key);
std::string RevisionTableKey(Revision revision, bool tombstone);
// The first key after all keys of the table.
std::string TableEnd(Table table);

}  // namespace kvd::storage
