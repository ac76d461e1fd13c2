// Finds the watchers of a key: those of that single key by hash, those of intervals that hold it in a tree
// ordered by start whose nodes know the furthest end below them. Watchers of one and the same interval share
// a node.
//
// Thread-safety: thread-compatible. Ownership: watchers belong to the caller and must be removed before they
// go.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "base/key_interval.h"
#include "server/watch/watcher.h"

namespace kvd::server {

class WatcherIndex {
 public:
  WatcherIndex();
  ~WatcherIndex();
  WatcherIndex(const WatcherIndex&) = delete;
  WatcherIndex& operator=(const WatcherIndex&) = delete;

  // REQUIRES: the interval is not empty and the watcher is in no index. O(log n), or O(1) for a single key.
  void Insert(Watcher& watcher, const base::KeyInterval& interval);
  void Remove(Watcher& watcher);
  // The interval it was inserted with; the view lives as long as it is in the index.
  static base::KeyInterval IntervalOf(const Watcher& watcher);
  // Every watcher whose interval holds `key`, in an order that depends on nothing but the insertions, until
  // `visit` returns false; so does this then. `visit` must not change the index.
  bool Match(std::string_view key, absl::FunctionRef<bool(Watcher&)> visit) const;

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view key) const;
    size_t operator()(const WatcherGroup* group) const;
  };
  struct Equal {
    using is_transparent = void;
    bool operator()(const WatcherGroup* a, const WatcherGroup* b) const { return a == b; }
    bool operator()(const WatcherGroup* a, std::string_view key) const;
    bool operator()(std::string_view key, const WatcherGroup* a) const { return (*this)(a, key); }
  };

  WatcherGroup* FindInterval(const base::KeyInterval& interval) const;

  absl::flat_hash_set<WatcherGroup*, Hash, Equal> singles_;
  WatcherGroup* root_ = nullptr;
  uint64_t next_priority_ = 0;
};

}  // namespace kvd::server
