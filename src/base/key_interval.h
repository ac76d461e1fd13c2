// The one type for a set of keys as etcd's requests name it: [key, range_end) with three special spellings
// (ETCD: api/etcdserverpb/rpc.proto, RangeRequest). Range, delete, watch, permission and compare all use it.
//
// Thread-safety: immutable value.
#pragma once

#include <string>
#include <string_view>

namespace kvd::base {

// A view: it does not own its bytes, which must outlive it. OwnedKeyInterval owns them.
//
//   range_end ""      the single key `key`
//   range_end "\0"    every key >= `key` (open end)
//   otherwise         keys k with key <= k < range_end; empty if range_end <= key
class KeyInterval {
 public:
  static KeyInterval Single(std::string_view key) { return KeyInterval(key, {}, Kind::kSingle); }
  static KeyInterval From(std::string_view key) { return KeyInterval(key, {}, Kind::kOpen); }
  static KeyInterval All() { return From({}); }
  static KeyInterval Between(std::string_view key, std::string_view end) {
    return KeyInterval(key, end, Kind::kHalfOpen);
  }
  // The spelling of a request. A key of "\0" with an open end means every key.
  static KeyInterval FromRequest(std::string_view key, std::string_view range_end) {
    if (range_end.empty()) return Single(key);
    if (range_end.size() == 1 && range_end[0] == '\0') {
      return From(key.size() == 1 && key[0] == '\0' ? std::string_view() : key);
    }
    return Between(key, range_end);
  }

  std::string_view start() const { return start_; }
  bool is_single() const { return kind_ == Kind::kSingle; }
  bool is_open() const { return kind_ == Kind::kOpen; }
  // REQUIRES: !is_single() && !is_open().
  std::string_view end() const { return end_; }
  bool empty() const { return kind_ == Kind::kHalfOpen && end_ <= start_; }

  bool Contains(std::string_view key) const {
    switch (kind_) {
      case Kind::kSingle:
        return key == start_;
      case Kind::kOpen:
        return key >= start_;
      case Kind::kHalfOpen:
        return key >= start_ && key < end_;
    }
    return false;
  }
  // True if `key` lies beyond every key of the interval; lets an ordered walk stop.
  bool Before(std::string_view key) const {
    switch (kind_) {
      case Kind::kSingle:
        return key > start_;
      case Kind::kOpen:
        return false;
      case Kind::kHalfOpen:
        return key >= end_;
    }
    return false;
  }
  // True if every key of `other` is a key of this interval.
  bool Covers(const KeyInterval& other) const;
  bool Overlaps(const KeyInterval& other) const;

 private:
  enum class Kind : unsigned char { kSingle, kOpen, kHalfOpen };
  KeyInterval(std::string_view s, std::string_view e, Kind k) : start_(s), end_(e), kind_(k) {}

  std::string_view start_;
  std::string_view end_;
  Kind kind_;
};

// The smallest key greater than every key with this prefix, as range_end spells it: "\0" (open) for a prefix
// that is empty or all 0xff.
std::string PrefixRangeEnd(std::string_view prefix);

}  // namespace kvd::base
