#include "storage/stored_record.h"

#include "base/check.h"
#include "base/protobuf_wire.h"
#include "storage/engine.h"

namespace kvd::storage {

static_assert(RocksOptions{}.separate_value_bytes <= kLargeValueBytes,
              "large records would move with their keys");

void AppendReference(std::string& out, const KeyValueView& kv, int64_t sub, size_t record_size) {
  out.push_back('\0');
  base::AppendVarint(out, static_cast<uint64_t>(sub));
  base::AppendVarint(out, record_size);
  KeyValueView rest = kv;
  rest.value = {};
  AppendKeyValue(out, rest);
}

void AppendReference(std::string& out, std::string_view record, int64_t sub) {
  KeyValueView kv;
  KVD_CHECK(DecodeKeyValue(record, &kv), "a stored record does not decode");
  AppendReference(out, kv, sub, record.size());
}

bool DecodeStored(std::string_view stored, StoredRecord* record) {
  *record = {};
  record->large = IsReference(stored);
  if (!record->large) {
    record->record_size = stored.size();
    return DecodeKeyValue(stored, &record->kv);
  }
  stored.remove_prefix(1);
  uint64_t sub, size;
  if (!base::ReadVarint(&stored, &sub) || !base::ReadVarint(&stored, &size)) return false;
  record->sub = static_cast<int64_t>(sub);
  record->record_size = size;
  return DecodeKeyValue(stored, &record->kv);
}

std::string LargeTableKey(Revision revision) {
  std::string out(1, static_cast<char>(Table::kLarge));
  AppendRevisionKey(out, revision, false);
  return out;
}

void UseRecord(Engine& engine, std::string_view stored, const EngineSnapshot* snapshot,
               absl::FunctionRef<void(std::string_view record)> use) {
  KVD_CHECK(TryUseRecord(engine, stored, snapshot, use), "the engine does not have a large record");
}

bool TryUseRecord(Engine& engine, std::string_view stored, const EngineSnapshot* snapshot,
                  absl::FunctionRef<void(std::string_view record)> use) {
  if (!IsReference(stored)) {
    use(stored);
    return true;
  }
  StoredRecord record;
  KVD_CHECK(DecodeStored(stored, &record), "a reference to a large record does not decode");
  return engine.Get(LargeTableKey(record.revision()), use, snapshot);
}

}  // namespace kvd::storage
