#include "net/out_buffer.h"

#include <algorithm>

namespace kvd::net {
namespace {
// An idle connection keeps a buffer of at most this size.
constexpr size_t kKeptBytes = size_t{64} * 1024;
// Taken bytes at the front are cut off when they are this many.
constexpr size_t kTrimBytes = size_t{256} * 1024;
}  // namespace

void OutBuffer::Append(const Piece& piece, std::string_view part) {
  if (part.size() < kReferenceBytes) {
    copied_.append(part);
    return;
  }
  referenced_bytes_ += part.size();
  references_.push_back({copied_.size(), piece, part});
}

void OutBuffer::Append(Message message) {
  if (message.head().size() < kReferenceBytes) {
    copied_.append(message.head());
  } else {
    Piece head(message.TakeHead());
    Append(head, head.view());
  }
  for (const Piece& piece : message.pieces()) Append(piece, piece.view());
}

void OutBuffer::MoveTo(OutBuffer& to, size_t bytes) {
  size_t left = bytes;
  size_t at = copied_taken_;
  size_t skip = part_taken_;
  for (size_t i = references_taken_; left > 0; ++i) {
    bool more = i < references_.size();
    size_t n = std::min(left, (more ? references_[i].at : copied_.size()) - at);
    to.copied_.append(copied_, at, n);
    at += n;
    left -= n;
    if (!more) break;
    std::string_view part = references_[i].part.substr(skip);
    n = std::min(left, part.size());
    if (n > 0) to.Append(references_[i].piece, part.substr(0, n));
    left -= n;
    skip = 0;
  }
  Take(bytes);
}

int OutBuffer::Ranges(iovec* ranges, int max) const {
  int n = 0;
  size_t at = copied_taken_;
  size_t skip = part_taken_;
  auto add = [&](const char* data, size_t size) {
    if (size != 0) ranges[n++] = {const_cast<char*>(data), size};
  };
  for (size_t i = references_taken_; i < references_.size() && n + 1 < max; ++i) {
    const Reference& reference = references_[i];
    add(copied_.data() + at, reference.at - at);
    at = reference.at;
    add(reference.part.data() + skip, reference.part.size() - skip);
    skip = 0;
    if (i + 1 == references_.size() && n < max) {
      add(copied_.data() + at, copied_.size() - at);
      return n;
    }
  }
  if (references_taken_ == references_.size()) add(copied_.data() + at, copied_.size() - at);
  return n;
}

void OutBuffer::Take(size_t bytes) {
  taken_bytes_ += bytes;
  if (empty()) {
    Clear();
    return;
  }
  while (bytes > 0) {
    bool more = references_taken_ < references_.size();
    size_t until = more ? references_[references_taken_].at : copied_.size();
    size_t n = std::min(bytes, until - copied_taken_);
    copied_taken_ += n;
    bytes -= n;
    if (bytes == 0 || !more) break;
    Reference& reference = references_[references_taken_];
    n = std::min(bytes, reference.part.size() - part_taken_);
    part_taken_ += n;
    bytes -= n;
    if (part_taken_ == reference.part.size()) {
      reference.piece = Piece();
      part_taken_ = 0;
      ++references_taken_;
    }
  }
  if (taken_bytes_ >= kTrimBytes) {
    copied_.erase(0, copied_taken_);
    for (size_t i = 0; i < references_taken_; ++i) referenced_bytes_ -= references_[i].part.size();
    references_.erase(references_.begin(), references_.begin() + static_cast<ptrdiff_t>(references_taken_));
    for (Reference& reference : references_) reference.at -= copied_taken_;
    copied_taken_ = references_taken_ = 0;
    taken_bytes_ = part_taken_;
  }
}

void OutBuffer::Clear() {
  copied_.clear();
  if (copied_.capacity() > kKeptBytes) copied_.shrink_to_fit();
  references_.clear();
  referenced_bytes_ = taken_bytes_ = copied_taken_ = references_taken_ = part_taken_ = 0;
}

}  // namespace kvd::net
