// Opening a store: what the engine holds becomes the published state and the index.
#include <map>
#include <string>

#include "base/executor.h"
#include "base/log.h"
#include "base/sites.h"
#include "storage/store_impl.h"
#include "storage/sweeper.h"

namespace kvd::storage {
namespace {

absl::Status Rot(std::string_view what) {
  return absl::DataLossError("storage: " + std::string(what) +
                             "; the database is damaged: restore this member from its peers or a backup");
}

bool DecodeHistory(const EngineIterator& at, Revision* revision, bool* tombstone, StoredRecord* record) {
  return DecodeRevisionKey(at.key().substr(1), revision, tombstone) && DecodeStored(at.value(), record);
}

}  // namespace

StoreImpl::StoreImpl(std::unique_ptr<Engine> engine, base::Executor& background, const StoreOptions& options)
    : engine_(std::move(engine)),
      background_(background),
      options_(options),
      latest_(options.latest),
      latest_batch_(engine_->NewBatch()) {}

StoreImpl::~StoreImpl() {
  if (sweeper_) sweeper_->Stop();
  {
    // A clean stop leaves nothing to make up for; if there is no room, the next start does it.
    base::WriterLock gate(gate_);
    WriteAllLatest();
  }
  latest_batch_.reset();
  writer_.reset();  // its batch is the engine's
  engine_.reset();
  if (on_closed_) on_closed_();
}

absl::Status StoreImpl::Load() {
  base::Nanos start = background_.clock().Monotonic();
  MetaState state;
  std::string bytes;
  if (engine_->Get(TableKey(Table::kMeta, kStateKey), &bytes) && !DecodeState(bytes, &state)) {
    return Rot("the record of the applied state is not one of this format");
  }
  std::string conf_state;
  engine_->Get(TableKey(Table::kMeta, kConfStateKey), &conf_state);
  if (absl::Status made_up = LoadLatest(state.revision); !made_up.ok()) return made_up;

  base::WriterLock lock(index_mu_);
  // The live keys come in order; the history then adds their other versions and the dead keys.
  int64_t live = 0;
  bool leased = false;
  auto latest = engine_->NewIterator({.lower = TableKey(Table::kLatest, {}),
                                      .upper = TableEnd(Table::kLatest),
                                      .snapshot = nullptr,
                                      .keep_cached = false});
  for (; latest->Valid(); latest->Next()) {
    StoredRecord record;
    if (!DecodeStored(latest->value(), &record)) return Rot("a latest record does not decode");
    KeyVersion version{.mod_main = record.kv.mod_revision,
                       .create_main = record.kv.create_revision,
                       .version = record.kv.version,
                       .leased = record.kv.lease != 0,
                       .large = record.large};
    version.set_record_bytes(record.record_size);
    index_.LoadLatest(latest->key().substr(1), version);
    ++live;
  }
  latest.reset();
  auto history = engine_->NewIterator({.lower = TableKey(Table::kRevision, {}),
                                       .upper = TableEnd(Table::kRevision),
                                       .snapshot = nullptr,
                                       .keep_cached = false});
  for (; history->Valid(); history->Next()) {
    Revision revision;
    bool tombstone = false;
    StoredRecord record;
    if (!DecodeHistory(*history, &revision, &tombstone, &record)) {
      return Rot("a record of the history does not decode");
    }
    const KeyValueView& kv = record.kv;
    if (revision.main > state.revision) return Rot("the history goes beyond the current revision");
    KeyVersion version;
    version.mod_main = revision.main;
    version.mod_sub = static_cast<uint32_t>(revision.sub);
    version.create_main = tombstone ? 0 : kv.create_revision;
    version.version = tombstone ? 0 : kv.version;
    version.set_record_bytes(tombstone ? 0 : record.record_size);
    version.tombstone = tombstone;
    version.leased = kv.lease != 0;
    version.large = record.large;
    leased |= version.leased;
    index_.LoadVersion(kv.key, version);
  }
  if (!index_.FinishLoad() || index_.live_keys() != live)
    return Rot("the history and the latest records disagree");

  has_leased_keys_ = leased;
  revision_ = state.revision;
  compact_revision_ = state.compact_revision;
  {
    base::MutexLock applied(applied_mu_);
    applied_ = {state.applied_index, state.applied_term};
    conf_state_ = conf_state;
  }
  writer_ = std::make_unique<Writer>(*this);
  writer_->state_ = state;
  sweeper_ = std::make_shared<Sweeper>(*this);
  int64_t swept = -1;
  if (engine_->Get(TableKey(Table::kMeta, kSweptRevisionKey), &bytes)) DecodeRevisionMark(bytes, &swept);
  if (swept < state.compact_revision) {
    KVD_PROBE("storage/interrupted compaction taken up");
    sweeper_->Request(state.compact_revision, {});
  }

  auto took = background_.clock().Monotonic() - start;
  KVD_LOG(kInfo, "opened the store", {"revision", state.revision},
          {"compact-revision", state.compact_revision}, {"applied-index", state.applied_index},
          {"keys", live}, {"took-ms", static_cast<int64_t>(took.count() / 1'000'000)});
  return absl::OkStatus();
}

absl::Status StoreImpl::LoadLatest(int64_t current_revision) {
  base::WriterLock gate(gate_);
  std::string bytes;
  int64_t through = current_revision;
  const bool marked = engine_->Get(TableKey(Table::kMeta, kLatestThroughKey), &bytes);
  if (marked && !DecodeRevisionMark(bytes, &through)) return Rot("the mark of the latest records is not one");
  if (marked && through >= current_revision) return absl::OkStatus();

  std::map<std::string, std::string> latest;  // as stored; empty: deleted
  auto history = engine_->NewIterator({.lower = RevisionTableKey({through + 1, 0}, false),
                                       .upper = TableEnd(Table::kRevision),
                                       .snapshot = nullptr,
                                       .keep_cached = false});
  for (; history->Valid(); history->Next()) {
    Revision revision;
    bool tombstone;
    StoredRecord record;
    if (!DecodeHistory(*history, &revision, &tombstone, &record)) {
      return Rot("a record of the history does not decode");
    }
    latest[TableKey(Table::kLatest, record.kv.key)].assign(tombstone ? std::string_view() : history->value());
  }
  history.reset();
  if (!latest.empty()) KVD_PROBE("storage/latest records made up from the history");
  for (const auto& [key, record] : latest) {
    if (record.empty()) {
      latest_batch_->Delete(key);
    } else {
      latest_batch_->Put(key, record);
    }
  }
  latest_batch_->Put(TableKey(Table::kMeta, kLatestThroughKey), EncodeRevisionMark(current_revision));
  engine_->Write(*latest_batch_);
  latest_batch_->Clear();
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Store>> Store::Open(std::unique_ptr<Engine> engine, base::Executor& background,
                                                   const StoreOptions& options) {
  auto impl = std::make_shared<StoreImpl>(std::move(engine), background, options);
  absl::Status status = impl->Load();
  if (!status.ok()) return status;
  return std::unique_ptr<Store>(new Store(std::move(impl)));
}

}  // namespace kvd::storage
