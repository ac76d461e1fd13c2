// The body of an HTTP/1.1 message, taken apart piece by piece: by its length, chunked, or up to the end of
// the connection. (Boost.Beast's parser of chunks ends the process over input that comes in certain pieces.)
//
// Thread-safety: thread-compatible.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kvd::net {

class HttpBodyReader {
 public:
  HttpBodyReader() = default;  // no body
  // Nothing, too: no body.
  static HttpBodyReader OfLength(std::optional<uint64_t> length);
  static HttpBodyReader Chunked();
  static HttpBodyReader UntilClose();

  // Takes framing and body bytes off the front of `bytes` and gives one piece of the body, which points into
  // them; an empty piece: more bytes are needed, or done(). Errors: kInvalidArgument for chunks that are
  // none.
  absl::StatusOr<std::string_view> Next(std::string_view* bytes);
  bool done() const { return state_ == State::kDone; }
  // The peer closed the connection: true if that is where the body ends.
  bool EndOfStream() const { return state_ == State::kDone || state_ == State::kUntilClose; }
  // Bytes the head announced; nothing if it did not.
  std::optional<uint64_t> announced() const { return announced_; }

 private:
  enum class State { kLength, kUntilClose, kChunkSize, kChunkData, kChunkEnd, kTrailer, kDone };

  // Takes a line without its end off `bytes` into line_; false if it is not complete yet.
  absl::StatusOr<bool> TakeLine(std::string_view* bytes);
  absl::Status StartChunk();

  State state_ = State::kDone;
  uint64_t left_ = 0;
  std::optional<uint64_t> announced_;
  std::string line_;
  bool line_done_ = true;
};

}  // namespace kvd::net
