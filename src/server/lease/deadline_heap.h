// When something falls due for each of many leases. Moving a deadline is left to the owner: it changes the
// lease only, and puts the entry back when the old deadline comes up, so that a renewal costs nothing here.
//
// Thread-safety: thread-compatible.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace kvd::server {

class DeadlineHeap {
 public:
  struct Entry {
    base::Nanos at;
    int64_t id;
    friend bool operator>(const Entry& a, const Entry& b) { return a.at != b.at ? a.at > b.at : a.id > b.id; }
  };

  void Push(base::Nanos at, int64_t id) {
    entries_.push_back({at, id});
    std::push_heap(entries_.begin(), entries_.end(), std::greater<>());
  }
  // True if the earliest entry is due; it is taken out.
  bool PopDue(base::Nanos now, Entry* entry) {
    if (entries_.empty() || entries_.front().at > now) return false;
    std::pop_heap(entries_.begin(), entries_.end(), std::greater<>());
    *entry = entries_.back();
    entries_.pop_back();
    return true;
  }
  void Replace(std::vector<Entry> entries) {
    entries_ = std::move(entries);
    std::make_heap(entries_.begin(), entries_.end(), std::greater<>());
  }
  void Clear() { std::vector<Entry>().swap(entries_); }
  size_t size() const { return entries_.size(); }

 private:
  std::vector<Entry> entries_;
};

}  // namespace kvd::server
