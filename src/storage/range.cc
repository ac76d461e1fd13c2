#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/protobuf_wire.h"
#include "storage/store_impl.h"

namespace kvd::storage {
namespace {

// Keys of the index looked at under one hold of its lock.
constexpr size_t kWalkSlice = 256;

bool HasFilters(const RangeArgs& a) {
  return a.min_mod_revision != 0 || a.max_mod_revision != 0 || a.min_create_revision != 0 ||
         a.max_create_revision != 0;
}

IteratorOptions LatestOf(const base::KeyInterval& interval) {
  IteratorOptions options;
  options.lower = TableKey(Table::kLatest, interval.start());
  options.upper = interval.is_open() ? TableEnd(Table::kLatest) : TableKey(Table::kLatest, interval.end());
  options.short_scan = true;
  return options;
}

// The answer is not in the order of the keys, or not all of them: it is collected before its first key.
bool IsCollected(const RangeArgs& a) {
  const bool by_key = a.sort_target == SortTarget::kKey && a.sort_order != SortOrder::kDescend;
  return !by_key || HasFilters(a);
}

// True if records of an interval are read.
bool ReadsRecords(const base::KeyInterval& interval, const RangeArgs& args) {
  return !interval.is_single() && !args.count_only && !args.keys_only;
}

StoreError CheckRevision(int64_t revision, int64_t current, int64_t compact) {
  if (revision > current) return StoreError::kFutureRevision;
  if (revision > 0 && revision < compact) return StoreError::kCompacted;
  return StoreError::kNone;
}

// A key-value pair that is given without its value, from the index.
KeyValueView KeyOnly(std::string_view key, const KeyVersion& v) {
  return {.key = key,
          .create_revision = v.create_main,
          .mod_revision = v.mod_main,
          .version = v.version,
          .value = {},
          .lease = 0};
}

// The same from its record, whose lease is shown then.
KeyValueView WithoutValue(std::string_view record) {
  KeyValueView kv;
  DecodeKeyValue(record, &kv);
  kv.value = {};
  return kv;
}

void AppendKv(const KeyValueView& kv, std::string* out) {
  base::AppendLength(*out, kKvsField, KeyValueSize(kv));
  AppendKeyValue(*out, kv);
}

}  // namespace

std::optional<View> StoreImpl::OpenView(int64_t revision, bool with_records, StoreError* error,
                                        const base::KeyInterval* interval, bool with_bytes,
                                        Extent* extent) const {
  auto make = [&]() ABSL_SHARED_LOCKS_REQUIRED(gate_) {
    std::optional<View> view = MakeView(revision, error);
    if (!view) return view;
    if (interval != nullptr) *extent = Measure(*view, *interval, with_bytes);
    if (!with_records) return view;
    view->latest_complete = latest_.AllWritten();
    if (interval == nullptr || extent->bytes > static_cast<int64_t>(options_.iterator_bytes)) {
      view->snapshot = engine_->TakeSnapshot();
    } else if (view->latest && view->latest_complete) {
      IteratorOptions options = LatestOf(*interval);
      options.keep_cached = extent->bytes <= static_cast<int64_t>(options_.cached_read_bytes);
      options.at_start = false;  // what it reads is read without the gate
      view->records = engine_->NewIterator(options);
    }
    return view;
  };
  {
    base::ReaderLock gate(gate_);
    if (!with_records || latest_.AllWritten()) return make();
  }
  // What is written here, the writer would have had to write. Without room the view does without.
  ReduceLatest();
  base::WriterLock gate(gate_);
  WriteAllLatest();
  return make();
}

std::optional<View> StoreImpl::MakeView(int64_t revision, StoreError* error) const {
  View view;
  view.current = revision_.load(std::memory_order_acquire);
  view.compact = compact_revision_.load(std::memory_order_acquire);
  *error = CheckRevision(revision, view.current, view.compact);
  if (*error != StoreError::kNone) return std::nullopt;
  view.latest = revision <= 0 || revision == view.current;
  view.read_revision = view.latest ? view.current : revision;
  view.pin = pins_.Add(view.read_revision);
  return view;
}

std::optional<View> StoreImpl::NarrowView(const View& view, int64_t revision, StoreError* error) const {
  *error = CheckRevision(revision, view.current, view.compact);
  if (*error != StoreError::kNone) return std::nullopt;
  View narrow;
  narrow.current = view.current;
  narrow.compact = view.compact;
  narrow.pending = view.pending;
  narrow.snapshot = view.snapshot;
  narrow.latest_complete = view.latest_complete;
  narrow.latest = revision <= 0 || revision == view.read_revision;
  narrow.read_revision = narrow.latest ? view.read_revision : revision;
  if (!narrow.latest && view.pending == nullptr) {
    // A compaction may have passed the revision since the outer view was taken.
    base::ReaderLock gate(gate_);
    *error = CheckRevision(revision, view.current, compact_revision_.load(std::memory_order_acquire));
    if (*error != StoreError::kNone) return std::nullopt;
    narrow.pin = pins_.Add(revision);
  }
  return narrow;
}

std::optional<KeyVersion> StoreImpl::FindLive(const View& view, std::string_view key) const {
  base::ReaderLock lock(index_mu_);
  const KeyVersion* v = index_.Find(key, view.read_revision);
  if (v == nullptr || v->tombstone) return std::nullopt;
  return *v;
}

void StoreImpl::Fetch(const View& view, const KeyVersion& version,
                      absl::FunctionRef<void(std::string_view)> use) const {
  if (view.pending && !view.pending->empty() && version.revision() >= view.pending->front().revision) {
    auto it = std::lower_bound(view.pending->begin(), view.pending->end(), version.revision(),
                               [](const Event& e, const Revision& r) { return e.revision < r; });
    KVD_CHECK(it != view.pending->end() && it->revision == version.revision(), "an event is missing");
    use(it->kv.view());
    return;
  }
  bool found = engine_->Get(RecordTableKey(version), use);
  KVD_CHECK(found, "the index names a revision that the engine does not have");
}

StoreImpl::Extent StoreImpl::Measure(const View& view, const base::KeyInterval& interval,
                                     bool with_bytes) const {
  if (!view.latest) return {};
  base::ReaderLock lock(index_mu_);
  LiveSum sum;
  if (with_bytes) {
    sum = index_.SumLive(interval);
  } else {
    sum.keys = index_.CountLive(interval);
  }
  if (view.pending == nullptr) {
    if (revision_.load(std::memory_order_acquire) != view.read_revision) return {};
    for (const LiveChange& unpublished : unpublished_) {
      if (interval.Contains(unpublished.key)) sum -= unpublished.change;
    }
  }
  return {sum.keys, with_bytes ? sum.bytes : -1};
}

int64_t StoreImpl::Count(const View& view, const base::KeyInterval& interval) const {
  int64_t count = Measure(view, interval, /*with_bytes=*/false).keys;
  if (count >= 0) return count;
  count = 0;
  ForEachLive(view, interval, [&count](std::string_view, const KeyVersion&) {
    ++count;
    return true;
  });
  return count;
}

void StoreImpl::ForEachLive(
    const View& view, const base::KeyInterval& interval,
    absl::FunctionRef<bool(std::string_view key, const KeyVersion& version)> visit) const {
  std::string resume, next;
  bool stopped = false;
  while (!stopped) {
    base::ReaderLock lock(index_mu_);
    bool exhausted = index_.Walk(
        interval, resume, view.read_revision, kWalkSlice,
        [&](std::string_view key, const KeyVersion& version) {
          if (visit(key, version)) return true;
          stopped = true;
          return false;
        },
        &next);
    if (exhausted) return;
    std::swap(resume, next);
  }
}

RangeReader::RangeReader(const StoreImpl& store, View view, const RangeArgs& args, StoreImpl::Extent extent,
                         std::shared_ptr<const StoreImpl> owner)
    : owner_(std::move(owner)),
      store_(store),
      view_(std::move(view)),
      args_(args),
      key_(args.key),
      range_end_(args.range_end),
      interval_(base::KeyInterval::FromRequest(key_, range_end_)),
      count_(extent.keys),
      bytes_(extent.bytes) {
  args_.key = key_;
  args_.range_end = range_end_;
  Start();
  if (mode_ != Mode::kLatest) view_.records.reset();
}

RangeReader::~RangeReader() = default;

void RangeReader::Start() {
  if (count_ < 0) count_ = store_.Count(view_, interval_);
  if (args_.count_only || count_ == 0) return;
  if (IsCollected(args_)) {
    Collect();
    return;
  }
  more_ = args_.limit > 0 && count_ > args_.limit;
  total_ = left_ = more_ ? args_.limit : count_;
  const bool whole_records = !args_.keys_only && !interval_.is_single();
  if (whole_records && view_.pending != nullptr && view_.pending->empty()) {
    // The writer, before its first change: nobody else can make the engine's table incomplete.
    base::WriterLock gate(store_.gate_);
    view_.latest_complete = store_.WriteAllLatest();
  }
  mode_ = whole_records && view_.latest && view_.latest_complete ? Mode::kLatest : Mode::kIndex;
}

bool RangeReader::Passes(const KeyVersion& v) const {
  if (args_.max_mod_revision != 0 && v.mod_main > args_.max_mod_revision) return false;
  if (args_.min_mod_revision != 0 && v.mod_main < args_.min_mod_revision) return false;
  if (args_.max_create_revision != 0 && v.create_main > args_.max_create_revision) return false;
  if (args_.min_create_revision != 0 && v.create_main < args_.min_create_revision) return false;
  return true;
}

void RangeReader::Collect() {
  size_t limit = args_.limit > 0 ? static_cast<size_t>(args_.limit) : std::numeric_limits<size_t>::max();
  // Without an order and filters etcd reads limit + 1 keys by key, and sorts these.
  bool cut_before_sort = args_.sort_order == SortOrder::kNone && !HasFilters(args_);
  size_t wanted = cut_before_sort && args_.limit > 0 ? limit + 1 : std::numeric_limits<size_t>::max();
  size_t seen = 0;
  store_.ForEachLive(view_, interval_, [&](std::string_view key, const KeyVersion& version) {
    ++seen;
    if (Passes(version)) refs_.push_back({std::string(key), version, {}});
    return seen < wanted;
  });
  more_ = refs_.size() > limit;
  SortCollected(std::min(limit, refs_.size()));
  total_ = left_ = static_cast<int64_t>(refs_.size());
  mode_ = Mode::kCollected;
}

// Sorts the collected keys and keeps the first `keep`. Equal ones stand in the order of their keys.
void RangeReader::SortCollected(size_t keep) {
  bool descend = args_.sort_order == SortOrder::kDescend;
  auto by = [&](auto field) {
    std::partial_sort(refs_.begin(), refs_.begin() + static_cast<ptrdiff_t>(keep), refs_.end(),
                      [&](const Ref& a, const Ref& b) {
                        auto x = field(a), y = field(b);
                        if (x != y) return descend ? y < x : x < y;
                        return a.key < b.key;
                      });
  };
  switch (args_.sort_target) {
    case SortTarget::kKey:
      if (descend) std::reverse(refs_.begin(), refs_.end());
      break;
    case SortTarget::kVersion:
      by([](const Ref& r) { return r.version.version; });
      break;
    case SortTarget::kCreate:
      by([](const Ref& r) { return r.version.create_main; });
      break;
    case SortTarget::kMod:
      by([](const Ref& r) { return r.version.mod_main; });
      break;
    case SortTarget::kValue:
      for (Ref& ref : refs_) {
        store_.Fetch(view_, ref.version, [&ref](std::string_view record) { ref.record.assign(record); });
      }
      by([](const Ref& r) {
        KeyValueView kv;
        DecodeKeyValue(r.record, &kv);
        return kv.value;
      });
      break;
  }
  refs_.resize(keep);
}

bool RangeReader::OpenLatest() {
  opened_at_ = given_bytes_;
  if (mode_ == Mode::kLatest && view_.snapshot == nullptr && view_.pending == nullptr) return ReopenLatest();
  IteratorOptions options = LatestOf(interval_);
  if (!latest_from_.empty()) options.lower = latest_from_;
  options.snapshot = view_.snapshot.get();
  options.keep_cached = given_bytes_ < store_.options_.cached_read_bytes;
  latest_ = store_.engine_->NewIterator(options);
  return true;
}

bool RangeReader::ReopenLatest() {
  if (latest_from_.empty()) latest_from_ = TableKey(Table::kLatest, interval_.start());
  if (view_.records == nullptr) {
    IteratorOptions options = LatestOf(interval_);
    options.keep_cached = given_bytes_ < store_.options_.cached_read_bytes;
    options.at_start = false;
    base::ReaderLock gate(store_.gate_);
    const bool changed = store_.revision_.load(std::memory_order_acquire) != view_.read_revision;
    if (changed || !store_.latest_.AllWritten()) return false;
    view_.records = store_.engine_->NewIterator(options);
  }
  latest_ = std::move(view_.records);
  latest_->Seek(latest_from_);
  return true;
}

void RangeReader::Rest() {
  view_.records.reset();
  if (latest_ == nullptr) return;
  if (mode_ == Mode::kLatest) latest_from_ = latest_->key();
  latest_.reset();
}

uint64_t RangeReader::BytesOf(std::string_view key, const KeyVersion& version) const {
  if (args_.keys_only) return base::BytesFieldSize(KeyValueSize(KeyOnly(key, version)));
  if (version.record_bytes < KeyVersion::kLongRecord) return base::BytesFieldSize(version.record_bytes);
  uint64_t bytes = 0;
  store_.Fetch(view_, version, [&bytes](std::string_view r) { bytes = base::BytesFieldSize(r.size()); });
  return bytes;
}

uint64_t RangeReader::BytesOf(const Ref& ref) const {
  if (ref.record.empty() || !args_.keys_only) return BytesOf(ref.key, ref.version);
  return base::BytesFieldSize(KeyValueSize(WithoutValue(ref.record)));
}

uint64_t RangeReader::total_bytes() const {
  if (bytes_ >= 0 && bytes_ < KeyVersion::kLongRecord) return static_cast<uint64_t>(bytes_);
  uint64_t bytes = 0;
  if (mode_ == Mode::kCollected) {
    for (const Ref& ref : refs_) bytes += BytesOf(ref);
    return bytes;
  }
  int64_t left = total_;
  if (left == 0) return 0;
  store_.ForEachLive(view_, interval_, [&](std::string_view key, const KeyVersion& version) {
    bytes += BytesOf(key, version);
    return --left > 0;
  });
  KVD_CHECK(left == 0, "the index has fewer keys than it counted");
  return bytes;
}

size_t RangeReader::Next(size_t max_keys, size_t max_bytes, std::string* out) {
  if (max_keys == 0) max_keys = std::numeric_limits<size_t>::max();
  if (max_bytes == 0) max_bytes = std::numeric_limits<size_t>::max();
  max_bytes = std::min(max_bytes, std::numeric_limits<size_t>::max() - out->size());
  if (done()) return 0;
  const size_t before = out->size();
  const size_t keys =
      mode_ == Mode::kLatest ? NextLatest(max_keys, max_bytes, out) : NextRefs(max_keys, max_bytes, out);
  given_bytes_ += out->size() - before;
  if (done()) {
    latest_.reset();
  } else if (given_bytes_ - opened_at_ >= store_.options_.iterator_bytes) {
    Rest();
  }
  return keys;
}

size_t RangeReader::NextLatest(size_t max_keys, size_t max_bytes, std::string* out) {
  if (latest_ == nullptr && !OpenLatest()) {
    mode_ = Mode::kIndex;
    resume_ = latest_from_.substr(1);  // without the table
    return NextRefs(max_keys, max_bytes, out);
  }
  size_t given = 0, stop = out->size() + max_bytes;
  while (left_ > 0 && given < max_keys && out->size() < stop) {
    KVD_CHECK(latest_->Valid(), "the index counts more keys than the engine has");
    EmitStored(latest_->value(), out);
    latest_->Next();
    ++given;
    --left_;
  }
  return given;
}

// Makes refs_[next_ref_] the next key of the index. False at the end.
bool RangeReader::NextIndexRef() {
  if (next_ref_ < refs_.size()) return true;
  refs_.clear();
  next_ref_ = 0;
  size_t wanted = static_cast<size_t>(std::min<int64_t>(left_, kWalkSlice));
  while (refs_.empty() && !index_exhausted_) {
    std::string next;
    base::ReaderLock lock(store_.index_mu_);
    index_exhausted_ = store_.index_.Walk(
        interval_, resume_, view_.read_revision, wanted,
        [&](std::string_view key, const KeyVersion& version) {
          refs_.push_back({std::string(key), version, {}});
          return true;
        },
        &next);
    resume_ = std::move(next);
  }
  return !refs_.empty();
}

size_t RangeReader::NextRefs(size_t max_keys, size_t max_bytes, std::string* out) {
  size_t given = 0, stop = out->size() + max_bytes;
  while (left_ > 0 && given < max_keys && out->size() < stop) {
    bool have = mode_ == Mode::kCollected ? next_ref_ < refs_.size() : NextIndexRef();
    KVD_CHECK(have, "the index has fewer keys than it counted");
    Emit(refs_[next_ref_++], out);
    ++given;
    --left_;
  }
  return given;
}

// The view's pin keeps what it refers to.
void RangeReader::EmitStored(std::string_view stored, std::string* out) {
  UseRecord(*store_.engine_, stored, nullptr,
            [out](std::string_view record) { base::AppendBytesField(*out, kKvsField, record); });
}

void RangeReader::Emit(const Ref& ref, std::string* out) {
  if (args_.keys_only) {
    AppendKv(ref.record.empty() ? KeyOnly(ref.key, ref.version) : WithoutValue(ref.record), out);
  } else if (!ref.record.empty()) {
    base::AppendBytesField(*out, kKvsField, ref.record);
  } else {
    EmitRecord(ref, out);
  }
}

// A walk by key of the past finds most records where they are latest still, in order; the others it fetches.
void RangeReader::EmitRecord(const Ref& ref, std::string* out) {
  constexpr int kSteps = 8;
  if (mode_ == Mode::kIndex && !interval_.is_single() && view_.pending == nullptr) {
    std::string wanted = TableKey(Table::kLatest, ref.key);
    if (!latest_) {
      OpenLatest();
      if (latest_->Valid() && latest_->key() < wanted) latest_->Seek(wanted);
    }
    for (int i = 0; i < kSteps && latest_->Valid() && latest_->key() < wanted; ++i) latest_->Next();
    if (latest_->Valid() && latest_->key() < wanted) latest_->Seek(wanted);
    if (latest_->Valid() && latest_->key() == wanted) {
      StoredRecord stored;
      DecodeStored(latest_->value(), &stored);
      if (!stored.large && stored.kv.mod_revision == ref.version.mod_main) {
        base::AppendBytesField(*out, kKvsField, latest_->value());
        return;
      }
    }
  }
  store_.Fetch(view_, ref.version,
               [out](std::string_view record) { base::AppendBytesField(*out, kKvsField, record); });
}

void RangeReader::AppendRest(std::string* out) {
  while (!done()) Next(0, 0, out);
  base::AppendInt64Field(*out, 3, more_ ? 1 : 0);
  base::AppendInt64Field(*out, 4, count_);
}

std::unique_ptr<RangeCursor> Store::OpenRange(const RangeArgs& args, StoreError* error) const {
  std::shared_ptr<StoreImpl> impl = Impl();
  base::KeyInterval interval = base::KeyInterval::FromRequest(args.key, args.range_end);
  const bool records = ReadsRecords(interval, args);
  const bool all_of_them = records && args.limit <= 0 && !IsCollected(args);
  StoreImpl::Extent extent;
  std::optional<View> view = impl->OpenView(args.revision, records, error, &interval, all_of_them, &extent);
  if (!view) return nullptr;
  return std::make_unique<RangeReader>(*impl, *std::move(view), args, extent, impl);
}

RangeCost Store::EstimateRange(const RangeArgs& args) const {
  if (args.range_end.empty()) return {.keys_before = 1, .keys_given = 1};
  const base::KeyInterval interval = base::KeyInterval::FromRequest(args.key, args.range_end);
  std::shared_ptr<StoreImpl> impl = Impl();
  // Of the past they are counted one by one.
  const bool past = args.revision > 0 && args.revision < impl->revision_.load(std::memory_order_acquire);
  base::ReaderLock lock(impl->index_mu_);
  const int64_t live = impl->index_.CountLive(interval);
  RangeCost cost;
  if (past || (!args.count_only && IsCollected(args))) cost.keys_before = live;
  if (!args.count_only) cost.keys_given = args.limit > 0 ? std::min(args.limit, live) : live;
  return cost;
}

namespace {

// One key, the latest, as it is stored: mostly one look-up in memory, else one in the engine, and none in the
// index. False: ask otherwise.
bool GetLatest(const StoreImpl& store, const RangeArgs& args, OpResult* result) {
  if (!args.range_end.empty() || args.revision > 0 || args.keys_only || args.count_only || HasFilters(args)) {
    return false;
  }
  int64_t revision = store.revision_.load(std::memory_order_acquire);
  LatestRecords::Found found = store.latest_.Find(args.key);
  if (found.answer == LatestRecords::Answer::kDeleted) return false;
  if (found.answer == LatestRecords::Answer::kLives) {
    if (found.mod_revision > revision) return false;  // of a batch that is being published
    base::AppendBytesField(result->body, kKvsField, found.record.view());
  } else {
    bool current = false;
    store.engine_->Get(TableKey(Table::kLatest, args.key), [&](std::string_view stored) {
      StoredRecord latest;
      KVD_CHECK(DecodeStored(stored, &latest), "a stored record does not decode");
      if (latest.kv.mod_revision > revision) return;
      // Nothing is pinned: a large record that has been overwritten may be gone.
      current = TryUseRecord(*store.engine_, stored, nullptr, [&](std::string_view record) {
        base::AppendBytesField(result->body, kKvsField, record);
        store.latest_.Remember(found, record);
      });
    });
    if (!current) return false;
  }
  base::AppendInt64Field(result->body, 4, 1);
  result->revision = revision;
  result->count = 1;
  return true;
}

}  // namespace

void Store::Range(const RangeArgs& args, OpResult* result) const {
  std::shared_ptr<StoreImpl> impl = Impl();
  if (GetLatest(*impl, args, result)) return;
  base::KeyInterval interval = base::KeyInterval::FromRequest(args.key, args.range_end);
  StoreImpl::Extent extent;
  std::optional<View> view = impl->OpenView(args.revision, ReadsRecords(interval, args), &result->error,
                                            &interval, /*with_bytes=*/false, &extent);
  if (!view) {
    result->revision = impl->revision_.load(std::memory_order_acquire);
    return;
  }
  RangeReader reader(*impl, *std::move(view), args, extent);
  reader.AppendRest(&result->body);
  result->revision = reader.header_revision();
  result->count = reader.count();
  result->more = reader.more();
}

bool Store::GetAt(std::string_view key, int64_t revision, std::string* record) const {
  std::shared_ptr<StoreImpl> impl = Impl();
  StoreError error;
  std::optional<View> view = impl->OpenView(revision, false, &error);
  if (!view) return false;
  std::optional<KeyVersion> version = impl->FindLive(*view, key);
  if (!version) return false;
  impl->Fetch(*view, *version, [record](std::string_view bytes) { record->append(bytes); });
  return true;
}

}  // namespace kvd::storage
