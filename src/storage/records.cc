#include "storage/records.h"

#include "base/bytes.h"

namespace kvd::storage {
namespace {

// Field numbers of mvccpb.KeyValue.
enum KeyValueField { kKey = 1, kCreateRevision = 2, kModRevision = 3, kVersion = 4, kValue = 5, kLease = 6 };

bool ReadVarint(std::string_view& in, uint64_t* v) {
  uint64_t result = 0;
  for (size_t i = 0; i < in.size() && i < 10; ++i) {
    uint8_t byte = static_cast<uint8_t>(in[i]);
    result |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
    if (byte < 0x80) {
      in.remove_prefix(i + 1);
      *v = result;
      return true;
    }
  }
  return false;
}

bool ReadBytes(std::string_view& in, std::string_view* bytes) {
  uint64_t n;
  if (!ReadVarint(in, &n) || n > in.size()) return false;
  *bytes = in.substr(0, n);
  in.remove_prefix(n);
  return true;
}

bool Skip(std::string_view& in, int wire_type) {
  uint64_t v;
  std::string_view bytes;
  switch (wire_type) {
    case 0:
      return ReadVarint(in, &v);
    case 1:
      if (in.size() < 8) return false;
      in.remove_prefix(8);
      return true;
    case 2:
      return ReadBytes(in, &bytes);
    case 5:
      if (in.size() < 4) return false;
      in.remove_prefix(4);
      return true;
    default:
      return false;
  }
}

}  // namespace

void AppendVarint(std::string& out, uint64_t v) {
  char buf[10];
  size_t n = 0;
  while (v >= 0x80) {
    buf[n++] = static_cast<char>(v | 0x80);
    v >>= 7;
  }
  buf[n++] = static_cast<char>(v);
  out.append(buf, n);
}

size_t VarintSize(uint64_t v) {
  size_t n = 1;
  while (v >= 0x80) {
    v >>= 7;
    ++n;
  }
  return n;
}

void AppendTag(std::string& out, int field, int wire_type) {
  AppendVarint(out, static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(wire_type));
}

void AppendBytesField(std::string& out, int field, std::string_view bytes) {
  AppendTag(out, field, 2);
  AppendVarint(out, bytes.size());
  out.append(bytes);
}

void AppendVarintField(std::string& out, int field, int64_t v) {
  if (v == 0) return;
  AppendTag(out, field, 0);
  AppendVarint(out, static_cast<uint64_t>(v));
}

void AppendKeyValue(std::string& out, const KeyValueView& kv) {
  if (!kv.key.empty()) AppendBytesField(out, kKey, kv.key);
  AppendVarintField(out, kCreateRevision, kv.create_revision);
  AppendVarintField(out, kModRevision, kv.mod_revision);
  AppendVarintField(out, kVersion, kv.version);
  if (!kv.value.empty()) AppendBytesField(out, kValue, kv.value);
  AppendVarintField(out, kLease, kv.lease);
}

bool DecodeKeyValue(std::string_view bytes, KeyValueView* kv) {
  *kv = {};
  while (!bytes.empty()) {
    uint64_t tag, v;
    if (!ReadVarint(bytes, &tag)) return false;
    int field = static_cast<int>(tag >> 3), type = static_cast<int>(tag & 7);
    if (type == 2 && (field == kKey || field == kValue)) {
      if (!ReadBytes(bytes, field == kKey ? &kv->key : &kv->value)) return false;
    } else if (type == 0 && field >= kCreateRevision && field <= kLease) {
      if (!ReadVarint(bytes, &v)) return false;
      int64_t n = static_cast<int64_t>(v);
      if (field == kCreateRevision) kv->create_revision = n;
      if (field == kModRevision) kv->mod_revision = n;
      if (field == kVersion) kv->version = n;
      if (field == kLease) kv->lease = n;
    } else if (!Skip(bytes, type)) {
      return false;
    }
  }
  return true;
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
