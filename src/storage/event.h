// A change of one key, encoded once and shared by everyone who needs it.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/types/span.h"
#include "base/bytes.h"
#include "storage/records.h"

namespace kvd::storage {

// Thread-safety: immutable once made.
struct Event {
  enum class Type : uint8_t { kPut = 0, kDelete = 1 };  // the values of mvccpb.Event.EventType

  Type type = Type::kPut;
  // The mvccpb.KeyValue of the event in wire form; of a delete: key and mod_revision only.
  base::SharedBytes kv;
  // A view into `kv`: valid while a copy of `kv` lives.
  std::string_view key;
  Revision revision;
  // Of the new version; 0 for a delete.
  int64_t create_revision = 0;
  int64_t version = 0;
  int64_t lease = 0;
  // True if a previous version lived until this change: its record is Store::GetAt(key, revision.main - 1).
  // Known only for events given to a StoreObserver; history says so by create_revision.
  bool has_previous = false;
  // True if the store keeps its record among the large ones. Known only to the store's own writer.
  bool large = false;

  bool is_create() const { return type == Type::kPut && create_revision == revision.main; }
};

// Hears of every commit, on the apply thread, after readers can see it. Must not call ApplyBatch.
class StoreObserver {
 public:
  virtual ~StoreObserver() = default;
  // The events of write transactions first_revision..last_revision, in order. `events` holds only during the
  // call; the events in it may be copied (their bytes are shared).
  virtual void OnCommit(int64_t first_revision, int64_t last_revision, absl::Span<const Event> events) = 0;
  // The store has become another one (Store::ReplaceWith), now at `current_revision`: what happened since the
  // last commit is in its history, as far as it is kept, and is not told one by one. On the apply thread.
  virtual void OnReplaced(int64_t current_revision) = 0;
};

// The store's sight of the leases. The lessor implements it. Called on the apply thread, while operations
// run.
class LeaseBinder {
 public:
  virtual ~LeaseBinder() = default;
  virtual bool Exists(int64_t lease) = 0;
  // The key now belongs to `lease` (which Exists), and to no other.
  virtual void Attach(int64_t lease, std::string_view key) = 0;
  // The key belongs to no lease any more. Called only for a key whose last version had one.
  virtual void Detach(std::string_view key) = 0;
};

}  // namespace kvd::storage
