#include "wal/record.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/protobuf_wire.h"

namespace kvd::wal {
namespace {

constexpr size_t kKeptBufferBytes = 4 << 20;
constexpr uint64_t kLengthMask = (uint64_t{1} << 56) - 1;

using base::AppendLength;
using base::AppendVarintField;
using base::FieldReader;
using base::WireType;

// Stores the present field if it is this one; false if it is not.
bool Number(const FieldReader& reader, uint32_t field, uint64_t* out) {
  if (reader.field() != field || reader.type() != WireType::kVarint) return false;
  *out = reader.varint();
  return true;
}
bool Bytes(const FieldReader& reader, uint32_t field, std::string_view* out) {
  if (reader.field() != field || reader.type() != WireType::kLength) return false;
  *out = reader.bytes();
  return true;
}

}  // namespace

bool ParseFrameHeader(std::string_view bytes, FrameHeader* header) {
  const uint64_t field = base::LoadLittleEndian64(bytes.data());
  const uint64_t top = field >> 56;
  header->record_bytes = field & kLengthMask;
  header->padding_bytes = top & 0x7;
  return top == 0 || (top & ~uint64_t{0x7}) == 0x80;
}

bool DecodeRecord(std::string_view bytes, Record* record) {
  *record = Record();
  uint64_t type = 0;
  uint64_t crc = 0;
  FieldReader reader(bytes);
  while (reader.Next()) {
    Number(reader, 1, &type) || Number(reader, 2, &crc) || Bytes(reader, 3, &record->data);
  }
  record->type = static_cast<RecordType>(type);
  record->crc = static_cast<uint32_t>(crc);
  return reader.ok();
}

bool DecodeEntry(std::string_view bytes, Entry* entry) {
  *entry = Entry();
  uint64_t type = 0;
  std::string_view data;
  FieldReader reader(bytes);
  while (reader.Next()) {
    Number(reader, 1, &type) || Number(reader, 2, &entry->term) || Number(reader, 3, &entry->index) ||
        Bytes(reader, 4, &data);
  }
  entry->type = static_cast<int32_t>(type);
  entry->data = base::SharedBytes::Copy(data);
  return reader.ok();
}

bool DecodeEntryPosition(std::string_view bytes, uint64_t* index, uint64_t* term) {
  *index = *term = 0;
  FieldReader reader(bytes);
  while (reader.Next()) Number(reader, 2, term) || Number(reader, 3, index);
  return reader.ok();
}

bool DecodeHardState(std::string_view bytes, HardState* state) {
  *state = HardState();
  FieldReader reader(bytes);
  while (reader.Next()) {
    Number(reader, 1, &state->term) || Number(reader, 2, &state->vote) || Number(reader, 3, &state->commit);
  }
  return reader.ok();
}

bool DecodeSnapshotMarker(std::string_view bytes, SnapshotMarker* marker) {
  *marker = SnapshotMarker();
  std::string_view conf_state;
  FieldReader reader(bytes);
  while (reader.Next()) {
    Number(reader, 1, &marker->index) || Number(reader, 2, &marker->term) || Bytes(reader, 3, &conf_state);
  }
  marker->conf_state = std::string(conf_state);
  return reader.ok();
}

void RecordEncoder::AppendFrame(RecordType type, std::string_view head, std::string_view tail) {
  crc_ = base::Crc32c(base::Crc32c(crc_, head), tail);
  const size_t start = buffer_.size();
  const size_t data_bytes = head.size() + tail.size();
  buffer_.append(kFrameHeaderBytes, '\0');
  AppendVarintField(buffer_, 1, static_cast<uint64_t>(type));
  AppendVarintField(buffer_, 2, crc_);
  if (data_bytes > 0) {
    AppendLength(buffer_, 3, data_bytes);
    buffer_.append(head);
    buffer_.append(tail);
  }
  uint64_t field = buffer_.size() - start - kFrameHeaderBytes;
  if (const uint64_t padding = (8 - field % 8) % 8; padding != 0) {
    field |= (0x80 | padding) << 56;
    buffer_.append(padding, '\0');
  }
  base::StoreLittleEndian64(buffer_.data() + start, field);
}

void RecordEncoder::AppendEntry(const Entry& entry) {
  std::string head;  // at most 45 bytes
  // A negative type is sign-extended, as protobuf's int32 is.
  AppendVarintField(head, 1, static_cast<uint64_t>(int64_t{entry.type}));
  AppendVarintField(head, 2, entry.term);
  AppendVarintField(head, 3, entry.index);
  if (!entry.data.empty()) AppendLength(head, 4, entry.data.size());
  AppendFrame(RecordType::kEntry, head, entry.data.view());
}

void RecordEncoder::AppendHardState(const HardState& state) {
  std::string data;
  AppendVarintField(data, 1, state.term);
  AppendVarintField(data, 2, state.vote);
  AppendVarintField(data, 3, state.commit);
  AppendFrame(RecordType::kState, data, {});
}

void RecordEncoder::AppendSnapshotMarker(const SnapshotMarker& marker) {
  std::string data;
  AppendVarintField(data, 1, marker.index);
  AppendVarintField(data, 2, marker.term);
  if (!marker.conf_state.empty()) AppendLength(data, 3, marker.conf_state.size());
  AppendFrame(RecordType::kSnapshot, data, marker.conf_state);
}

void RecordEncoder::ClearBuffer() {
  buffer_.clear();
  if (buffer_.capacity() > kKeptBufferBytes) buffer_.shrink_to_fit();
}

}  // namespace kvd::wal
