// The whole store in the terms of an etcd database, out and in.
#include <map>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "base/mutant.h"
#include "base/sites.h"
#include "storage/store_impl.h"

namespace kvd::storage {
namespace {

// etcd's buckets, in the order of their names.
struct Bucket {
  std::string_view name;
  Table table;
};
constexpr Bucket kBuckets[] = {
    {"alarm", Table::kAlarm},
    {"auth", Table::kAuth},
    {"authRoles", Table::kAuthRoles},
    {"authUsers", Table::kAuthUsers},
    {"cluster", Table::kCluster},
    {"key", Table::kRevision},
    {"lease", Table::kLease},
    {"members", Table::kMembers},
    {"members_removed", Table::kMembersRemoved},
    {"meta", Table::kMeta},
};

// Keys of etcd's "meta" bucket.
constexpr std::string_view kConsistentIndex = "consistent_index";
constexpr std::string_view kTerm = "term";
constexpr std::string_view kScheduledCompactRev = "scheduledCompactRev";
constexpr std::string_view kFinishedCompactRev = "finishedCompactRev";

std::string BigEndian(uint64_t v) {
  std::string out;
  base::AppendBigEndian64(out, v);
  return out;
}

class StoreImageImpl final : public StoreImage {
 public:
  explicit StoreImageImpl(std::shared_ptr<StoreImpl> store)
      : store_(std::move(store)), engine_(*store_->engine_), snapshot_(engine_.TakeSnapshot()) {
    std::string bytes;
    if (engine_.Get(TableKey(Table::kMeta, kStateKey), &bytes, snapshot_.get())) {
      KVD_CHECK(DecodeState(bytes, &state_), "the record of the applied state does not decode");
    }
    engine_.Get(TableKey(Table::kMeta, kConfStateKey), &conf_state_, snapshot_.get());
  }

  AppliedState applied() const override { return {state_.applied_index, state_.applied_term}; }
  int64_t revision() const override { return state_.revision; }
  int64_t compact_revision() const override { return state_.compact_revision; }
  const std::string& conf_state() const override { return conf_state_; }

  void ForEachRecord(
      absl::FunctionRef<bool(std::string_view bucket, std::string_view key, std::string_view value)> visit)
      override {
    for (const Bucket& bucket : kBuckets) {
      bool any = false, go_on = true;
      if (bucket.table == Table::kLease && KVD_MUTANT("snapshot_without_leases")) continue;
      auto give = [&](std::string_view key, std::string_view value) {
        any = true;
        go_on = visit(bucket.name, key, value);
        return go_on;
      };
      if (bucket.table == Table::kMeta) {
        for (const auto& [key, value] : Meta()) {
          if (!give(key, value)) return;
        }
      } else {
        auto it = Iterate(bucket.table);
        for (; go_on && it->Valid(); it->Next()) {
          std::string_view key = it->key().substr(1);
          if (bucket.table != Table::kRevision) {
            give(key, it->value());
            continue;
          }
          UseRecord(engine_, it->value(), snapshot_.get(),
                    [&](std::string_view record) { give(key, record); });
        }
      }
      if (!any) go_on = visit(bucket.name, {}, {});
      if (!go_on) return;
    }
  }

 private:
  std::unique_ptr<EngineIterator> Iterate(Table table) {
    return engine_.NewIterator({.lower = TableKey(table, {}),
                                .upper = TableEnd(table),
                                .snapshot = snapshot_.get(),
                                .keep_cached = false});
  }

  std::map<std::string, std::string> Meta() {
    std::map<std::string, std::string> meta;
    int64_t swept = -1;
    for (auto it = Iterate(Table::kMeta); it->Valid(); it->Next()) {
      std::string_view key = it->key().substr(1);
      if (key == kSweptRevisionKey) {
        DecodeRevisionMark(it->value(), &swept);
      } else if (key != kStateKey && key != kLatestThroughKey) {
        meta.emplace(key, it->value());
      }
    }
    meta[std::string(kConsistentIndex)] = BigEndian(state_.applied_index);
    meta[std::string(kTerm)] = BigEndian(state_.applied_term);
    auto set_revision = [&meta](std::string_view key, int64_t main) {
      if (main < 0) return;
      AppendRevisionKey(meta[std::string(key)], {main, 0}, false);
    };
    set_revision(kScheduledCompactRev, state_.compact_revision);
    set_revision(kFinishedCompactRev, swept);
    return meta;
  }

  const std::shared_ptr<StoreImpl> store_;
  Engine& engine_;
  std::unique_ptr<EngineSnapshot> snapshot_;
  MetaState state_;
  std::string conf_state_;
};

}  // namespace

std::unique_ptr<StoreImage> Store::OpenImage() const {
  return std::make_unique<StoreImageImpl>(Impl());
}

struct StoreBuilder::Impl {
  explicit Impl(Engine& e) : engine(e), batch(e.NewBatch()) {}

  void Put(Table table, std::string_view key, std::string_view value) {
    batch->Put(TableKey(table, key), value);
    if (batch->count() >= 1000) WriteOut();
  }
  void WriteOut() {
    engine.Write(*batch);
    batch->Clear();
  }

  absl::Status AddRevision(std::string_view key, std::string_view record) {
    Revision revision;
    bool tombstone;
    KeyValueView kv;
    if (!DecodeRevisionKey(key, &revision, &tombstone) || !DecodeKeyValue(record, &kv) || kv.key.empty()) {
      return absl::DataLossError("snapshot: a record of the bucket \"key\" is not a revision's");
    }
    if (revision <= last) return absl::DataLossError("snapshot: the bucket \"key\" is not in order");
    last = revision;
    std::string reference;
    const bool large = kv.value.size() >= kLargeValueBytes || KVD_BUGGIFY("storage/large record in an image");
    if (large && !tombstone && kv.mod_revision == revision.main) {
      AppendReference(reference, kv, revision.sub, record.size());
      batch->Put(TableKey(Table::kLarge, key), record);  // in one batch with what refers to it
      record = reference;
    }
    Put(Table::kRevision, key, record);
    if (tombstone) {
      batch->Delete(TableKey(Table::kLatest, kv.key));
    } else {
      Put(Table::kLatest, kv.key, record);
    }
    return absl::OkStatus();
  }

  absl::Status AddMeta(std::string_view key, std::string_view value) {
    Revision revision;
    bool tombstone;
    if (key == kConsistentIndex || key == kTerm) {
      if (value.size() != 8)
        return absl::DataLossError("snapshot: \"" + std::string(key) + "\" is not a number");
      (key == kTerm ? state.applied_term : state.applied_index) = base::LoadBigEndian64(value.data());
    } else if (key == kScheduledCompactRev || key == kFinishedCompactRev) {
      if (!DecodeRevisionKey(value, &revision, &tombstone)) {
        return absl::DataLossError("snapshot: \"" + std::string(key) + "\" is not a revision");
      }
      state.compact_revision = std::max(state.compact_revision, revision.main);
      if (key == kFinishedCompactRev) swept = revision.main;
    } else if (key != kStateKey && key != kSweptRevisionKey && key != kLatestThroughKey) {
      Put(Table::kMeta, key, value);
    }
    return absl::OkStatus();
  }

  Engine& engine;
  std::unique_ptr<WriteBatch> batch;
  MetaState state;
  int64_t swept = -1;
  Revision last;
};

StoreBuilder::StoreBuilder(Engine& engine) : impl_(std::make_unique<Impl>(engine)) {}
StoreBuilder::~StoreBuilder() = default;

absl::Status StoreBuilder::Add(std::string_view bucket, std::string_view key, std::string_view value) {
  if (key.empty()) return absl::OkStatus();  // a bucket without records
  for (const Bucket& known : kBuckets) {
    if (known.name != bucket) continue;
    if (known.table == Table::kRevision) return impl_->AddRevision(key, value);
    if (known.table == Table::kMeta) return impl_->AddMeta(key, value);
    impl_->Put(known.table, key, value);
  }
  return absl::OkStatus();
}

void StoreBuilder::SetApplied(AppliedState applied) {
  impl_->state.applied_index = applied.index;
  impl_->state.applied_term = applied.term;
}

void StoreBuilder::SetConfState(std::string_view conf_state) {
  impl_->Put(Table::kMeta, kConfStateKey, conf_state);
}

absl::Status StoreBuilder::Finish() {
  MetaState& state = impl_->state;
  state.revision = std::max({int64_t{1}, impl_->last.main, state.compact_revision});
  if (impl_->swept >= 0) impl_->Put(Table::kMeta, kSweptRevisionKey, EncodeRevisionMark(impl_->swept));
  impl_->Put(Table::kMeta, kStateKey, EncodeState(state));
  impl_->WriteOut();
  impl_->engine.Flush();
  return absl::OkStatus();
}

}  // namespace kvd::storage
