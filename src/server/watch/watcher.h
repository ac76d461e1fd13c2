// What the hub keeps of one watch: as little as can be, since there may be a hundred thousand of them, nearly
// all idle.
#pragma once

#include <cstdint>

namespace kvd::server {

struct Stream;
struct WatcherGroup;

// Only on the hub's watch executor.
struct Watcher {
  enum class State : uint8_t {
    kSynced,    // has everything up to the hub's revision that it may see, and gets events as they come
    kReady,     // has to catch up; stands in the hub's queue for it
    kScanning,  // takes part in the slice of history that is being read
    kBlocked,   // has to catch up, once its stream's queue has room
  };
  enum Flag : uint8_t {
    kNoPut = 1,
    kNoDelete = 2,
    kPrevKv = 4,
    kProgressNotify = 8,
    kFragment = 16,
    kSentSinceTick = 32,  // events went out since the last tick of the progress timer
  };
  static constexpr uint32_t kNoSlot = UINT32_MAX;

  bool has(Flag f) const { return (flags & f) != 0; }
  // Whether it is to see an event of this kind.
  bool wants(bool is_delete) const { return !has(is_delete ? kNoDelete : kNoPut); }

  Stream* stream = nullptr;
  int64_t id = 0;
  // Events below this revision are not for it: they came before its start, or it has had them.
  int64_t next_revision = 0;
  // No progress below this revision: it would tell of a time before the watch began.
  int64_t progress_from = 0;
  uint64_t serial = 0;  // orders watchers where nothing else does
  WatcherGroup* group = nullptr;
  Watcher* next_in_group = nullptr;
  Watcher* prev_in_group = nullptr;
  uint32_t slot = kNoSlot;  // among those who are due events within the present task
  State state = State::kSynced;
  uint8_t flags = 0;
};

}  // namespace kvd::server
