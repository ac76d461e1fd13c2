#include "wire.h"

#include "base/bytes.h"
#include "base/check.h"

namespace kvd::bench {
namespace {

constexpr size_t kPrefixBytes = 5;
constexpr uint32_t kVarintType = 0;
constexpr uint32_t kBytesType = 2;

}  // namespace

void Encoder::RawVarint(uint64_t value) {
  while (value >= 0x80) {
    out_.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out_.push_back(static_cast<char>(value));
}

Encoder& Encoder::Varint(uint32_t field, uint64_t value) {
  RawVarint(uint64_t{field} << 3 | kVarintType);
  RawVarint(value);
  return *this;
}

Encoder& Encoder::Bytes(uint32_t field, std::string_view value) {
  RawVarint(uint64_t{field} << 3 | kBytesType);
  RawVarint(value.size());
  out_.append(value);
  return *this;
}

void FrameInto(std::string* frame, std::string_view message) {
  frame->resize(kPrefixBytes);
  (*frame)[0] = 0;
  base::StoreBigEndian32(frame->data() + 1, static_cast<uint32_t>(message.size()));
  frame->append(message);
}

std::string Frame(std::string_view message) {
  std::string frame;
  FrameInto(&frame, message);
  return frame;
}

void PatchDigits(char* at, size_t width, uint64_t number) {
  for (size_t i = width; i-- > 0; number /= 10) at[i] = static_cast<char>('0' + number % 10);
  KVD_CHECK(number == 0, "a number is wider than its place");
}

bool Reader::ReadVarint(uint64_t* value) {
  *value = 0;
  for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
    const auto byte = static_cast<uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    *value |= uint64_t{byte & 0x7FU} << shift;
    if (byte < 0x80) return true;
  }
  malformed_ = true;
  return false;
}

std::optional<Field> Reader::Next() {
  if (rest_.empty() || malformed_) return std::nullopt;
  uint64_t tag = 0;
  Field field;
  if (!ReadVarint(&tag) || !ReadVarint(&field.value)) return std::nullopt;
  field.number = static_cast<uint32_t>(tag >> 3);
  if ((tag & 7) == kVarintType) return field;
  if ((tag & 7) != kBytesType || field.value > rest_.size()) {
    malformed_ = true;
    return std::nullopt;
  }
  field.is_bytes = true;
  field.bytes = rest_.substr(0, field.value);
  rest_.remove_prefix(field.value);
  return field;
}

std::optional<Field> Find(std::string_view message, uint32_t number) {
  Reader reader(message);
  while (std::optional<Field> field = reader.Next()) {
    if (field->number == number) return field;
  }
  return std::nullopt;
}

int64_t HeaderRevision(std::string_view message) {
  const std::optional<Field> header = Find(message, 1);
  if (!header || !header->is_bytes) return 0;
  const std::optional<Field> revision = Find(header->bytes, 3);
  return revision ? static_cast<int64_t>(revision->value) : 0;
}

}  // namespace kvd::bench
