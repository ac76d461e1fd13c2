#include "server/node/wire_codec.h"

#include "base/bytes.h"

namespace kvd::server {
namespace {

constexpr uint32_t kRequestHeaderField = 100;
constexpr uint32_t kRequestHeaderId = 1;
constexpr int kMaxVarintBytes = 10;

uint64_t TagOf(uint32_t field, WireType type) {
  return (uint64_t{field} << 3) | static_cast<uint32_t>(type);
}

}  // namespace

void AppendVarint(std::string& out, uint64_t value) {
  char buffer[kMaxVarintBytes];
  size_t n = 0;
  while (value >= 0x80) {
    buffer[n++] = static_cast<char>(value | 0x80);
    value >>= 7;
  }
  buffer[n++] = static_cast<char>(value);
  out.append(buffer, n);
}

size_t VarintSize(uint64_t value) {
  size_t n = 1;
  for (; value >= 0x80; value >>= 7) ++n;
  return n;
}

void AppendTag(std::string& out, uint32_t field, WireType type) {
  AppendVarint(out, TagOf(field, type));
}

void AppendUint64Field(std::string& out, uint32_t field, uint64_t value) {
  if (value == 0) return;
  AppendTag(out, field, WireType::kVarint);
  AppendVarint(out, value);
}

void AppendInt64Field(std::string& out, uint32_t field, int64_t value) {
  AppendUint64Field(out, field, static_cast<uint64_t>(value));
}

void AppendBoolField(std::string& out, uint32_t field, bool value) {
  AppendUint64Field(out, field, value ? 1 : 0);
}

void AppendBytesField(std::string& out, uint32_t field, std::string_view value) {
  AppendTag(out, field, WireType::kLength);
  AppendVarint(out, value.size());
  out.append(value);
}

bool FieldReader::ReadVarint(uint64_t* value) {
  uint64_t result = 0;
  for (int i = 0; i < kMaxVarintBytes && static_cast<size_t>(i) < rest_.size(); ++i) {
    uint64_t byte = static_cast<unsigned char>(rest_[i]);
    result |= (byte & 0x7f) << (7 * i);
    if (byte < 0x80) {
      rest_.remove_prefix(i + 1);
      *value = result;
      return true;
    }
  }
  return false;
}

bool FieldReader::Next() {
  if (rest_.empty() || !ok_) return false;
  uint64_t tag = 0;
  ok_ = false;
  if (!ReadVarint(&tag) || (tag >> 3) == 0 || (tag >> 3) > 0x1fffffff) return false;
  field_ = static_cast<uint32_t>(tag >> 3);
  type_ = static_cast<WireType>(tag & 7);
  bytes_ = {};
  switch (type_) {
    case WireType::kVarint:
      ok_ = ReadVarint(&number_);
      break;
    case WireType::kFixed64:
    case WireType::kFixed32: {
      size_t width = type_ == WireType::kFixed64 ? 8 : 4;
      if (rest_.size() < width) return false;
      number_ = width == 8 ? base::LoadLittleEndian64(rest_.data()) : base::LoadLittleEndian32(rest_.data());
      rest_.remove_prefix(width);
      ok_ = true;
      break;
    }
    case WireType::kLength:
      if (!ReadVarint(&number_) || number_ > rest_.size()) return false;
      bytes_ = rest_.substr(0, number_);
      rest_.remove_prefix(number_);
      ok_ = true;
      break;
    default:
      return false;  // groups are not used by any message of ours
  }
  return ok_;
}

std::string EncodeRaftRequest(uint64_t id, RequestField field, std::string_view request) {
  std::string out;
  out.reserve(request.size() + 32);
  AppendBytesField(out, static_cast<uint32_t>(field), request);
  AppendTag(out, kRequestHeaderField, WireType::kLength);
  AppendVarint(out, 1 + VarintSize(id));
  AppendTag(out, kRequestHeaderId, WireType::kVarint);
  AppendVarint(out, id);
  return out;
}

void AppendResponseHeader(std::string& out, const ResponseHeaderFields& header) {
  // Tag, length, then at most four varints with their tags: 2 + 4 * 11 bytes, so the length fits one byte.
  size_t start = out.size();
  out.append(2, '\0');
  AppendUint64Field(out, 1, header.cluster_id);
  AppendUint64Field(out, 2, header.member_id);
  AppendInt64Field(out, 3, header.revision);
  AppendUint64Field(out, 4, header.raft_term);
  out[start] = static_cast<char>(TagOf(1, WireType::kLength));
  out[start + 1] = static_cast<char>(out.size() - start - 2);
}

}  // namespace kvd::server
