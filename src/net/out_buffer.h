// What a connection has to send, in order: small bytes copied together, large pieces by reference.
//
// Thread-safety: thread-compatible.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "net/message.h"

namespace kvd::net {

class OutBuffer {
 public:
  // Pieces (or parts of pieces) this long are referenced, not copied.
  static constexpr size_t kReferenceBytes = 4096;

  void AppendCopy(std::string_view bytes) { copied_.append(bytes); }
  void Append(const Piece& piece, std::string_view part);
  void Append(Message message);

  size_t size() const { return copied_.size() + referenced_bytes_ - taken_bytes_; }
  bool empty() const { return size() == 0; }

  // The next bytes as at most `max` ranges; returns how many. Valid until the next change.
  int Ranges(iovec* ranges, int max) const;
  // The first `bytes` of it have been sent.
  void Take(size_t bytes);
  // Moves the first `bytes` of it to the end of `to`.
  void MoveTo(OutBuffer& to, size_t bytes);
  void Clear();

 private:
  struct Reference {
    size_t at;  // after this many copied bytes
    Piece piece;
    std::string_view part;
  };

  std::string copied_;
  std::vector<Reference> references_;
  size_t referenced_bytes_ = 0;
  // What has been taken: in all, of the copied bytes, whole references, and of the next reference.
  size_t taken_bytes_ = 0;
  size_t copied_taken_ = 0;
  size_t references_taken_ = 0;
  size_t part_taken_ = 0;
};

}  // namespace kvd::net
