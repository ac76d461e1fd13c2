// The appends on their way to one follower: a ring of (last index, bytes), bounded by number and by bytes.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "raft/types.h"

namespace kvd::raft {

class Inflights {
 public:
  Inflights(size_t max_messages, uint64_t max_bytes) : max_messages_(max_messages), max_bytes_(max_bytes) {}

  // The last message may go beyond max_bytes; then the window is full.
  bool Full() const { return count_ >= max_messages_ || bytes_ >= max_bytes_; }
  size_t count() const { return count_; }
  uint64_t bytes() const { return bytes_; }

  // A message with entries up to `last`, greater than any before. REQUIRES: !Full().
  void Add(Index last, uint64_t bytes) {
    if (count_ == ring_.size()) Grow();
    ring_[Wrap(head_ + count_)] = {last, bytes};
    ++count_;
    bytes_ += bytes;
  }
  // Everything up to `index` has arrived.
  void FreeUpTo(Index index) {
    while (count_ > 0 && ring_[head_].last <= index) {
      bytes_ -= ring_[head_].bytes;
      head_ = Wrap(head_ + 1);
      --count_;
    }
  }
  void Clear() { head_ = count_ = bytes_ = 0; }

 private:
  struct Item {
    Index last;
    uint64_t bytes;
  };
  size_t Wrap(size_t i) const { return i >= ring_.size() ? i - ring_.size() : i; }
  // Only as large as the traffic asks for: most followers never need the whole window.
  void Grow() {
    std::vector<Item> larger(ring_.empty() ? 16 : ring_.size() * 2);
    for (size_t i = 0; i < count_; ++i) larger[i] = ring_[Wrap(head_ + i)];
    ring_.swap(larger);
    head_ = 0;
  }

  size_t max_messages_;
  uint64_t max_bytes_;
  std::vector<Item> ring_;
  size_t head_ = 0;
  size_t count_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace kvd::raft
