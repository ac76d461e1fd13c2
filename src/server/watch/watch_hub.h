// Everything that watches the keys of one member. It learns of each revision from the store, finds the
// watchers of each event by key and interval in O(matches + log n), and gives all of them the same encoded
// bytes. A watcher that asks for the past, or whose stream does not drain, is "unsynced": it is served from
// the revision store, in slices, until it has caught up. When a peer's snapshot replaces the store, watchers
// go on where they were, out of the new history, or end with its compact revision. Nothing is dropped,
// repeated or reordered on the way, all events of one revision arrive in one response (fragments aside), and
// memory per stream is bounded by Options::max_queued_bytes plus one slice.
//
// Threads: the store's observer runs on the apply thread and only queues; everything else runs on `watch`,
// which may be shared with other work, and for whose place the apply thread stands in when there is little to
// do (base::Executor::PostOrRun); reads of history run on `background`, one slice at a time. No thread
// of its own, no lock on the way of a delivery.
//
// Ownership: the store, the header source and both executors outlive the hub; before it is destroyed, the
// executors have stopped (or run nothing of the hub any more), and the store no longer calls the observer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/clock.h"
#include "server/watch/watch_stream.h"

namespace kvd::base {
class Executor;
}
namespace kvd::storage {
class Store;
class StoreObserver;
}  // namespace kvd::storage

namespace kvd::server {

// What every response header says beside the revision. Thread-safe.
class HeaderSource {
 public:
  virtual ~HeaderSource() = default;
  virtual uint64_t cluster_id() const = 0;
  virtual uint64_t member_id() const = 0;
  virtual uint64_t term() const = 0;
};

class WatchHub {
 public:
  struct Options {
    // Above this, a stream's watchers wait until its queue has fallen to half of it.
    size_t max_queued_bytes = size_t{4} << 20;
    // A response of a watch with `fragment` is split at this size: max-request-bytes plus 512 KiB.
    size_t fragment_bytes = (size_t{3} << 19) + (size_t{1} << 19);
    // How often an idle watch that asked for it is told the revision; up to a tenth is added at random.
    base::Nanos progress_interval = std::chrono::minutes(10);
    // One slice of catching up ends at the first whole revision at or above either.
    size_t slice_events = 1000;
    size_t slice_bytes = size_t{1} << 20;
    // Published events that wait for the watch executor; beyond it the history serves them.
    size_t max_backlog_bytes = size_t{64} << 20;
    uint64_t seed = 1;  // of the progress jitter
  };
  struct Stats {
    int64_t streams = 0;
    int64_t watchers = 0;
    int64_t unsynced_watchers = 0;
    int64_t events_sent = 0;
    int64_t backlog_events = 0;
  };

  WatchHub(Options options, const storage::Store& store, const HeaderSource& headers, base::Executor& watch,
           base::Executor& background);
  ~WatchHub();
  WatchHub(const WatchHub&) = delete;
  WatchHub& operator=(const WatchHub&) = delete;

  // To be registered with the store before the first write after the hub is made.
  storage::StoreObserver& observer();

  // Any thread. A stream opened after Shutdown is finished at once.
  std::unique_ptr<WatchStream> Open(std::shared_ptr<WatchSink> sink, WatchStreamOptions options = {});
  // Any thread. Finishes every stream with this status, once.
  void Shutdown(absl::StatusCode code, std::string_view message);

  Stats stats() const;       // any thread
  bool has_streams() const;  // any thread
  size_t max_queued_bytes() const;

  class Core;  // internal

 private:
  class Observer;
  std::shared_ptr<Core> core_;
  std::unique_ptr<Observer> observer_;
};

}  // namespace kvd::server
