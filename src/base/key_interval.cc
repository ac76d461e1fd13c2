#include "base/key_interval.h"

namespace kvd::base {
namespace {

// The least key greater than `key`, compared with `bound` without building it: True if key‖"\0" >= bound.
bool SuccessorReaches(std::string_view key, std::string_view bound) {
  // bound <= key‖"\0" holds exactly when bound <= key or bound is key‖"\0" itself.
  if (bound <= key) return true;
  return bound.size() == key.size() + 1 && bound.back() == '\0' && bound.substr(0, key.size()) == key;
}

}  // namespace

bool KeyInterval::Covers(const KeyInterval& other) const {
  if (other.empty()) return true;
  if (other.is_single()) return Contains(other.start_);
  if (empty()) return false;
  switch (kind_) {
    case Kind::kSingle:
      // [k, k‖"\0") holds the one key k.
      return !other.is_open() && other.start_ == start_ && SuccessorReaches(start_, other.end_);
    case Kind::kOpen:
      return other.start_ >= start_;
    case Kind::kHalfOpen:
      return !other.is_open() && other.start_ >= start_ && other.end_ <= end_;
  }
  return false;
}

bool KeyInterval::Overlaps(const KeyInterval& other) const {
  if (empty() || other.empty()) return false;
  if (other.is_single()) return Contains(other.start_);
  if (is_single()) return other.Contains(start_);
  const bool other_starts_inside = is_open() || other.start_ < end_;
  const bool this_starts_inside = other.is_open() || start_ < other.end_;
  return other_starts_inside && this_starts_inside;
}

std::string PrefixRangeEnd(std::string_view prefix) {
  std::string end(prefix);
  while (!end.empty() && static_cast<unsigned char>(end.back()) == 0xff) end.pop_back();
  if (end.empty()) return std::string(1, '\0');
  end.back() = static_cast<char>(static_cast<unsigned char>(end.back()) + 1);
  return end;
}

}  // namespace kvd::base
