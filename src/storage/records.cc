#include "storage/records.h"

#include "base/bytes.h"
#include "base/protobuf_wire.h"

namespace kvd::storage {
namespace {

// Field numbers of mvccpb.KeyValue.
enum KeyValueField : uint32_t {
  kKey = 1,
  kCreateRevision = 2,
  kModRevision = 3,
  kVersion = 4,
  kValue = 5,
  kLease = 6
};

size_t BytesSize(std::string_view bytes) {
  return bytes.empty() ? 0 : base::BytesFieldSize(bytes.size());
}
size_t NumberSize(int64_t number) {
  return number == 0 ? 0 : 1 + base::VarintSize(static_cast<uint64_t>(number));
}

}  // namespace

void AppendKeyValue(std::string& out, const KeyValueView& kv) {
  if (!kv.key.empty()) base::AppendBytesField(out, kKey, kv.key);
  base::AppendInt64Field(out, kCreateRevision, kv.create_revision);
  base::AppendInt64Field(out, kModRevision, kv.mod_revision);
  base::AppendInt64Field(out, kVersion, kv.version);
  if (!kv.value.empty()) base::AppendBytesField(out, kValue, kv.value);
  base::AppendInt64Field(out, kLease, kv.lease);
}

size_t KeyValueSize(const KeyValueView& kv) {
  return BytesSize(kv.key) + NumberSize(kv.create_revision) + NumberSize(kv.mod_revision) +
         NumberSize(kv.version) + BytesSize(kv.value) + NumberSize(kv.lease);
}

bool DecodeKeyValue(std::string_view bytes, KeyValueView* kv) {
  *kv = {};
  base::FieldReader fields(bytes);
  while (fields.Next()) {
    if (fields.type() == base::WireType::kLength) {
      if (fields.field() == kKey) kv->key = fields.bytes();
      if (fields.field() == kValue) kv->value = fields.bytes();
    } else if (fields.type() == base::WireType::kVarint) {
      const auto number = static_cast<int64_t>(fields.varint());
      if (fields.field() == kCreateRevision) kv->create_revision = number;
      if (fields.field() == kModRevision) kv->mod_revision = number;
      if (fields.field() == kVersion) kv->version = number;
      if (fields.field() == kLease) kv->lease = number;
    }
  }
  return fields.ok();
}

void AppendRevisionKey(std::string& out, Revision revision, bool tombstone) {
  base::AppendBigEndian64(out, static_cast<uint64_t>(revision.main));
  out.push_back('_');
  base::AppendBigEndian64(out, static_cast<uint64_t>(revision.sub));
  if (tombstone) out.push_back('t');
}

bool DecodeRevisionKey(std::string_view key, Revision* revision, bool* tombstone) {
  if (key.size() < kRevisionKeySize || key.size() > kRevisionKeySize + 1 || key[8] != '_') return false;
  *tombstone = key.size() > kRevisionKeySize;
  if (*tombstone && key[kRevisionKeySize] != 't') return false;
  revision->main = static_cast<int64_t>(base::LoadBigEndian64(key.data()));
  revision->sub = static_cast<int64_t>(base::LoadBigEndian64(key.data() + 9));
  return true;
}

std::string TableKey(Table table, std::string_view key) {
  std::string out;
  out.reserve(key.size() + 1);
  out.push_back(static_cast<char>(table));
  out.append(key);
  return out;
}

std::string RevisionTableKey(Revision revision, bool tombstone) {
  std::string out;
  out.reserve(kRevisionKeySize + 2);
  out.push_back(static_cast<char>(Table::kRevision));
  AppendRevisionKey(out, revision, tombstone);
  return out;
}

std::string TableEnd(Table table) {
  return std::string(1, static_cast<char>(static_cast<char>(table) + 1));
}

}  // namespace kvd::storage
