// Bytes on their way out: a message or a body as a sequence of owned or shared pieces, which reach the socket
// without being joined first. A piece can be shared by thousands of messages.
//
// Thread-safety: a Piece is immutable; copies may be dropped on any thread. A Message is thread-compatible.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"

namespace kvd::net {

// A view of bytes together with what keeps them alive.
class Piece {
 public:
  Piece() = default;
  Piece(base::SharedBytes bytes) : shared_(std::move(bytes)), view_(shared_.view()) {}  // NOLINT: implicit
  explicit Piece(std::string bytes) : Piece(base::SharedBytes(std::move(bytes))) {}
  // `view` must be valid as long as `owner` lives (a pinned block, a larger buffer).
  Piece(std::shared_ptr<const void> owner, std::string_view view) : owner_(std::move(owner)), view_(view) {}

  std::string_view view() const { return view_; }
  size_t size() const { return view_.size(); }
  bool empty() const { return view_.empty(); }

 private:
  base::SharedBytes shared_;
  std::shared_ptr<const void> owner_;
  std::string_view view_;
};

// One encoded message (without gRPC's length prefix: the front door adds it) or one HTTP body. Made from a
// single string it costs no allocation of its own.
class Message {
 public:
  Message() = default;
  Message(std::string bytes) : head_(std::move(bytes)), size_(head_.size()) {}  // NOLINT: implicit
  Message(base::SharedBytes bytes) { Append(Piece(std::move(bytes))); }         // NOLINT: implicit
  Message(std::vector<Piece> pieces) : pieces_(std::move(pieces)) {             // NOLINT: implicit
    for (const Piece& piece : pieces_) size_ += piece.size();
  }

  void Append(Piece piece) {
    if (piece.empty()) return;
    size_ += piece.size();
    pieces_.push_back(std::move(piece));
  }
  // Copies: for the few bytes between large pieces (tags and lengths).
  void AppendCopy(std::string_view bytes) {
    size_ += bytes.size();
    if (pieces_.empty()) {
      head_.append(bytes);
    } else {
      pieces_.push_back(Piece(std::string(bytes)));
    }
  }

  size_t size() const { return size_; }
  // The string that comes first, leaving the pieces.
  std::string TakeHead() {
    size_ -= head_.size();
    return std::exchange(head_, std::string());
  }
  const std::string& head() const { return head_; }             // comes first
  const std::vector<Piece>& pieces() const { return pieces_; }  // then these
  std::string Join() const {
    std::string all;
    all.reserve(size_);
    all += head_;
    for (const Piece& piece : pieces_) all += piece.view();
    return all;
  }

 private:
  std::string head_;
  std::vector<Piece> pieces_;
  size_t size_ = 0;
};

}  // namespace kvd::net
