// Protobuf's wire form, for messages that are written and read without its library: entries of the log,
// stored records, and requests and answers whose bytes are passed on as they are.
//
// Thread-safety: pure functions; a FieldReader is thread-compatible. What it gives points into the bytes that
// it reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace kvd::base {

// As in protobuf's encoding specification.
enum class WireType : uint32_t { kVarint = 0, kFixed64 = 1, kLength = 2, kFixed32 = 5 };

inline constexpr size_t kMaxVarintBytes = 10;

inline size_t VarintSize(uint64_t value) {
  return value == 0 ? 1 : (static_cast<size_t>(64 - __builtin_clzll(value)) + 6) / 7;
}

// Writes VarintSize(value) bytes and gives their end.
inline char* PutVarint(char* to, uint64_t value) {
  while (value >= 0x80) {
    *to++ = static_cast<char>(value | 0x80);
    value >>= 7;
  }
  *to++ = static_cast<char>(value);
  return to;
}

inline void AppendVarint(std::string& out, uint64_t value) {
  char bytes[kMaxVarintBytes];
  out.append(bytes, static_cast<size_t>(PutVarint(bytes, value) - bytes));
}

// Takes one off the front; false, and the bytes as they were, if none is there.
inline bool ReadVarint(std::string_view* from, uint64_t* value) {
  uint64_t result = 0;
  for (size_t i = 0; i < kMaxVarintBytes && i < from->size(); ++i) {
    const uint64_t byte = static_cast<unsigned char>((*from)[i]);
    result |= (byte & 0x7f) << (7 * i);
    if (byte < 0x80) {
      from->remove_prefix(i + 1);
      *value = result;
      return true;
    }
  }
  return false;
}

inline void AppendTag(std::string& out, uint32_t field, WireType type) {
  AppendVarint(out, uint64_t{field} << 3 | static_cast<uint32_t>(type));
}

// A field of a message that is written also if it is 0, as proto2 does.
inline void AppendVarintField(std::string& out, uint32_t field, uint64_t value) {
  AppendTag(out, field, WireType::kVarint);
  AppendVarint(out, value);
}

// A field of a message, written only if it differs from its default, as proto3 does.
inline void AppendUint64Field(std::string& out, uint32_t field, uint64_t value) {
  if (value != 0) AppendVarintField(out, field, value);
}
inline void AppendInt64Field(std::string& out, uint32_t field, int64_t value) {
  AppendUint64Field(out, field, static_cast<uint64_t>(value));
}
inline void AppendBoolField(std::string& out, uint32_t field, bool value) {
  AppendUint64Field(out, field, value ? 1 : 0);
}

// The beginning of a field of so many bytes, which follow.
inline void AppendLength(std::string& out, uint32_t field, size_t bytes) {
  AppendTag(out, field, WireType::kLength);
  AppendVarint(out, bytes);
}

// Also for an embedded message. Written even if it is empty.
inline void AppendBytesField(std::string& out, uint32_t field, std::string_view value) {
  AppendLength(out, field, value.size());
  out.append(value);
}

// What AppendBytesField appends for so many bytes and a field up to 15.
inline size_t BytesFieldSize(size_t bytes) {
  return 1 + VarintSize(bytes) + bytes;
}

// Walks the fields of one encoded message.
//
//   for (FieldReader f(bytes); f.Next();) if (f.field() == 1) ... f.bytes() ...
class FieldReader {
 public:
  explicit FieldReader(std::string_view message) : rest_(message) {}

  // False at the end or at the first byte that is not protobuf; ok() tells which.
  bool Next() {
    if (rest_.empty() || !ok_) return false;
    ok_ = Read();
    return ok_;
  }
  bool ok() const { return ok_; }

  uint32_t field() const { return field_; }
  WireType type() const { return type_; }
  uint64_t varint() const { return number_; }        // kVarint, kFixed64, kFixed32
  std::string_view bytes() const { return bytes_; }  // kLength

 private:
  static constexpr uint64_t kMaxTag = UINT32_MAX;

  bool Read() {
    uint64_t tag = 0;
    if (!ReadVarint(&rest_, &tag) || tag >> 3 == 0 || tag > kMaxTag) return false;
    field_ = static_cast<uint32_t>(tag >> 3);
    type_ = static_cast<WireType>(tag & 7);
    bytes_ = {};
    switch (type_) {
      case WireType::kVarint:
        return ReadVarint(&rest_, &number_);
      case WireType::kFixed64:
        if (rest_.size() < 8) return false;
        number_ = LoadLittleEndian64(rest_.data());
        rest_.remove_prefix(8);
        return true;
      case WireType::kFixed32:
        if (rest_.size() < 4) return false;
        number_ = LoadLittleEndian32(rest_.data());
        rest_.remove_prefix(4);
        return true;
      case WireType::kLength:
        if (!ReadVarint(&rest_, &number_) || number_ > rest_.size()) return false;
        bytes_ = rest_.substr(0, number_);
        rest_.remove_prefix(number_);
        return true;
    }
    return false;  // groups are not used by any message of ours
  }

  std::string_view rest_;
  std::string_view bytes_;
  uint64_t number_ = 0;
  uint32_t field_ = 0;
  WireType type_ = WireType::kVarint;
  bool ok_ = true;
};

}  // namespace kvd::base
