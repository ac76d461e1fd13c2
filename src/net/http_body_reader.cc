#include "net/http_body_reader.h"

#include <utility>

#include "base/hex.h"

namespace kvd::net {
namespace {

constexpr size_t kMaxLineBytes = 4096;
constexpr size_t kMaxSizeDigits = 15;

}  // namespace

HttpBodyReader HttpBodyReader::OfLength(std::optional<uint64_t> length) {
  HttpBodyReader body;
  body.announced_ = length;
  body.left_ = length.value_or(0);
  if (body.left_ > 0) body.state_ = State::kLength;
  return body;
}

HttpBodyReader HttpBodyReader::Chunked() {
  HttpBodyReader body;
  body.state_ = State::kChunkSize;
  return body;
}

HttpBodyReader HttpBodyReader::UntilClose() {
  HttpBodyReader body;
  body.state_ = State::kUntilClose;
  return body;
}

absl::StatusOr<bool> HttpBodyReader::TakeLine(std::string_view* bytes) {
  if (line_done_) {
    line_.clear();
    line_done_ = false;
  }
  size_t end = bytes->find('\n');
  line_.append(bytes->substr(0, end));
  bytes->remove_prefix(end == std::string_view::npos ? bytes->size() : end + 1);
  if (line_.size() > kMaxLineBytes) return absl::InvalidArgumentError("a chunk's line is too long");
  if (end == std::string_view::npos) return false;
  if (!line_.empty() && line_.back() == '\r') line_.pop_back();
  line_done_ = true;
  return true;
}

absl::Status HttpBodyReader::StartChunk() {
  uint64_t size = 0;
  size_t digits = 0;
  for (int d; digits < line_.size() && (d = base::HexDigit(line_[digits])) >= 0; ++digits) {
    if (digits >= kMaxSizeDigits) return absl::InvalidArgumentError("a chunk is too large");
    size = size << 4 | static_cast<uint64_t>(d);
  }
  bool ends = digits == line_.size() || line_[digits] == ';' || line_[digits] == ' ' || line_[digits] == '\t';
  if (digits == 0 || !ends) return absl::InvalidArgumentError("a chunk has no size");
  left_ = size;
  state_ = size == 0 ? State::kTrailer : State::kChunkData;
  return absl::OkStatus();
}

absl::StatusOr<std::string_view> HttpBodyReader::Next(std::string_view* bytes) {
  while (!bytes->empty() && state_ != State::kDone) {
    if (state_ == State::kUntilClose) return std::exchange(*bytes, {});
    if (state_ == State::kLength || state_ == State::kChunkData) {
      std::string_view piece = bytes->substr(0, left_);
      bytes->remove_prefix(piece.size());
      left_ -= piece.size();
      if (left_ == 0) state_ = state_ == State::kLength ? State::kDone : State::kChunkEnd;
      return piece;
    }
    absl::StatusOr<bool> line = TakeLine(bytes);
    if (!line.ok()) return line.status();
    if (!*line) break;
    if (state_ == State::kChunkSize) {
      if (absl::Status s = StartChunk(); !s.ok()) return s;
    } else if (state_ == State::kChunkEnd) {
      if (!line_.empty()) return absl::InvalidArgumentError("a chunk is longer than it says");
      state_ = State::kChunkSize;
    } else if (line_.empty()) {
      state_ = State::kDone;  // the end of the trailer
    }
  }
  return std::string_view();
}

}  // namespace kvd::net
