// gRPC's framing above HTTP/2: the length prefix, compression, timeouts and the encoding of error texts.
//
// Thread-safety: the functions are pure; MessageAssembler is thread-compatible.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "net/status_code.h"

namespace kvd::net {

inline constexpr size_t kGrpcPrefixBytes = 5;

// The prefix of an uncompressed message of `size` bytes.
void StoreGrpcPrefix(char* prefix, uint32_t size);

// "application/grpc", also with "+proto" or parameters.
bool IsGrpcContentType(std::string_view content_type);

// The value of grpc-timeout ("100m"); nullopt if it is malformed.
std::optional<base::Nanos> ParseGrpcTimeout(std::string_view value);

// A status text as grpc-message carries it: everything but printable ASCII, and '%', as %XX.
std::string PercentEncode(std::string_view text);

// Cuts the data of one request stream into messages and inflates those that are compressed.
class MessageAssembler {
 public:
  enum class Next { kNeedMore, kMessage, kError };

  void Reset(uint32_t max_message_bytes);
  // The request's grpc-encoding is gzip.
  void set_gzip(bool gzip) { gzip_ = gzip; }

  // Takes bytes off the front of `data` until a message is whole or `data` is empty. After kError the stream
  // is beyond repair: error_code() and error() say why.
  Next Feed(std::string_view* data);
  // The message, until the next Feed.
  const std::string& message() const { return message_; }
  // True if a message has begun and is not whole.
  bool in_message() const { return prefix_have_ != 0; }

  StatusCode error_code() const { return error_code_; }
  const std::string& error() const { return error_; }

 private:
  Next Fail(StatusCode code, std::string error);
  Next CheckPrefix();
  Next Inflate();

  uint32_t max_bytes_ = 0;
  bool gzip_ = false;
  char prefix_[kGrpcPrefixBytes] = {};
  size_t prefix_have_ = 0;
  uint32_t size_ = 0;
  bool taken_ = false;  // message_ was handed out; a new one starts
  std::string message_;
  StatusCode error_code_ = StatusCode::kOk;
  std::string error_;
};

}  // namespace kvd::net
