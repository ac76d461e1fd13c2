// The store's own records in the table kMeta. One of them, the state, is written with every batch.
//
// Thread-safety: pure functions and values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace kvd::storage {

inline constexpr std::string_view kStateKey = "state";
inline constexpr std::string_view kConfStateKey = "confState";          // as in etcd's "meta" bucket
inline constexpr std::string_view kSweptRevisionKey = "sweptRevision";  // 8 bytes big-endian
// Up to which revision the table kLatest is complete (8 bytes big-endian); absent: all of it.
inline constexpr std::string_view kLatestThroughKey = "latestThrough";
inline constexpr std::string_view kStorageVersionKey = "storageVersion";  // as in etcd's "meta" bucket

// What every batch says anew.
struct MetaState {
  uint64_t applied_index = 0;
  uint64_t applied_term = 0;
  int64_t revision = 1;
  int64_t compact_revision = -1;
};

// The two marks above.
std::string EncodeRevisionMark(int64_t revision);
// False if it is not one, and then *revision is as it was.
bool DecodeRevisionMark(std::string_view bytes, int64_t* revision);

std::string EncodeState(const MetaState& state);
// False if it is not one, or one of a format that is not ours.
bool DecodeState(std::string_view bytes, MetaState* state);

}  // namespace kvd::storage
