// WatchResponses on their way to one stream, in the form in which they cost least: who gets which pieces. The
// pieces are shared with other streams. The bytes are made where they are sent, when they are sent, so a
// batch for many watchers of one event is not much larger than the event.
//
// Thread-safety: thread-compatible; a batch may be made on one thread and used on another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "base/bytes.h"

namespace kvd::server {

class ResponseBatch {
 public:
  // A response takes this (gRPC's length prefix) in front of its own bytes.
  static constexpr size_t kPrefixBytes = 5;

  ResponseBatch() = default;
  // `header`: what every response of the batch begins with (EncodeHeader).
  explicit ResponseBatch(base::SharedBytes header) : header_(std::move(header)) {}

  // Begins a response to a watch.
  void Begin(int64_t watch_id);
  // Of the response that was begun last: its next piece, in wire form. Pieces that are the same as the last
  // response's take no room.
  void Append(const base::SharedBytes& piece);
  // The events of this revision go on in the next response.
  void MarkFragment();

  bool empty() const { return responses_.empty(); }
  size_t count() const { return responses_.size(); }
  // Of all encoded responses, with their prefixes.
  size_t size() const { return size_; }

  // How many bytes response `i` has, without its prefix.
  size_t SizeOf(size_t i) const { return responses_[i].size; }
  // The size of the longest piece in it.
  size_t longest_piece() const { return longest_piece_; }
  // Appends response `i`, up to its pieces, without its prefix.
  void AppendHead(size_t i, std::string& out) const;
  // Appends its pieces.
  void AppendPieces(size_t i, std::string& out) const;
  // Its pieces, one by one.
  void ForEachPiece(size_t i, absl::FunctionRef<void(const base::SharedBytes&)> visit) const;
  // Each response by itself, joined, without its prefix: for those who read them here.
  void ForEach(absl::FunctionRef<void(std::string_view)> visit) const;

 private:
  struct Response {
    int64_t watch_id;
    uint32_t first;  // of its pieces
    uint32_t pieces;
    uint32_t size;
    bool fragment;
  };

  base::SharedBytes header_;
  absl::InlinedVector<Response, 1> responses_;
  absl::InlinedVector<base::SharedBytes, 1> pieces_;
  size_t size_ = 0;
  size_t longest_piece_ = 0;
};

}  // namespace kvd::server
