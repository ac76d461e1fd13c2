// One stream of operations from a seed, on the model and on a store; with flushes, sweeps, long reads, clean
// restarts and crashes (after which the log is replayed, as the member does) in between. Every answer must be
// equal.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "base/random.h"
#include "base/sim_executor.h"
#include "model_store.h"
#include "storage/store.h"
#include "storage_test_util.h"

namespace kvd::storage {
namespace {

namespace pb = etcdserverpb;

// Makes requests over a small space of keys.
class Requests {
 public:
  explicit Requests(base::Random random) : random_(random) {}

  std::string Key() {
    std::string key(1, static_cast<char>('a' + random_.Below(3)));
    key += static_cast<char>('0' + random_.Below(10));
    if (random_.Chance(0.1)) key.push_back('\0');
    return key;
  }
  void Interval(std::string* key, std::string* end) {
    *key = Key();
    end->clear();
    switch (random_.Below(6)) {
      case 0:
        *end = Key();
        break;
      case 1:
        *end = base::PrefixRangeEnd(*key = key->substr(0, 1));
        break;
      case 2:
        *end = std::string(1, '\0');
        break;
      case 3:
        *key = *end = std::string(1, '\0');
        break;
      default:
        break;
    }
  }
  std::string Value() { return std::string(random_.Below(random_.Chance(0.1) ? 600 : 12), 'v') + Key(); }
  int64_t Near(int64_t revision) {
    return static_cast<int64_t>(random_.Below(static_cast<uint64_t>(revision) + 3));
  }

  pb::PutRequest Put() {
    pb::PutRequest r;
    r.set_key(Key());
    r.set_prev_kv(random_.Chance(0.3));
    r.set_ignore_value(random_.Chance(0.1));
    r.set_ignore_lease(random_.Chance(0.1));
    if (!r.ignore_value() && !random_.Chance(0.1)) r.set_value(Value());
    if (!r.ignore_lease() && random_.Chance(0.2)) {
      r.set_lease(static_cast<int64_t>(random_.Below(ModelStore::kLeases + 2)));
    }
    return r;
  }
  pb::DeleteRangeRequest Delete() {
    pb::DeleteRangeRequest r;
    Interval(r.mutable_key(), r.mutable_range_end());
    if (!r.range_end().empty() && random_.Chance(0.8)) r.clear_range_end();
    r.set_prev_kv(random_.Chance(0.3));
    return r;
  }
  pb::RangeRequest Range(int64_t revision) {
    pb::RangeRequest r;
    Interval(r.mutable_key(), r.mutable_range_end());
    if (random_.Chance(0.4)) r.set_revision(Near(revision));
    if (random_.Chance(0.3)) r.set_limit(static_cast<int64_t>(random_.Below(8)));
    if (random_.Chance(0.3)) r.set_sort_order(static_cast<pb::RangeRequest::SortOrder>(random_.Below(3)));
    if (random_.Chance(0.3)) r.set_sort_target(static_cast<pb::RangeRequest::SortTarget>(random_.Below(5)));
    r.set_keys_only(random_.Chance(0.2));
    r.set_count_only(random_.Chance(0.1));
    if (random_.Chance(0.05)) r.set_min_mod_revision(Near(revision));
    if (random_.Chance(0.05)) r.set_max_mod_revision(Near(revision));
    if (random_.Chance(0.05)) r.set_min_create_revision(Near(revision));
    if (random_.Chance(0.05)) r.set_max_create_revision(Near(revision));
    return r;
  }
  // As the API lets pass: no key is put twice, or put and deleted.
  pb::TxnRequest Txn(int64_t revision, bool read_only) {
    put_.clear();
    deleted_.clear();
    pb::TxnRequest r;
    Fill(&r, revision, read_only, 0);
    return r;
  }

 private:
  void Fill(pb::TxnRequest* r, int64_t revision, bool read_only, int depth) {
    while (random_.Chance(0.5)) {
      pb::Compare* c = r->add_compare();
      Interval(c->mutable_key(), c->mutable_range_end());
      if (random_.Chance(0.7)) c->clear_range_end();
      c->set_target(static_cast<pb::Compare::CompareTarget>(random_.Below(5)));
      c->set_result(static_cast<pb::Compare::CompareResult>(random_.Below(4)));
      switch (c->target()) {
        case pb::Compare::VERSION:
          c->set_version(static_cast<int64_t>(random_.Below(4)));
          break;
        case pb::Compare::CREATE:
          c->set_create_revision(random_.Chance(0.5) ? 0 : Near(revision));
          break;
        case pb::Compare::MOD:
          c->set_mod_revision(Near(revision));
          break;
        case pb::Compare::LEASE:
          c->set_lease(static_cast<int64_t>(random_.Below(3)));
          break;
        default:
          c->set_value(Value());
          break;
      }
    }
    for (bool success : {true, false}) {
      while (random_.Chance(0.65))
        AddOp(success ? r->add_success() : r->add_failure(), revision, read_only, depth);
    }
  }
  void AddOp(pb::RequestOp* op, int64_t revision, bool read_only, int depth) {
    uint64_t kind = random_.Below(4);
    if (kind == 3 && depth < 2) {
      Fill(op->mutable_request_txn(), revision, read_only, depth + 1);
      return;
    }
    if (kind == 1 && !read_only) {
      pb::PutRequest put = Put();
      if (!put_.contains(put.key()) && !Deletes(put.key())) {
        put_.insert(put.key());
        *op->mutable_request_put() = put;
        return;
      }
    }
    if (kind == 2 && !read_only) {
      pb::DeleteRangeRequest del = Delete();
      auto interval = base::KeyInterval::FromRequest(del.key(), del.range_end());
      if (std::none_of(put_.begin(), put_.end(), [&](const auto& key) { return interval.Contains(key); })) {
        deleted_.push_back(del);
        *op->mutable_request_delete_range() = del;
        return;
      }
    }
    *op->mutable_request_range() = Range(revision);
    if (random_.Chance(0.8)) op->mutable_request_range()->clear_revision();
  }
  bool Deletes(const std::string& key) const {
    return std::any_of(deleted_.begin(), deleted_.end(), [&key](const auto& d) {
      return base::KeyInterval::FromRequest(d.key(), d.range_end()).Contains(key);
    });
  }

  base::Random random_;
  std::set<std::string> put_;
  std::vector<pb::DeleteRangeRequest> deleted_;
};

RangeArgs ToArgs(const pb::RangeRequest& r) {
  return {.key = r.key(),
          .range_end = r.range_end(),
          .limit = r.limit(),
          .revision = r.revision(),
          .sort_order = static_cast<SortOrder>(r.sort_order()),
          .sort_target = static_cast<SortTarget>(r.sort_target()),
          .keys_only = r.keys_only(),
          .count_only = r.count_only(),
          .min_mod_revision = r.min_mod_revision(),
          .max_mod_revision = r.max_mod_revision(),
          .min_create_revision = r.min_create_revision(),
          .max_create_revision = r.max_create_revision()};
}

class Attachments final : public LeaseBinder {
 public:
  bool Exists(int64_t lease) override { return lease <= ModelStore::kLeases; }
  void Attach(int64_t lease, std::string_view key) override { of[std::string(key)] = lease; }
  void Detach(std::string_view key) override { EXPECT_EQ(of.erase(std::string(key)), 1u); }
  std::map<std::string, int64_t> of;
};

// Holds every event to the model's records.
class EventChecker final : public StoreObserver {
 public:
  void OnCommit(int64_t first, int64_t last, absl::Span<const Event> events) override {
    EXPECT_LE(first, last);
    seen.insert(seen.end(), events.begin(), events.end());
  }
  void OnReplaced(int64_t) override { FAIL(); }
  std::vector<Event> seen;
};

void ExpectEvent(const Event& e, const ModelStore::Record& r) {
  EXPECT_EQ(e.revision, r.revision);
  EXPECT_EQ(e.key, r.key);
  EXPECT_EQ(e.type == Event::Type::kDelete, r.tombstone);
  mvccpb::KeyValue kv;
  kv.ParseFromString(r.bytes);
  kv.set_mod_revision(r.revision.main);
  EXPECT_EQ(e.kv.view(), kv.SerializeAsString());
}

class Metamorphic : public ::testing::TestWithParam<std::tuple<EngineKind, uint64_t>> {
 protected:
  using Operation = std::function<void(ApplyBatch&, bool check)>;

  void Open() {
    // From everything at once to nothing ever, and from no cache to one that holds all.
    const uint64_t seed = std::get<1>(GetParam());
    LatestRecords::Options latest;
    latest.due_changes = seed % 5 == 0 ? 1'000'000 : 1 + seed % 70;
    latest.capacity_bytes = (seed % 3) * 30'000;
    auto opened = Store::Open(home_.Open(), *background_,
                              {.sweep_batch_revisions = 20,
                               .cached_read_bytes = 100,
                               .iterator_bytes = seed % 2 == 0 ? 40u : 4000u,
                               .large_value_bytes = seed % 4 == 0 ? kLargeValueBytes : seed % 16,
                               .latest = latest});
    ASSERT_TRUE(opened.ok()) << opened.status();
    store_ = *std::move(opened);
    attachments_.of.clear();
    store_->ForEachLeasedKey(
        [this](std::string_view key, int64_t lease) { attachments_.of[std::string(key)] = lease; });
    store_->SetLeaseBinder(&attachments_);
    store_->SetObserver(&events_);
  }
  void Commit(ApplyBatch& batch, uint64_t index) { batch.Commit({.index = index, .term = 1 + index / 50}); }

  // The answers of the model are taken when the operation is made; it can be run again by a replay.
  Operation MakeOperation() {
    switch (random_.Below(12)) {
      case 0: {
        pb::DeleteRangeRequest r = requests_.Delete();
        pb::DeleteRangeResponse want;
        model_.DeleteRange(r, &want);
        return [=, revision = model_.revision()](ApplyBatch& batch, bool check) {
          OpResult got =
              batch.DeleteRange({.key = r.key(), .range_end = r.range_end(), .prev_kv = r.prev_kv()});
          EXPECT_EQ(got.revision, revision);
          if (check) {
            EXPECT_EQ(got.body, want.SerializeAsString()) << r.ShortDebugString();
          }
        };
      }
      case 1: {
        int64_t at = requests_.Near(model_.revision());
        if (random_.Chance(0.6)) at = std::min(at, model_.compact_revision() + 30);
        StoreError want = model_.Compact(at);
        return [=](ApplyBatch& batch, bool) { EXPECT_EQ(batch.Compact(at).error, want); };
      }
      case 2: {
        std::vector<std::string> keys = {requests_.Key(), requests_.Key(), requests_.Key()};
        int64_t want = model_.DeleteKeys(keys);
        return [=](ApplyBatch& batch, bool) { EXPECT_EQ(batch.DeleteKeys(keys).count, want); };
      }
      case 3:
      case 4:
      case 5:
      case 6: {
        pb::TxnRequest r = requests_.Txn(model_.revision(), false);
        pb::TxnResponse want;
        StoreError error = model_.Txn(r, &want);
        return [=, revision = model_.revision()](ApplyBatch& batch, bool check) {
          OpResult got = batch.Txn(r, check ? ApplyBatch::Answer::kFull : ApplyBatch::Answer::kNone);
          EXPECT_EQ(got.error, error) << r.ShortDebugString();
          EXPECT_EQ(got.revision, revision);
          if (check) {
            EXPECT_EQ(got.body, want.SerializeAsString()) << r.ShortDebugString() << want.ShortDebugString();
          }
        };
      }
      case 7: {
        pb::RangeRequest r = requests_.Range(model_.revision());
        pb::RangeResponse want;
        StoreError error = model_.Range(r, &want);
        return [=](ApplyBatch& batch, bool check) {
          if (!check) return;
          OpResult got = batch.Range(ToArgs(r));
          EXPECT_EQ(got.error, error) << r.ShortDebugString();
          EXPECT_EQ(got.body, want.SerializeAsString()) << r.ShortDebugString() << want.ShortDebugString();
        };
      }
      default: {
        pb::PutRequest r = requests_.Put();
        pb::PutResponse want;
        StoreError error = model_.Put(r, &want);
        return [=, revision = model_.revision()](ApplyBatch& batch, bool check) {
          OpResult got = batch.Put({.key = r.key(),
                                    .value = r.value(),
                                    .lease = r.lease(),
                                    .prev_kv = r.prev_kv(),
                                    .ignore_value = r.ignore_value(),
                                    .ignore_lease = r.ignore_lease()});
          EXPECT_EQ(got.error, error) << r.ShortDebugString();
          EXPECT_EQ(got.revision, revision);
          if (check) {
            EXPECT_EQ(got.body, want.SerializeAsString()) << r.ShortDebugString();
          }
        };
      }
    }
  }

  void WriteABatch() {
    std::vector<Operation> operations;
    ApplyBatch batch = store_->BeginApply();
    size_t records_before = model_.records().size();
    for (uint64_t n = 1 + random_.Below(random_.Chance(0.5) ? 3 : 20); n > 0; --n) {
      operations.push_back(MakeOperation());
      operations.back()(batch, /*check=*/true);
    }
    log_.push_back(operations);
    events_.seen.clear();
    Commit(batch, log_.size());
    ASSERT_EQ(events_.seen.size(), model_.records().size() - records_before);
    for (size_t i = 0; i < events_.seen.size(); ++i) {
      ExpectEvent(events_.seen[i], model_.records()[records_before + i]);
    }
    std::map<std::string, int64_t> leased;
    for (const auto& [key, kv] : model_.at(model_.revision())) {
      if (kv.lease() != 0) leased[key] = kv.lease();
    }
    ASSERT_EQ(attachments_.of, leased);
  }

  void Read() {
    pb::RangeRequest r = requests_.Range(model_.revision());
    pb::RangeResponse want;
    StoreError error = model_.Range(r, &want);
    OpResult got;
    store_->Range(ToArgs(r), &got);
    ASSERT_EQ(got.error, error) << r.ShortDebugString();
    ASSERT_EQ(got.revision, model_.revision());
    ASSERT_EQ(got.body, want.SerializeAsString()) << r.ShortDebugString() << want.ShortDebugString();

    pb::TxnRequest txn = requests_.Txn(model_.revision(), true);
    pb::TxnResponse txn_want;
    error = model_.Txn(txn, &txn_want);
    OpResult txn_got;
    store_->ReadTxn(txn, &txn_got);
    ASSERT_EQ(txn_got.error, error) << txn.ShortDebugString();
    ASSERT_EQ(txn_got.body, txn_want.SerializeAsString()) << txn.ShortDebugString();
  }

  void ReadHashes() {
    for (int64_t at : {int64_t{0}, requests_.Near(model_.revision()), model_.compact_revision()}) {
      if (at < 0) continue;
      uint32_t want = 0;
      StoreError error = model_.HashKv(at, &want);
      HashResult got = store_->HashKv(at);
      ASSERT_EQ(got.error, error);
      if (error == StoreError::kNone) {
        ASSERT_EQ(got.hash, want) << "at " << at;
      }
      ASSERT_EQ(got.current_revision, model_.revision());
    }
  }

  void ReadEvents() {
    std::string key, end;
    requests_.Interval(&key, &end);
    auto interval = base::KeyInterval::FromRequest(key, end);
    EventQuery query;
    query.from_revision = requests_.Near(model_.revision());
    query.max_events = 1 + random_.Below(20);
    query.max_scanned = 1 + random_.Below(100);
    std::vector<Event> got;
    int64_t from = query.from_revision;
    while (query.from_revision <= model_.revision()) {
      EventHistory history = store_->Events(interval, query);
      if (from < model_.compact_revision()) {
        ASSERT_EQ(history.error, StoreError::kCompacted);
        return;
      }
      ASSERT_EQ(history.error, StoreError::kNone);
      got.insert(got.end(), history.events.begin(), history.events.end());
      ASSERT_GT(history.next_revision, query.from_revision);
      query.from_revision = history.next_revision;
    }
    size_t next = 0;
    for (const auto& record : model_.records()) {
      if (record.revision.main < from || !interval.Contains(record.key)) continue;
      // Of the compacted revision itself a change that a later one of the same transaction undid may be gone.
      if (next < got.size() && got[next].revision != record.revision &&
          record.revision.main == model_.compact_revision()) {
        continue;
      }
      ASSERT_LT(next, got.size());
      ExpectEvent(got[next++], record);
    }
    ASSERT_EQ(next, got.size());
  }

  // Long reads stay open over several steps and end on what they began with.
  void StepCursors() {
    if (cursors_.size() < 3 && random_.Chance(0.2)) {
      pb::RangeRequest r = requests_.Range(model_.revision());
      pb::RangeResponse want;
      StoreError error = model_.Range(r, &want), got_error;
      auto cursor = store_->OpenRange(ToArgs(r), &got_error);
      ASSERT_EQ(got_error, error);
      if (cursor) {
        ASSERT_EQ(cursor->count(), want.count());
        ASSERT_EQ(cursor->more(), want.more());
        want.clear_count();
        want.clear_more();
        ASSERT_EQ(cursor->total_bytes(), want.ByteSizeLong()) << r.ShortDebugString();
        cursors_.push_back({std::move(cursor), "", want.SerializeAsString(), r.ShortDebugString()});
      }
    }
    for (auto& c : cursors_) {
      if (!c.cursor->done() && random_.Chance(0.5)) {
        ASSERT_GE(c.cursor->Next(random_.Below(4), random_.Below(50), &c.got), 1u);
      }
      if (random_.Chance(0.1)) {
        ASSERT_EQ(c.cursor->total_bytes(), c.want.size()) << c.request;
      }
      if (random_.Chance(0.1)) c.cursor->Rest();
      if (c.cursor->done()) {
        ASSERT_EQ(c.got, c.want) << c.request;
      }
    }
    std::erase_if(cursors_, [](const auto& c) { return c.cursor->done(); });
  }

  void Restart(bool crash) {
    cursors_.clear();
    if (crash) home_.RememberAsCrashed();
    if (!crash) store_->Flush();
    uint64_t persisted = store_->PersistedApplied().index;
    store_.reset();
    Open();
    ASSERT_EQ(store_->applied().index, persisted);
    for (uint64_t index = persisted + 1; index <= log_.size(); ++index) {
      ApplyBatch batch = store_->BeginApply();
      for (const Operation& operation : log_[index - 1]) operation(batch, /*check=*/false);
      Commit(batch, index);
    }
    ASSERT_EQ(store_->current_revision(), model_.revision());
    ASSERT_EQ(store_->compact_revision(), model_.compact_revision());
  }

  struct OpenCursor {
    std::unique_ptr<RangeCursor> cursor;
    std::string got;
    std::string want;
    std::string request;
  };

  base::Random random_{std::get<1>(GetParam())};
  Requests requests_{random_.Split("requests")};
  base::SimScheduler world_{std::get<1>(GetParam())};
  std::unique_ptr<base::Executor> background_ = world_.NewExecutor("background");
  EngineHome home_{std::get<0>(GetParam())};
  ModelStore model_;
  Attachments attachments_;
  EventChecker events_;
  std::unique_ptr<Store> store_;
  std::vector<OpenCursor> cursors_;
  std::vector<std::vector<Operation>> log_;  // by index - 1
};

TEST_P(Metamorphic, EveryAnswer_IsTheModels) {
  ASSERT_NO_FATAL_FAILURE(Open());
  for (int step = 0; step < 250 && !HasFailure(); ++step) {
    ASSERT_NO_FATAL_FAILURE(WriteABatch()) << "step " << step;
    for (int i = 0; i < 4; ++i) ASSERT_NO_FATAL_FAILURE(Read()) << "step " << step;
    ASSERT_NO_FATAL_FAILURE(StepCursors()) << "step " << step;
    if (random_.Chance(0.1)) {
      ASSERT_NO_FATAL_FAILURE(ReadHashes()) << "step " << step;
    }
    if (random_.Chance(0.2)) {
      ASSERT_NO_FATAL_FAILURE(ReadEvents()) << "step " << step;
    }
    if (random_.Chance(0.4)) world_.RunOne();
    if (random_.Chance(0.05)) world_.RunFor(std::chrono::seconds(5));
    if (random_.Chance(0.1)) store_->Flush();
    if (random_.Chance(0.02)) store_->HintCompaction(*background_);
    if (random_.Chance(0.04)) {
      ASSERT_NO_FATAL_FAILURE(Restart(random_.Chance(0.7))) << "step " << step;
    }
  }
  cursors_.clear();
  world_.RunFor(std::chrono::seconds(60));
  ASSERT_NO_FATAL_FAILURE(ReadHashes());
  // Everything that compaction lets go is gone.
  std::map<std::string, Revision> newest;
  for (const auto& r : model_.records()) {
    if (r.revision.main <= model_.compact_revision()) newest[r.key] = r.revision;
  }
  size_t want = 0, got = 0;
  for (const auto& r : model_.records()) {
    bool kept =
        r.revision.main > model_.compact_revision() ||
        (newest[r.key] == r.revision && (!r.tombstone || r.revision.main == model_.compact_revision()));
    want += kept;
  }
  for (auto it = store_->engine().NewIterator({.lower = "R", .upper = "S"}); it->Valid(); it->Next()) ++got;
  EXPECT_EQ(got, want);
  store_.reset();
}

std::string NameOf(const ::testing::TestParamInfo<std::tuple<EngineKind, uint64_t>>& param) {
  EngineKind kind = std::get<0>(param.param);
  return (kind == EngineKind::kModel   ? "Model"
          : kind == EngineKind::kRocks ? "Rocks"
                                       : "RocksTiny") +
         std::to_string(std::get<1>(param.param));
}

INSTANTIATE_TEST_SUITE_P(Model, Metamorphic,
                         ::testing::Combine(::testing::Values(EngineKind::kModel),
                                            ::testing::Range<uint64_t>(1, 9)),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(Rocks, Metamorphic,
                         ::testing::Combine(::testing::Values(EngineKind::kRocks, EngineKind::kRocksTiny),
                                            ::testing::Range<uint64_t>(1, 4)),
                         NameOf);

}  // namespace
}  // namespace kvd::storage
