// etcd's HashKV: CRC-32C over the bucket's name and then each revision key and record, in order.
//
// Which records count is decided by the revision and the compacted revision alone, never by how far a sweep
// got:
//   - none above the revision;
//   - of those at or below the compacted revision only what lives at the revision asked for, as etcd does
//     (it calls them "keep"); if nothing lives then, etcd hashes all that its compaction left: what lived
//     when compacted;
//   - a tombstone exactly at the compacted revision only in that last case (etcd from 3.5.16 on leaves it
//     when it compacts; "keep" never has it);
//   - none at all for a negative revision: the hash of the bucket's name.
#include "base/check.h"
#include "base/crc32c.h"
#include "storage/store_impl.h"

namespace kvd::storage {
namespace {

constexpr std::string_view kBucket = "key";

// A view, and with it a pin on the compacted revision that it names.
std::optional<View> OpenHashView(const StoreImpl& store, int64_t revision, Pins::Pin* compact_pin,
                                 StoreError* error) {
  while (true) {
    std::optional<View> view = store.OpenView(revision, /*with_snapshot=*/true, error);
    if (!view || view->compact < 0) return view;
    *compact_pin = store.pins_.Add(view->compact);
    if (store.compact_revision_.load(std::memory_order_acquire) == view->compact) return view;
  }
}

}  // namespace

HashResult Store::HashKv(int64_t revision) const {
  std::shared_ptr<StoreImpl> impl = Impl();
  HashResult result;
  result.current_revision = impl->revision_.load(std::memory_order_acquire);
  Pins::Pin compact_pin;
  std::optional<View> view = OpenHashView(*impl, revision, &compact_pin, &result.error);
  if (!view) return result;
  result.current_revision = view->current;
  result.compact_revision = view->compact;
  result.hash_revision = revision < 0 ? revision : view->read_revision;
  result.hash = base::Crc32c(0, kBucket);
  if (revision < 0) return result;

  bool any_live = false;
  if (view->compact >= 0) {
    impl->ForEachLive(*view, base::KeyInterval::All(), [&any_live](std::string_view, const KeyVersion&) {
      any_live = true;
      return false;
    });
  }
  const int64_t keep_at = any_live ? view->read_revision : view->compact;
  auto it = impl->engine_->NewIterator({.lower = TableKey(Table::kRevision, {}),
                                        .upper = RevisionTableKey({view->read_revision + 1, 0}, false),
                                        .snapshot = view->snapshot.get(),
                                        .keep_cached = false});
  uint32_t crc = result.hash;
  for (; it->Valid(); it->Next()) {
    std::string_view key = it->key().substr(1);
    Revision at;
    bool tombstone;
    KVD_CHECK(DecodeRevisionKey(key, &at, &tombstone), "a stored revision does not decode");
    if (at.main <= view->compact && tombstone) {
      if (any_live || at.main < view->compact) continue;
    } else if (at.main <= view->compact) {
      StoredRecord record;
      KVD_CHECK(DecodeStored(it->value(), &record), "a stored record does not decode");
      base::ReaderLock lock(impl->index_mu_);
      const KeyVersion* kept = impl->index_.Find(record.kv.key, keep_at);
      if (kept == nullptr || kept->revision() != at) continue;
    }
    crc = base::Crc32c(crc, key);
    UseRecord(*impl->engine_, it->value(), view->snapshot.get(),
              [&crc](std::string_view record) { crc = base::Crc32c(crc, record); });
  }
  result.hash = crc;
  return result;
}

}  // namespace kvd::storage
