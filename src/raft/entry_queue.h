// A run of entries that grows at the back and shrinks at both ends: a vector with a moving head. Contiguous,
// so a slice is a span; dropping from the front is amortised O(1) per entry.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "raft/types.h"

namespace kvd::raft {

class EntryQueue {
 public:
  size_t size() const { return entries_.size() - head_; }
  bool empty() const { return size() == 0; }
  const Entry& operator[](size_t i) const { return entries_[head_ + i]; }
  const Entry& back() const { return entries_.back(); }
  // Valid until the next change.
  absl::Span<const Entry> Slice(size_t from, size_t to) const {
    return absl::MakeConstSpan(entries_.data() + head_ + from, to - from);
  }

  void PushBack(Entry e) { entries_.push_back(std::move(e)); }
  void Append(absl::Span<const Entry> more) { entries_.insert(entries_.end(), more.begin(), more.end()); }
  // REQUIRES: n <= size().
  void TruncateTo(size_t n) { entries_.resize(head_ + n); }
  // Drops n entries and their payloads at once. REQUIRES: n <= size().
  void PopFront(size_t n) {
    for (size_t i = 0; i < n; ++i) entries_[head_ + i].data = base::SharedBytes();
    head_ += n;
    if (head_ == entries_.size()) {
      entries_.clear();
      head_ = 0;
    } else if (head_ >= 64 && head_ * 2 >= entries_.size()) {
      entries_.erase(entries_.begin(), entries_.begin() + static_cast<ptrdiff_t>(head_));
      head_ = 0;
    }
  }
  void Clear() {
    entries_.clear();
    head_ = 0;
  }

 private:
  std::vector<Entry> entries_;
  size_t head_ = 0;
};

}  // namespace kvd::raft
