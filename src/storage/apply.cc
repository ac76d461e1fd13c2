#include <thread>
#include <utility>

#include "base/check.h"
#include "base/mutant.h"
#include "base/protobuf_wire.h"
#include "base/sites.h"
#include "storage/store_impl.h"
#include "storage/sweeper.h"

namespace kvd::storage {
namespace {

// Latest records written under one hold of the gate by those who want all of them written: a millisecond at
// most. And how often at most before the rest is written at once.
constexpr size_t kLatestSlice = 256;
constexpr int kMostSlices = 200;

void CheckNotOwn(Table table) {
  KVD_CHECK(table != Table::kRevision && table != Table::kLatest && table != Table::kLarge,
            "the store's own tables are not written raw");
}

}  // namespace

Writer::Writer(StoreImpl& store) : store_(store), batch_(store.engine_->NewBatch()) {}

void Writer::Begin() {
  sub_ = 0;
}

int64_t Writer::End() {
  if (changed()) ++state_.revision;
  sub_ = 0;
  return state_.revision;
}

View Writer::ViewNow() const {
  View view;
  view.current = header_revision();
  view.read_revision = view.current;
  view.compact = state_.compact_revision;
  view.pending = &events_;
  return view;
}

StoreError Writer::CheckLease(int64_t lease) const {
  if (lease == 0 || binder_ == nullptr || binder_->Exists(lease)) return StoreError::kNone;
  return StoreError::kLeaseNotFound;
}

// Enters one change into the index and the batch.
void Writer::Append(Event event, const KeyVersion& version, std::string_view record) {
  key_buffer_.assign(1, static_cast<char>(Table::kRevision));
  AppendRevisionKey(key_buffer_, version.revision(), version.tombstone);
  if (version.large) {
    reference_.clear();
    AppendReference(reference_, record, version.mod_sub);
    batch_->Put(LargeTableKey(version.revision()), record);
    batch_->Put(key_buffer_, reference_);
  } else {
    batch_->Put(key_buffer_, record);
  }
  {
    base::WriterLock lock(store_.index_mu_);
    const LiveSum change = store_.index_.Append(event.key, version);
    if (change != LiveSum{}) store_.unpublished_.push_back({event.kv, event.key, change});
  }
  events_.push_back(std::move(event));
  ++sub_;
}

StoreError Writer::Put(const PutArgs& args, std::string* prev_kv) {
  View view = ViewNow();
  std::optional<KeyVersion> old = store_.FindLive(view, args.key);
  std::string_view value = args.value;
  int64_t lease = args.lease;
  std::string previous;  // the record that is replaced, where it is asked for
  if (args.ignore_value || args.ignore_lease || prev_kv != nullptr) {
    if (!old && (args.ignore_value || args.ignore_lease)) return StoreError::kKeyNotFound;
    if (old) {
      store_.Fetch(view, *old, [&previous](std::string_view record) { previous.assign(record); });
      KeyValueView kv;
      KVD_CHECK(DecodeKeyValue(previous, &kv), "a stored record does not decode");
      if (args.ignore_value) value = kv.value;
      if (args.ignore_lease) lease = kv.lease;
      if (prev_kv != nullptr) prev_kv->append(previous);
    }
  }
  KeyVersion version;
  version.mod_main = state_.revision + 1;
  version.mod_sub = static_cast<uint32_t>(sub_);
  version.create_main = old ? old->create_main : version.mod_main;
  version.version = old ? old->version + 1 : 1;
  version.leased = lease != 0;
  version.large = value.size() >= store_.options_.large_value_bytes || KVD_BUGGIFY("storage/large record");

  std::string record;
  record.reserve(args.key.size() + value.size() + 48);
  AppendKeyValue(record, {.key = args.key,
                          .create_revision = version.create_main,
                          .mod_revision = version.mod_main,
                          .version = version.version,
                          .value = value,
                          .lease = lease});
  version.set_record_bytes(record.size());
  Event event;
  event.type = Event::Type::kPut;
  event.kv = base::SharedBytes(std::move(record));
  KeyValueView kv;
  DecodeKeyValue(event.kv.view(), &kv);
  event.key = kv.key;
  event.revision = version.revision();
  event.create_revision = version.create_main;
  event.version = version.version;
  event.lease = lease;
  event.large = version.large;
  event.has_previous = old && old->mod_main != version.mod_main;
  if (lease != 0) store_.has_leased_keys_.store(true, std::memory_order_relaxed);
  if (binder_ != nullptr) {
    if (lease != 0) {
      binder_->Attach(lease, event.key);
    } else if (old && old->leased) {
      binder_->Detach(event.key);
    }
  }
  std::string_view stored = event.kv.view();
  Append(std::move(event), version, stored);
  return StoreError::kNone;
}

void Writer::Tombstone(std::string_view key, const KeyVersion& old) {
  KeyVersion version;
  version.mod_main = state_.revision + 1;
  version.mod_sub = static_cast<uint32_t>(sub_);
  version.tombstone = true;

  std::string record, shown;
  AppendKeyValue(
      record, {.key = key, .create_revision = 0, .mod_revision = 0, .version = 0, .value = {}, .lease = 0});
  AppendKeyValue(shown, {.key = key,
                         .create_revision = 0,
                         .mod_revision = version.mod_main,
                         .version = 0,
                         .value = {},
                         .lease = 0});
  Event event;
  event.type = Event::Type::kDelete;
  event.kv = base::SharedBytes(std::move(shown));
  KeyValueView kv;
  DecodeKeyValue(event.kv.view(), &kv);
  event.key = kv.key;
  event.revision = version.revision();
  event.has_previous = old.mod_main != version.mod_main;
  if (binder_ != nullptr && old.leased && !KVD_MUTANT("deleted_key_keeps_lease")) binder_->Detach(event.key);
  Append(std::move(event), version, record);
}

bool Writer::DeleteKey(std::string_view key) {
  std::optional<KeyVersion> old = store_.FindLive(ViewNow(), key);
  if (!old) return false;
  if (KVD_MUTANT("lease_keys_over_revisions") && changed()) {
    End();
    Begin();
  }
  Tombstone(key, *old);
  return true;
}

int64_t Writer::Delete(const base::KeyInterval& interval, std::string* prev_kvs) {
  View view = ViewNow();
  std::vector<std::pair<std::string, KeyVersion>> doomed;
  if (interval.is_single()) {
    std::optional<KeyVersion> old = store_.FindLive(view, interval.start());
    if (old) doomed.emplace_back(interval.start(), *old);
  } else {
    store_.ForEachLive(view, interval, [&doomed](std::string_view key, const KeyVersion& version) {
      doomed.emplace_back(key, version);
      return true;
    });
  }
  for (const auto& [key, old] : doomed) {
    if (prev_kvs == nullptr) break;
    store_.Fetch(view, old,
                 [prev_kvs](std::string_view r) { base::AppendBytesField(*prev_kvs, kPrevKvsField, r); });
  }
  for (const auto& [key, old] : doomed) Tombstone(key, old);
  return static_cast<int64_t>(doomed.size());
}

StoreError Writer::Compact(int64_t revision, absl::AnyInvocable<void()> on_swept) {
  if (revision <= state_.compact_revision) return StoreError::kCompacted;
  if (revision > state_.revision) return StoreError::kFutureRevision;
  state_.compact_revision = revision;
  compacted_ = true;
  if (on_swept) on_swept_.push_back(std::move(on_swept));
  return StoreError::kNone;
}

void Writer::Commit(AppliedState applied) {
  state_.applied_index = applied.index;
  state_.applied_term = applied.term;
  if (KVD_MUTANT("applied_index_not_in_batch")) {
    store_.engine_->Write(*batch_);
    batch_->Clear();
  }
  batch_->Put(TableKey(Table::kMeta, kStateKey), EncodeState(state_));
  if (conf_state_) batch_->Put(TableKey(Table::kMeta, kConfStateKey), *conf_state_);
  while (!WriteAndPublish()) store_.engine_->WaitForRoom();
  if (KVD_BUGGIFY("storage/flush")) store_.engine_->Flush();
  batch_->Clear();
  conf_state_.reset();
  if (observer_ != nullptr && !events_.empty()) {
    observer_->OnCommit(events_.front().revision.main, events_.back().revision.main, events_);
  }
  events_.clear();
  if (compacted_) {
    compacted_ = false;
    store_.sweeper_->Request(state_.compact_revision, std::exchange(on_swept_, {}));
  }
}

// False: there is no room. Readers are held up no longer than it takes to find that out.
bool Writer::WriteAndPublish() {
  base::WriterLock gate(store_.gate_);
  if (!store_.WriteDueLatest(events_.size()) || !store_.engine_->TryWrite(*batch_)) return false;
  store_.latest_.Enter(events_);
  store_.Publish(state_, conf_state_ ? &*conf_state_ : nullptr);
  return true;
}

bool StoreImpl::WriteDueLatest(size_t changes) const {
  if (!latest_.Take(changes, revision_.load(std::memory_order_acquire), *latest_batch_)) return true;
  return WriteTakenLatest();
}

bool StoreImpl::WriteSomeLatest() const {
  if (!latest_.TakeSome(kLatestSlice, revision_.load(std::memory_order_acquire), *latest_batch_)) return true;
  return WriteTakenLatest();
}

bool StoreImpl::WriteAllLatest() const {
  if (!latest_.TakeAll(revision_.load(std::memory_order_acquire), *latest_batch_)) return true;
  return WriteTakenLatest();
}

bool StoreImpl::WriteTakenLatest() const {
  const bool written = engine_->TryWrite(*latest_batch_);
  latest_batch_->Clear();
  if (written) {
    latest_.Written();
  } else {
    latest_.GiveBack();
  }
  return written;
}

void StoreImpl::CompleteLatest() const {
  const int64_t target = revision_.load(std::memory_order_acquire);
  for (;;) {
    bool written;
    {
      base::WriterLock gate(gate_);
      if (latest_.WrittenThrough(target)) return;
      written = WriteSomeLatest();
    }
    if (written) {
      std::this_thread::yield();
    } else {
      engine_->WaitForRoom();
    }
  }
}

void StoreImpl::ReduceLatest() const {
  // Bounded: a writer may add to them as fast as they go.
  for (int i = 0; i < kMostSlices && latest_.unwritten() > 2 * kLatestSlice; ++i) {
    base::WriterLock gate(gate_);
    if (!WriteSomeLatest()) return;
  }
}

void StoreImpl::Publish(const MetaState& state, const std::string* conf_state) {
  {
    base::WriterLock lock(index_mu_);
    revision_.store(state.revision, std::memory_order_release);
    compact_revision_.store(state.compact_revision, std::memory_order_release);
    unpublished_.clear();
  }
  base::MutexLock lock(applied_mu_);
  applied_ = {state.applied_index, state.applied_term};
  if (conf_state != nullptr) conf_state_ = *conf_state;
}

OpResult ApplyBatch::Put(const PutArgs& args, Answer answer) {
  Writer& writer = *impl_->writer_;
  OpResult result;
  result.error = writer.CheckLease(args.lease);
  if (result.ok()) {
    std::string prev_kv;
    bool wants_prev = args.prev_kv && answer == Answer::kFull;
    writer.Begin();
    result.error = writer.Put(args, wants_prev ? &prev_kv : nullptr);
    writer.End();
    if (!prev_kv.empty()) base::AppendBytesField(result.body, 2, prev_kv);
  }
  result.revision = writer.state_.revision;
  return result;
}

OpResult ApplyBatch::DeleteRange(const DeleteRangeArgs& args, Answer answer) {
  Writer& writer = *impl_->writer_;
  OpResult result;
  std::string prev_kvs;
  bool wants_prev = args.prev_kv && answer == Answer::kFull;
  writer.Begin();
  result.count = writer.Delete(base::KeyInterval::FromRequest(args.key, args.range_end),
                               wants_prev ? &prev_kvs : nullptr);
  result.revision = writer.End();
  if (answer == Answer::kFull) {
    base::AppendInt64Field(result.body, 2, result.count);
    result.body.append(prev_kvs);
  }
  return result;
}

OpResult ApplyBatch::DeleteKeys(absl::Span<const std::string> keys) {
  Writer& writer = *impl_->writer_;
  OpResult result;
  writer.Begin();
  for (const std::string& key : keys) result.count += writer.DeleteKey(key) ? 1 : 0;
  result.revision = writer.End();
  return result;
}

OpResult ApplyBatch::Range(const RangeArgs& args) {
  Writer& writer = *impl_->writer_;
  OpResult result;
  std::optional<View> view = impl_->NarrowView(writer.ViewNow(), args.revision, &result.error);
  result.revision = writer.state_.revision;
  if (!view) return result;
  RangeReader reader(*impl_, *std::move(view), args, {});
  reader.AppendRest(&result.body);
  result.count = reader.count();
  result.more = reader.more();
  return result;
}

OpResult ApplyBatch::Compact(int64_t revision, absl::AnyInvocable<void()> on_swept) {
  Writer& writer = *impl_->writer_;
  OpResult result;
  result.error = writer.Compact(revision, std::move(on_swept));
  result.revision = writer.state_.revision;
  return result;
}

void ApplyBatch::PutTable(Table table, std::string_view key, std::string_view value) {
  CheckNotOwn(table);
  impl_->writer_->batch_->Put(TableKey(table, key), value);
}

void ApplyBatch::DeleteTable(Table table, std::string_view key) {
  CheckNotOwn(table);
  impl_->writer_->batch_->Delete(TableKey(table, key));
}

void ApplyBatch::SetConfState(std::string_view conf_state) {
  impl_->writer_->conf_state_ = std::string(conf_state);
}

int64_t ApplyBatch::revision() const {
  return impl_->writer_->state_.revision;
}

void ApplyBatch::Commit(AppliedState applied) {
  impl_->writer_->Commit(applied);
}

}  // namespace kvd::storage
