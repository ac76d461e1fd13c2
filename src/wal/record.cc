#include "wal/record.h"

#include "base/bytes.h"
#include "base/crc32c.h"

namespace kvd::wal {
namespace {

constexpr size_t kKeptBufferBytes = 4 << 20;
constexpr uint64_t kLengthMask = (uint64_t{1} << 56) - 1;

// Protobuf's wire types, as far as these messages use them.
constexpr uint32_t kVarint = 0;
constexpr uint32_t kFixed64 = 1;
constexpr uint32_t kBytes = 2;
constexpr uint32_t kFixed32 = 5;

void AppendVarint(std::string& out, uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

void AppendVarintField(std::string& out, uint32_t field, uint64_t value) {
  AppendVarint(out, field << 3 | kVarint);
  AppendVarint(out, value);
}

void AppendBytesHeader(std::string& out, uint32_t field, uint64_t size) {
  AppendVarint(out, field << 3 | kBytes);
  AppendVarint(out, size);
}

// Walks the fields of a message. Fields that a newer writer added are passed over.
class FieldReader {
 public:
  explicit FieldReader(std::string_view bytes) : rest_(bytes) {}

  // False at the end, and on bytes that are no field; ok() tells which.
  bool Next() {
    if (rest_.empty()) return false;
    uint64_t tag;
    if (!ReadVarint(&tag) || tag >> 3 == 0 || tag >> 32 != 0) return Fail();
    field_ = static_cast<uint32_t>(tag >> 3);
    wire_type_ = static_cast<uint32_t>(tag & 7);
    switch (wire_type_) {
      case kVarint:
        return ReadVarint(&number_) || Fail();
      case kFixed64:
        return Take(8) || Fail();
      case kFixed32:
        return Take(4) || Fail();
      case kBytes: {
        uint64_t size;
        return (ReadVarint(&size) && Take(size)) || Fail();
      }
      default:
        return Fail();
    }
  }

  bool ok() const { return ok_; }
  // Stores the field if it is this one; false if it is not.
  bool Number(uint32_t field, uint64_t* out) const {
    if (field_ != field || wire_type_ != kVarint) return false;
    *out = number_;
    return true;
  }
  bool Bytes(uint32_t field, std::string_view* out) const {
    if (field_ != field || wire_type_ != kBytes) return false;
    *out = bytes_;
    return true;
  }

 private:
  bool Fail() {
    ok_ = false;
    return false;
  }
  bool Take(uint64_t size) {
    if (size > rest_.size()) return false;
    bytes_ = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return true;
  }
  bool ReadVarint(uint64_t* value) {
    *value = 0;
    for (unsigned shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const uint64_t byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      *value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  std::string_view rest_;
  uint32_t field_ = 0;
  uint32_t wire_type_ = 0;
  uint64_t number_ = 0;
  std::string_view bytes_;
  bool ok_ = true;
};

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
    reader.Number(1, &type) || reader.Number(2, &crc) || reader.Bytes(3, &record->data);
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
    reader.Number(1, &type) || reader.Number(2, &entry->term) || reader.Number(3, &entry->index) ||
        reader.Bytes(4, &data);
  }
  entry->type = static_cast<int32_t>(type);
  entry->data = base::SharedBytes::Copy(data);
  return reader.ok();
}

bool DecodeEntryPosition(std::string_view bytes, uint64_t* index, uint64_t* term) {
  *index = *term = 0;
  FieldReader reader(bytes);
  while (reader.Next()) reader.Number(2, term) || reader.Number(3, index);
  return reader.ok();
}

bool DecodeHardState(std::string_view bytes, HardState* state) {
  *state = HardState();
  FieldReader reader(bytes);
  while (reader.Next()) {
    reader.Number(1, &state->term) || reader.Number(2, &state->vote) || reader.Number(3, &state->commit);
  }
  return reader.ok();
}

bool DecodeSnapshotMarker(std::string_view bytes, SnapshotMarker* marker) {
  *marker = SnapshotMarker();
  std::string_view conf_state;
  FieldReader reader(bytes);
  while (reader.Next()) {
    reader.Number(1, &marker->index) || reader.Number(2, &marker->term) || reader.Bytes(3, &conf_state);
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
    AppendBytesHeader(buffer_, 3, data_bytes);
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
  if (!entry.data.empty()) AppendBytesHeader(head, 4, entry.data.size());
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
  if (!marker.conf_state.empty()) AppendBytesHeader(data, 3, marker.conf_state.size());
  AppendFrame(RecordType::kSnapshot, data, marker.conf_state);
}

void RecordEncoder::ClearBuffer() {
  buffer_.clear();
  if (buffer_.capacity() > kKeptBufferBytes) buffer_.shrink_to_fit();
}

}  // namespace kvd::wal
