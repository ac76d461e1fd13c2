#include "net/grpc_wire.h"

#include <zlib.h>

#include <algorithm>

#include "base/bytes.h"
#include "base/strings.h"

namespace kvd::net {
namespace {
// A buffer for messages is allotted, and kept for the next one, up to this size; beyond it grows with the
// data.
constexpr size_t kKeptBytes = size_t{64} * 1024;
}  // namespace

void StoreGrpcPrefix(char* prefix, uint32_t size) {
  prefix[0] = 0;
  base::StoreBigEndian32(prefix + 1, size);
}

bool IsGrpcContentType(std::string_view content_type) {
  constexpr std::string_view kBase = "application/grpc";
  if (content_type.substr(0, kBase.size()) != kBase) return false;
  if (content_type.size() == kBase.size()) return true;
  char next = content_type[kBase.size()];
  return next == '+' || next == ';' || next == ' ';
}

std::optional<base::Nanos> ParseGrpcTimeout(std::string_view value) {
  if (value.size() < 2 || value.size() > 9) return std::nullopt;
  int64_t amount = 0;
  for (char c : value.substr(0, value.size() - 1)) {
    if (c < '0' || c > '9') return std::nullopt;
    amount = amount * 10 + (c - '0');
  }
  int64_t unit;
  switch (value.back()) {
    case 'H':
      unit = 3'600'000'000'000;
      break;
    case 'M':
      unit = 60'000'000'000;
      break;
    case 'S':
      unit = 1'000'000'000;
      break;
    case 'm':
      unit = 1'000'000;
      break;
    case 'u':
      unit = 1'000;
      break;
    case 'n':
      unit = 1;
      break;
    default:
      return std::nullopt;
  }
  if (amount > INT64_MAX / unit) return base::Nanos::max();
  return base::Nanos(amount * unit);
}

std::string PercentEncode(std::string_view text) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string encoded;
  encoded.reserve(text.size());
  for (char c : text) {
    if (c >= ' ' && c <= '~' && c != '%') {
      encoded += c;
    } else {
      auto byte = static_cast<unsigned char>(c);
      encoded += '%';
      encoded += kHex[byte >> 4];
      encoded += kHex[byte & 15];
    }
  }
  return encoded;
}

void MessageAssembler::Reset(uint32_t max_message_bytes) {
  max_bytes_ = max_message_bytes;
  gzip_ = false;
  prefix_have_ = 0;
  size_ = 0;
  taken_ = false;
  message_.clear();
  if (message_.capacity() > kKeptBytes) message_.shrink_to_fit();
  error_code_ = StatusCode::kOk;
  error_.clear();
}

MessageAssembler::Next MessageAssembler::Fail(StatusCode code, std::string error) {
  error_code_ = code;
  error_ = std::move(error);
  return Next::kError;
}

MessageAssembler::Next MessageAssembler::CheckPrefix() {
  auto flag = static_cast<unsigned char>(prefix_[0]);
  size_ = base::LoadBigEndian32(prefix_ + 1);
  if (flag > 1) {
    return Fail(StatusCode::kInternal, base::StrCat("grpc: received unexpected payload format ", flag));
  }
  if (flag == 1 && !gzip_) {
    return Fail(StatusCode::kInternal, "grpc: compressed flag set with identity or empty encoding");
  }
  if (size_ > max_bytes_) {
    return Fail(StatusCode::kResourceExhausted,
                base::StrCat("grpc: received message larger than max (", size_, " vs. ", max_bytes_, ")"));
  }
  // What the prefix claims is believed only as far as the data bears it out.
  message_.reserve(std::min<size_t>(size_, kKeptBytes));
  return Next::kMessage;
}

MessageAssembler::Next MessageAssembler::Feed(std::string_view* data) {
  if (error_code_ != StatusCode::kOk) return Next::kError;
  if (taken_) {
    taken_ = false;
    prefix_have_ = 0;
    message_.clear();
  }
  if (prefix_have_ < kGrpcPrefixBytes) {
    size_t n = std::min(kGrpcPrefixBytes - prefix_have_, data->size());
    std::copy_n(data->data(), n, prefix_ + prefix_have_);
    prefix_have_ += n;
    data->remove_prefix(n);
    if (prefix_have_ < kGrpcPrefixBytes) return Next::kNeedMore;
    if (CheckPrefix() == Next::kError) return Next::kError;
  }
  size_t n = std::min<size_t>(size_ - message_.size(), data->size());
  message_.append(data->data(), n);
  data->remove_prefix(n);
  if (message_.size() < size_) return Next::kNeedMore;
  if (prefix_[0] != 0 && Inflate() == Next::kError) return Next::kError;
  taken_ = true;
  prefix_have_ = 0;
  return Next::kMessage;
}

MessageAssembler::Next MessageAssembler::Inflate() {
  z_stream stream{};
  if (inflateInit2(&stream, 15 + 16) != Z_OK) return Fail(StatusCode::kInternal, "grpc: cannot decompress");
  stream.next_in = reinterpret_cast<Bytef*>(message_.data());
  stream.avail_in = static_cast<uInt>(message_.size());
  std::string plain;
  char chunk[16 * 1024];
  int result = Z_OK;
  while (result == Z_OK && plain.size() <= max_bytes_) {
    stream.next_out = reinterpret_cast<Bytef*>(chunk);
    stream.avail_out = sizeof chunk;
    result = inflate(&stream, Z_NO_FLUSH);
    if (result != Z_OK && result != Z_STREAM_END) break;
    plain.append(chunk, sizeof chunk - stream.avail_out);
  }
  inflateEnd(&stream);
  if (plain.size() > max_bytes_) {
    return Fail(StatusCode::kResourceExhausted,
                base::StrCat("grpc: received message after decompression larger than max (", plain.size(),
                             " vs. ", max_bytes_, ")"));
  }
  if (result != Z_STREAM_END) {
    return Fail(StatusCode::kInternal, "grpc: failed to decompress the received message: invalid gzip data");
  }
  message_ = std::move(plain);
  return Next::kMessage;
}

}  // namespace kvd::net
