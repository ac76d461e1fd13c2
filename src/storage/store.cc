#include "storage/store.h"

#include <algorithm>

#include "base/check.h"
#include "storage/store_impl.h"
#include "storage/sweeper.h"

namespace kvd::storage {

Store::Store(std::shared_ptr<StoreImpl> impl) : current_(std::make_unique<Current>()) {
  base::WriterLock lock(current_->mu);
  current_->impl = std::move(impl);
}
Store::~Store() = default;

std::shared_ptr<StoreImpl> Store::Impl() const {
  base::ReaderLock lock(current_->mu);
  return current_->impl;
}

void Store::ReplaceWith(std::unique_ptr<Store> other, absl::AnyInvocable<void()> on_closed) {
  std::shared_ptr<StoreImpl> old = Impl(), next = other->Impl();
  KVD_CHECK(old->writer_->events_.empty(), "a store is replaced between batches");
  KVD_CHECK(next->revision_ >= old->revision_, "a store is not replaced by an older one");
  other.reset();
  next->writer_->observer_ = old->writer_->observer_;
  next->writer_->binder_ = old->writer_->binder_;
  old->on_closed_ = std::move(on_closed);
  {
    base::WriterLock lock(current_->mu);
    current_->impl = next;
  }
  old->sweeper_->Stop();
  old.reset();
  if (next->writer_->observer_ != nullptr) next->writer_->observer_->OnReplaced(current_revision());
}

void Store::SetObserver(StoreObserver* observer) {
  std::shared_ptr<StoreImpl> impl = Impl();
  impl->writer_->observer_ = observer;
}
void Store::SetLeaseBinder(LeaseBinder* binder) {
  std::shared_ptr<StoreImpl> impl = Impl();
  impl->writer_->binder_ = binder;
}

ApplyBatch Store::BeginApply() {
  return ApplyBatch(Impl().get());
}

AppliedState Store::applied() const {
  std::shared_ptr<StoreImpl> impl = Impl();
  base::MutexLock lock(impl->applied_mu_);
  return impl->applied_;
}
int64_t Store::current_revision() const {
  std::shared_ptr<StoreImpl> impl = Impl();
  return impl->revision_.load(std::memory_order_acquire);
}
int64_t Store::compact_revision() const {
  std::shared_ptr<StoreImpl> impl = Impl();
  return impl->compact_revision_.load(std::memory_order_acquire);
}
uint64_t Store::sweeps() const {
  return Impl()->sweeper_->passes();
}
std::string Store::conf_state() const {
  std::shared_ptr<StoreImpl> impl = Impl();
  base::MutexLock lock(impl->applied_mu_);
  return impl->conf_state_;
}

AppliedState Store::PersistedApplied() const {
  std::shared_ptr<StoreImpl> impl = Impl();
  std::string bytes;
  MetaState state;
  if (!impl->engine_->GetPersisted(TableKey(Table::kMeta, kStateKey), &bytes)) return {};
  KVD_CHECK(DecodeState(bytes, &state), "the record of the applied state does not decode");
  return {state.applied_index, state.applied_term};
}

void Store::ForEachLeasedKey(absl::FunctionRef<void(std::string_view key, int64_t lease)> visit) const {
  std::shared_ptr<StoreImpl> impl = Impl();
  if (!impl->has_leased_keys_) return;
  impl->CompleteLatest();
  ForEachInTable(Table::kLatest, [&visit](std::string_view key, std::string_view record) {
    StoredRecord stored;
    KVD_CHECK(DecodeStored(record, &stored), "a stored record does not decode");
    if (stored.kv.lease != 0) visit(key, stored.kv.lease);
  });
}

bool Store::GetTable(Table table, std::string_view key, std::string* value) const {
  std::shared_ptr<StoreImpl> impl = Impl();
  return impl->engine_->Get(TableKey(table, key), value);
}

void Store::ForEachInTable(
    Table table, absl::FunctionRef<void(std::string_view key, std::string_view value)> visit) const {
  std::shared_ptr<StoreImpl> impl = Impl();
  auto it = impl->engine_->NewIterator(
      {.lower = TableKey(table, {}), .upper = TableEnd(table), .snapshot = nullptr, .keep_cached = false});
  for (; it->Valid(); it->Next()) visit(it->key().substr(1), it->value());
}

void Store::Flush() {
  std::shared_ptr<StoreImpl> impl = Impl();
  impl->engine_->Flush();
}

bool Store::TryFlush() {
  std::shared_ptr<StoreImpl> impl = Impl();
  return impl->engine_->TryFlush();
}

int64_t Store::live_keys() const {
  std::shared_ptr<StoreImpl> impl = Impl();
  base::ReaderLock lock(impl->index_mu_);
  return impl->index_.live_keys();
}

uint64_t Store::size_bytes() const {
  std::shared_ptr<StoreImpl> impl = Impl();
  EngineSizes sizes = impl->engine_->Sizes();
  return sizes.disk_bytes + sizes.memory_bytes;
}

uint64_t Store::unflushed_bytes() const {
  std::shared_ptr<StoreImpl> impl = Impl();
  return impl->engine_->Sizes().memory_bytes;
}

uint64_t Store::size_in_use_bytes() const {
  std::shared_ptr<StoreImpl> impl = Impl();
  EngineSizes sizes = impl->engine_->Sizes();
  return std::min(sizes.live_bytes, sizes.disk_bytes) + sizes.memory_bytes;
}

Engine& Store::engine() const {
  std::shared_ptr<StoreImpl> impl = Impl();
  return *impl->engine_;
}

void Store::HintCompaction(base::Executor& executor) {
  std::shared_ptr<StoreImpl> impl = Impl();
  impl->sweeper_->HintCompaction(executor);
}

void Store::HintGarbage(base::Executor& executor) {
  std::shared_ptr<StoreImpl> impl = Impl();
  impl->sweeper_->HintGarbage(executor);
}

}  // namespace kvd::storage
