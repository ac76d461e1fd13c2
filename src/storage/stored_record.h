// What the history and the table of latest records hold of a record: the record itself; or, of a large one,
// a reference, that is all of it but the value, and where it stands whole (Table::kLarge, under its
// revision). So a large value is on disk once, is not written again as its key moves through the levels of
// the table of latest records, and is not read by those who only look for keys and versions: a start, a
// watcher of other keys.
//
// A reference is a zero byte, with which no record begins, the sub revision and the size of the whole record
// as varints, and the mvccpb.KeyValue without its value.
//
// Thread-safety: pure functions and values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "storage/records.h"

namespace kvd::storage {

class Engine;
class EngineSnapshot;

// Values from this size on make a record large, unless the store's options say otherwise. From here on a list
// takes no longer to look each of them up than to read them in line (measured: decision 14).
inline constexpr size_t kLargeValueBytes = 8192;

struct StoredRecord {
  KeyValueView kv;  // without the value, if it is large
  bool large = false;
  int64_t sub = 0;         // of the revision; of a large one only
  size_t record_size = 0;  // of the whole record

  // Of a large one.
  Revision revision() const { return {kv.mod_revision, sub}; }
};

void AppendReference(std::string& out, const KeyValueView& kv, int64_t sub, size_t record_size);
// The reference to `record`. CHECKs that it decodes.
void AppendReference(std::string& out, std::string_view record, int64_t sub);
// False if it is neither.
bool DecodeStored(std::string_view stored, StoredRecord* record);
inline bool IsReference(std::string_view stored) {
  return !stored.empty() && stored.front() == '\0';
}

// The engine's key of a large record.
std::string LargeTableKey(Revision revision);

// Gives `use` the whole record that `stored` is or refers to, read from the same state (null: the engine as
// it is now). Any thread. REQUIRES: a pin or the snapshot holds it. CHECKs that, and that `stored` decodes.
void UseRecord(Engine& engine, std::string_view stored, const EngineSnapshot* snapshot,
               absl::FunctionRef<void(std::string_view record)> use);
// The same where nothing holds it: false if it is not there any more.
bool TryUseRecord(Engine& engine, std::string_view stored, const EngineSnapshot* snapshot,
                  absl::FunctionRef<void(std::string_view record)> use);

}  // namespace kvd::storage
