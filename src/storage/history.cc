// Reading history as events, for a watcher that has to catch up.
#include <utility>

#include "base/check.h"
#include "storage/store_impl.h"

namespace kvd::storage {
namespace {

Event MakeEvent(Revision revision, bool tombstone, std::string_view record) {
  Event event;
  event.revision = revision;
  KeyValueView kv;
  KVD_CHECK(DecodeKeyValue(record, &kv), "a stored record does not decode");
  if (tombstone) {
    event.type = Event::Type::kDelete;
    std::string shown;
    AppendKeyValue(shown, {.key = kv.key,
                           .create_revision = 0,
                           .mod_revision = revision.main,
                           .version = 0,
                           .value = {},
                           .lease = 0});
    event.kv = base::SharedBytes(std::move(shown));
  } else {
    event.kv = base::SharedBytes::Copy(record);
  }
  DecodeKeyValue(event.kv.view(), &kv);
  event.key = kv.key;
  event.create_revision = kv.create_revision;
  event.version = kv.version;
  event.lease = kv.lease;
  event.has_previous = tombstone || kv.version > 1;
  return event;
}

// Whether a query has enough; asked where one main revision ends.
class Budget {
 public:
  explicit Budget(const EventQuery& query) : query_(query) {}
  void Scanned() { ++scanned_; }
  void Took(size_t bytes) {
    ++events_;
    bytes_ += bytes;
  }
  bool Spent() const {
    return events_ >= query_.max_events || bytes_ >= query_.max_bytes || scanned_ >= query_.max_scanned;
  }

 private:
  const EventQuery& query_;
  size_t scanned_ = 0, events_ = 0, bytes_ = 0;
};

}  // namespace

EventHistory Store::Events(const base::KeyInterval& interval, const EventQuery& query) const {
  std::shared_ptr<StoreImpl> impl = Impl();
  EventHistory history;
  std::vector<KeyVersion> of_key;
  std::unique_ptr<EngineSnapshot> snapshot;
  std::unique_ptr<EngineIterator> it;
  int64_t to;
  {
    // Compaction, index and engine as of one moment; what a later sweep drops, the snapshot still holds.
    base::ReaderLock gate(impl->gate_);
    int64_t current = impl->revision_.load(std::memory_order_acquire);
    to = query.to_revision > 0 && query.to_revision < current ? query.to_revision : current;
    history.compact_revision = impl->compact_revision_.load(std::memory_order_acquire);
    if (query.from_revision < history.compact_revision) {
      history.error = StoreError::kCompacted;
      return history;
    }
    history.next_revision = std::max(query.from_revision, to + 1);
    if (query.from_revision > to || interval.empty()) return history;
    snapshot = impl->engine_->TakeSnapshot();
    if (interval.is_single()) {
      base::ReaderLock lock(impl->index_mu_);
      for (const KeyVersion& v : impl->index_.Versions(interval.start())) {
        if (v.mod_main >= query.from_revision && v.mod_main <= to) of_key.push_back(v);
      }
    } else {
      it = impl->engine_->NewIterator({.lower = RevisionTableKey({query.from_revision, 0}, false),
                                       .upper = RevisionTableKey({to + 1, 0}, false),
                                       .snapshot = snapshot.get(),
                                       .keep_cached = true});
    }
  }
  Budget budget(query);
  int64_t last_main = 0;
  // True if the query ends before this revision.
  auto ends_before = [&](int64_t main) {
    if (main != last_main && budget.Spent()) {
      history.next_revision = main;
      return true;
    }
    last_main = main;
    return false;
  };
  for (const KeyVersion& v : of_key) {
    if (ends_before(v.mod_main)) return history;
    bool found = impl->engine_->Get(
        RecordTableKey(v),
        [&](std::string_view record) {
          history.events.push_back(MakeEvent(v.revision(), v.tombstone, record));
        },
        snapshot.get());
    KVD_CHECK(found, "the index names a revision that the engine does not have");
    budget.Scanned();
    budget.Took(history.events.back().kv.size());
  }
  for (; it && it->Valid(); it->Next()) {
    Revision revision;
    bool tombstone;
    KVD_CHECK(DecodeRevisionKey(it->key().substr(1), &revision, &tombstone),
              "a stored revision does not decode");
    if (ends_before(revision.main)) return history;
    budget.Scanned();
    StoredRecord stored;
    KVD_CHECK(DecodeStored(it->value(), &stored), "a stored record does not decode");
    if (!interval.Contains(stored.kv.key)) continue;
    UseRecord(*impl->engine_, it->value(), snapshot.get(), [&](std::string_view record) {
      history.events.push_back(MakeEvent(revision, tombstone, record));
    });
    budget.Took(stored.record_size);
  }
  return history;
}

}  // namespace kvd::storage
