// The requests of the load generator as bytes, made once and patched in place, and a reader that finds the
// few fields of an answer that matter. A general message library would cost more than the request itself.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kvd::bench {

// Appends protobuf fields to a string that it owns.
class Encoder {
 public:
  Encoder& Varint(uint32_t field, uint64_t value);
  // Leaves the field out where the value is its default, as every encoder of proto3 does.
  Encoder& VarintIfSet(uint32_t field, uint64_t value) { return value == 0 ? *this : Varint(field, value); }
  Encoder& Bytes(uint32_t field, std::string_view value);
  Encoder& BytesIfSet(uint32_t field, std::string_view value) {
    return value.empty() ? *this : Bytes(field, value);
  }
  const std::string& str() const { return out_; }
  size_t size() const { return out_.size(); }
  void Clear() { out_.clear(); }

 private:
  void RawVarint(uint64_t value);
  std::string out_;
};

// A message with gRPC's prefix before it, in the place of `frame`'s content.
void FrameInto(std::string* frame, std::string_view message);
std::string Frame(std::string_view message);

// Writes `number` as exactly `width` decimal digits. REQUIRES: it fits.
void PatchDigits(char* at, size_t width, uint64_t number);

// One field of a message: a number (wire type 0) or bytes (wire type 2).
struct Field {
  uint32_t number = 0;
  bool is_bytes = false;
  uint64_t value = 0;
  std::string_view bytes;
};

// Walks the fields of a message.
class Reader {
 public:
  explicit Reader(std::string_view message) : rest_(message) {}
  // The next field; nullopt at the end, or where the message is malformed, which malformed() tells.
  std::optional<Field> Next();
  bool malformed() const { return malformed_; }

 private:
  bool ReadVarint(uint64_t* value);
  std::string_view rest_;
  bool malformed_ = false;
};

// The revision of the ResponseHeader in field 1 of any answer; 0 where there is none.
int64_t HeaderRevision(std::string_view message);
// The first field of that number; nullopt where there is none.
std::optional<Field> Find(std::string_view message, uint32_t number);

}  // namespace kvd::bench
