// What the tree of the key index is made of: entries, leaves and inner nodes. For key_index.cc alone.
//
// Thread-safety: thread-compatible, as the index. Ownership: leaves own their entries, which Entry::Free
// frees.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include "absl/types/span.h"
#include "base/check.h"
#include "storage/key_index.h"

namespace kvd::storage::key_index_internal {

inline constexpr int kFanout = 64;      // entries of a leaf: as many as its mask of live ones has bits
inline constexpr int kLoadFanout = 56;  // of a node made by loading, so that the next inserts do not split it
inline constexpr int kMaxHeight = 16;

// A key and its versions. One version lies within; more lie in an array of their own. The key's bytes follow.
struct Entry {
  union {
    KeyVersion one;
    KeyVersion* many;
  };
  uint32_t count = 0;
  uint32_t capacity = 1;
  uint32_t key_size = 0;

  Entry() : one() {}

  static Entry* Make(std::string_view key) {
    void* memory = std::malloc(sizeof(Entry) + key.size());
    KVD_CHECK(memory != nullptr, "out of memory");
    Entry* entry = new (memory) Entry;
    entry->key_size = static_cast<uint32_t>(key.size());
    if (!key.empty()) std::memcpy(reinterpret_cast<char*>(entry + 1), key.data(), key.size());
    return entry;
  }
  static void Free(Entry* entry) {
    if (entry->capacity > 1) delete[] entry->many;
    std::free(entry);
  }

  std::string_view key() const { return {reinterpret_cast<const char*>(this + 1), key_size}; }
  const KeyVersion* data() const { return capacity > 1 ? many : &one; }
  KeyVersion* data() { return capacity > 1 ? many : &one; }
  absl::Span<const KeyVersion> versions() const { return {data(), count}; }
  bool live() const { return count > 0 && !data()[count - 1].tombstone; }
  LiveSum sum() const { return live() ? LiveSum{1, data()[count - 1].listed_bytes()} : LiveSum{}; }
  size_t bytes() const {
    return sizeof(Entry) + key_size + 8 + (capacity > 1 ? capacity * sizeof(KeyVersion) + 8 : 0);
  }

  void Reserve(uint32_t wanted) {
    if (wanted == capacity) return;
    KeyVersion keep;
    if (wanted <= 1) {
      if (count > 0) keep = many[0];
      delete[] many;
      one = keep;
    } else {
      auto* bigger = new KeyVersion[wanted];
      std::copy_n(data(), count, bigger);
      if (capacity > 1) delete[] many;
      many = bigger;
    }
    capacity = wanted;
  }
  void Push(const KeyVersion& version) {
    if (count == capacity) Reserve(capacity < 2 ? 3 : capacity + capacity / 2 + 1);
    data()[count++] = version;
  }
  // Gives memory back after versions were dropped.
  void Shrink() {
    if (capacity > 1 && count <= capacity / 4) Reserve(std::max<uint32_t>(count, 1));
  }

  // The newest version with mod_main <= revision, or null.
  const KeyVersion* At(int64_t revision) const {
    if (count == 0) return nullptr;
    const KeyVersion* v = data();
    // Mostly the newest is asked for: then nothing else of a long array is touched.
    if (v[count - 1].mod_main <= revision) return &v[count - 1];
    if (v[0].mod_main > revision) return nullptr;
    const KeyVersion* it = std::upper_bound(v, v + count, revision,
                                            [](int64_t r, const KeyVersion& x) { return r < x.mod_main; });
    return it - 1;
  }
};

struct Node {
  const bool leaf;
  int n = 0;
  explicit Node(bool is_leaf) : leaf(is_leaf) {}
};

struct Leaf : Node {
  Leaf() : Node(true) {}
  uint64_t live = 0;  // bit i: entries[i]->live()
  Entry* entries[kFanout];

  int LowerBound(std::string_view key) const {
    return static_cast<int>(
        std::lower_bound(entries, entries + n, key,
                         [](const Entry* e, std::string_view k) { return e->key() < k; }) -
        entries);
  }
};

// The bits below `i`.
inline uint64_t MaskBelow(int i) {
  return i >= 64 ? ~uint64_t{0} : (uint64_t{1} << i) - 1;
}

inline void InsertBit(uint64_t& mask, int i, bool bit) {
  uint64_t low = mask & MaskBelow(i);
  uint64_t high = i >= 63 ? 0 : (mask & ~MaskBelow(i)) << 1;
  mask = low | high | (static_cast<uint64_t>(bit) << i);
}
inline void EraseBit(uint64_t& mask, int i) {
  uint64_t high = i >= 63 ? 0 : (mask >> 1) & ~MaskBelow(i);
  mask = (mask & MaskBelow(i)) | high;
}

struct Inner : Node {
  Inner() : Node(false) {}
  LiveSum below[kFanout];  // children[i]
  Node* children[kFanout];
  std::string keys[kFanout];  // what is below children[i], i > 0, is >= keys[i], and all before it is less

  int ChildFor(std::string_view key) const {
    return static_cast<int>(std::upper_bound(keys + 1, keys + n, key,
                                             [](std::string_view k, const std::string& s) { return k < s; }) -
                            keys) -
           1;
  }
  void InsertChild(int at, std::string key, Node* child, const LiveSum& sum) {
    for (int i = n; i > at; --i) {
      keys[i] = std::move(keys[i - 1]);
      children[i] = children[i - 1];
      below[i] = below[i - 1];
    }
    keys[at] = std::move(key);
    children[at] = child;
    below[at] = sum;
    ++n;
  }
  void EraseChild(int at) {
    for (int i = at; i + 1 < n; ++i) {
      keys[i] = std::move(keys[i + 1]);
      children[i] = children[i + 1];
      below[i] = below[i + 1];
    }
    --n;
    keys[n].clear();
  }
};

// Of the first `n` entries.
inline LiveSum SumOf(const Leaf* leaf, int n) {
  LiveSum sum;
  for (uint64_t left = leaf->live & MaskBelow(n); left != 0; left &= left - 1) {
    sum += leaf->entries[std::countr_zero(left)]->sum();
  }
  return sum;
}

inline LiveSum SumOf(const Node* node) {
  if (node->leaf) return SumOf(static_cast<const Leaf*>(node), node->n);
  const auto* inner = static_cast<const Inner*>(node);
  LiveSum sum;
  for (int i = 0; i < inner->n; ++i) sum += inner->below[i];
  return sum;
}

}  // namespace kvd::storage::key_index_internal
