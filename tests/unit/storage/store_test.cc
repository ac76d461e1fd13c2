#include "storage/store.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/random.h"
#include "base/sim_executor.h"
#include "etcdserverpb/rpc.pb.h"
#include "storage_test_util.h"

namespace kvd::storage {
namespace {

namespace pb = etcdserverpb;

std::string Show(const mvccpb::KeyValue& kv) {
  std::string out = kv.key() + "=" + kv.value() + "@" + std::to_string(kv.create_revision()) + "/" +
                    std::to_string(kv.mod_revision()) + "/" + std::to_string(kv.version());
  return kv.lease() ? out + "L" + std::to_string(kv.lease()) : out;
}

std::string Show(const Event& e) {
  mvccpb::KeyValue kv;
  EXPECT_TRUE(kv.ParseFromString(std::string(e.kv.view())));
  EXPECT_EQ(kv.key(), e.key);
  EXPECT_EQ(kv.mod_revision(), e.revision.main);
  return (e.type == Event::Type::kPut ? "+" : "-") + Show(kv) + "." + std::to_string(e.revision.sub);
}

class Recorder final : public StoreObserver {
 public:
  void OnCommit(int64_t first, int64_t last, absl::Span<const Event> events) override {
    log += "[" + std::to_string(first) + ".." + std::to_string(last) + "]";
    for (const Event& e : events) log += " " + Show(e) + (e.has_previous ? "p" : "");
    log += "\n";
  }
  void OnReplaced(int64_t revision) override { log += "replaced " + std::to_string(revision) + "\n"; }
  std::string log;
};

class Leases final : public LeaseBinder {
 public:
  bool Exists(int64_t lease) override { return lease < 100; }
  void Attach(int64_t lease, std::string_view key) override {
    log += "+" + std::string(key) + std::to_string(lease);
  }
  void Detach(std::string_view key) override { log += "-" + std::string(key); }
  std::string log;
};

// The parameter: from which size on values are large. What is large shows nowhere.
class StoreTest : public ::testing::TestWithParam<size_t> {
 protected:
  void SetUp() override { Open(); }
  void TearDown() override { store_.reset(); }

  void Open() {
    auto store = Store::Open(home_.Open(), *background_, {.large_value_bytes = GetParam()});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    store_->SetObserver(&recorder_);
    store_->SetLeaseBinder(&leases_);
  }
  void Settle() { world_.RunFor(std::chrono::seconds(10)); }
  void Commit(ApplyBatch& batch) { batch.Commit({.index = ++index_, .term = 2}); }
  OpResult Put(std::string_view key, std::string_view value, int64_t lease = 0) {
    ApplyBatch batch = store_->BeginApply();
    OpResult result = batch.Put({.key = key, .value = value, .lease = lease});
    Commit(batch);
    return result;
  }
  OpResult Delete(std::string_view key, std::string_view end = {}) {
    ApplyBatch batch = store_->BeginApply();
    OpResult result = batch.DeleteRange({.key = key, .range_end = end});
    Commit(batch);
    return result;
  }
  OpResult Txn(const pb::TxnRequest& request, std::string* shown = nullptr) {
    ApplyBatch batch = store_->BeginApply();
    OpResult result = batch.Txn(request);
    Commit(batch);
    pb::TxnResponse response;
    EXPECT_TRUE(response.ParseFromString(result.body));
    if (shown) *shown = response.ShortDebugString();
    return result;
  }
  StoreError Compact(int64_t revision) {
    ApplyBatch batch = store_->BeginApply();
    OpResult result = batch.Compact(revision);
    Commit(batch);
    return result.error;
  }
  std::string Range(const RangeArgs& args) {
    OpResult result;
    store_->Range(args, &result);
    if (!result.ok()) return ToString(result.error);
    pb::RangeResponse response;
    EXPECT_TRUE(response.ParseFromString(result.body));
    EXPECT_EQ(response.count(), result.count);
    EXPECT_EQ(response.more(), result.more);
    std::string out;
    for (const auto& kv : response.kvs()) out += Show(kv) + " ";
    return out + "#" + std::to_string(response.count()) + (response.more() ? "+" : "");
  }
  uint32_t Hash(int64_t revision) {
    HashResult result = store_->HashKv(revision);
    EXPECT_EQ(result.error, StoreError::kNone);
    return result.hash;
  }

  base::SimScheduler world_{1};
  std::unique_ptr<base::Executor> background_ = world_.NewExecutor("background");
  EngineHome home_{EngineKind::kModel};
  Recorder recorder_;
  Leases leases_;
  std::unique_ptr<Store> store_;
  uint64_t index_ = 0;
};

TEST_P(StoreTest, NewStore_IsAtRevisionOne_NeverCompacted) {
  EXPECT_EQ(store_->current_revision(), 1);
  EXPECT_EQ(store_->compact_revision(), -1);
  EXPECT_EQ(store_->applied().index, 0u);
  EXPECT_EQ(Range({.key = "a"}), "#0");
  EXPECT_EQ(Compact(0), StoreError::kNone);
  EXPECT_EQ(Compact(0), StoreError::kCompacted);
  EXPECT_EQ(Compact(2), StoreError::kFutureRevision);
}

TEST_P(StoreTest, PutAndDelete_CountRevisionsAndVersionsAsEtcd) {
  EXPECT_EQ(Put("a", "1").revision, 2);
  EXPECT_EQ(Put("a", "2").revision, 3);
  EXPECT_EQ(Delete("x").revision, 3);
  OpResult deleted = Delete("a");
  EXPECT_EQ(deleted.revision, 4);
  EXPECT_EQ(deleted.count, 1);
  EXPECT_EQ(Put("a", "3").revision, 5);
  EXPECT_EQ(Range({.key = "a"}), "a=3@5/5/1 #1");
  EXPECT_EQ(Range({.key = "a", .revision = 4}), "#0");
  EXPECT_EQ(Range({.key = "a", .revision = 3}), "a=2@2/3/2 #1");
  EXPECT_EQ(Range({.key = "a", .revision = 6}), "future revision");
  EXPECT_EQ(recorder_.log,
            "[2..2] +a=1@2/2/1.0\n[3..3] +a=2@2/3/2.0p\n[4..4] -a=@0/4/0.0p\n[5..5] +a=3@5/5/1.0\n");
}

TEST_P(StoreTest, Batch_IsSeenByItsOwnOperations_ByReadersOnlyOnceCommitted) {
  Put("a", "1");
  ApplyBatch batch = store_->BeginApply();
  EXPECT_EQ(batch.Put({.key = "b", .value = "1"}).revision, 3);
  EXPECT_EQ(batch.Put({.key = "b", .value = "2"}).revision, 4);
  EXPECT_EQ(batch.DeleteRange({.key = "a"}).revision, 5);
  OpResult inside = batch.Range({.key = std::string_view("\0", 1), .range_end = std::string_view("\0", 1)});
  pb::RangeResponse response;
  ASSERT_TRUE(response.ParseFromString(inside.body));
  ASSERT_EQ(response.kvs_size(), 1);
  EXPECT_EQ(Show(response.kvs(0)), "b=2@3/4/2");
  EXPECT_EQ(inside.revision, 5);

  EXPECT_EQ(Range({.key = "a", .range_end = "z"}), "a=1@2/2/1 #1");
  EXPECT_EQ(Range({.key = "a", .range_end = "z", .count_only = true}), "#1");
  EXPECT_EQ(Range({.key = "a", .range_end = "z", .keys_only = true}), "a=@2/2/1 #1");
  EXPECT_EQ(Range({.key = "b"}), "#0");
  EXPECT_EQ(store_->current_revision(), 2);
  Commit(batch);
  EXPECT_EQ(Range({.key = "a", .range_end = "z"}), "b=2@3/4/2 #1");
  EXPECT_EQ(store_->current_revision(), 5);
  EXPECT_EQ(store_->applied().index, index_);
}

TEST_P(StoreTest, Put_IgnoreAndPrevKv) {
  ApplyBatch batch = store_->BeginApply();
  EXPECT_EQ(batch.Put({.key = "a", .value = "", .ignore_value = true}).error, StoreError::kKeyNotFound);
  EXPECT_EQ(batch.Put({.key = "a", .value = "1", .lease = 100}).error, StoreError::kLeaseNotFound);
  EXPECT_TRUE(batch.Put({.key = "a", .value = "1", .lease = 7}).ok());
  EXPECT_TRUE(batch.Put({.key = "a", .value = "2", .ignore_lease = true}).ok());
  OpResult result = batch.Put({.key = "a", .lease = 8, .prev_kv = true, .ignore_value = true});
  pb::PutResponse response;
  ASSERT_TRUE(response.ParseFromString(result.body));
  EXPECT_EQ(Show(response.prev_kv()), "a=2@2/3/2L7");
  EXPECT_TRUE(batch.Put({.key = "a", .value = "3"}).ok());
  Commit(batch);
  EXPECT_EQ(Range({.key = "a"}), "a=3@2/5/4 #1");
  EXPECT_EQ(Range({.key = "a", .revision = 4}), "a=2@2/4/3L8 #1");
  EXPECT_EQ(leases_.log, "+a7+a7+a8-a");
}

TEST_P(StoreTest, Range_SortsFiltersAndLimitsAsEtcd) {
  Put("a", "3");
  Put("b", "1");
  Put("c", "2");
  Put("a", "3");
  EXPECT_EQ(Range({.key = "a", .range_end = "c"}), "a=3@2/5/2 b=1@3/3/1 #2");
  EXPECT_EQ(Range({.key = "a", .range_end = "z", .limit = 2}), "a=3@2/5/2 b=1@3/3/1 #3+");
  EXPECT_EQ(Range({.key = "a", .range_end = "z", .limit = 3}), "a=3@2/5/2 b=1@3/3/1 c=2@4/4/1 #3");
  EXPECT_EQ(Range({.key = "z", .range_end = "a"}), "#0");
  EXPECT_EQ(Range({.key = "b", .range_end = std::string_view("\0", 1), .keys_only = true}),
            "b=@3/3/1 c=@4/4/1 #2");
  EXPECT_EQ(Range({.key = "a", .range_end = "z", .limit = 1, .sort_order = SortOrder::kDescend}),
            "c=2@4/4/1 #3+");
  EXPECT_EQ(Range({.key = "a",
                   .range_end = "z",
                   .sort_order = SortOrder::kAscend,
                   .sort_target = SortTarget::kValue}),
            "b=1@3/3/1 c=2@4/4/1 a=3@2/5/2 #3");
  EXPECT_EQ(Range({.key = "a",
                   .range_end = "z",
                   .limit = 1,
                   .sort_order = SortOrder::kAscend,
                   .sort_target = SortTarget::kMod}),
            "b=1@3/3/1 #3+");
  // Without an order, only the first limit + 1 keys are sorted.
  EXPECT_EQ(Range({.key = "a", .range_end = "z", .limit = 1, .sort_target = SortTarget::kVersion}),
            "b=1@3/3/1 #3+");
  EXPECT_EQ(Range({.key = "a",
                   .range_end = "z",
                   .sort_order = SortOrder::kDescend,
                   .sort_target = SortTarget::kCreate}),
            "c=2@4/4/1 b=1@3/3/1 a=3@2/5/2 #3");
  EXPECT_EQ(Range({.key = "a", .range_end = "z", .limit = 1, .min_mod_revision = 4}), "a=3@2/5/2 #3+");
  EXPECT_EQ(Range({.key = "a", .range_end = "z", .max_create_revision = 3}), "a=3@2/5/2 b=1@3/3/1 #3");
  EXPECT_EQ(Range({.key = "a", .range_end = "z", .revision = 3}), "a=3@2/2/1 b=1@3/3/1 #2");
}

TEST_P(StoreTest, KeysOnly_SortedByValue_KeepsTheLease) {
  Put("a", "2", 9);
  Put("b", "1");
  EXPECT_EQ(Range({.key = "a", .range_end = "z", .keys_only = true}), "a=@2/2/1 b=@3/3/1 #2");
  EXPECT_EQ(Range({.key = "a",
                   .range_end = "z",
                   .sort_order = SortOrder::kAscend,
                   .sort_target = SortTarget::kValue,
                   .keys_only = true}),
            "b=@3/3/1 a=@2/2/1L9 #2");
}

pb::Compare* AddCompare(pb::TxnRequest& t, const std::string& key, pb::Compare::CompareTarget target,
                        pb::Compare::CompareResult result) {
  pb::Compare* c = t.add_compare();
  c->set_key(key);
  c->set_target(target);
  c->set_result(result);
  return c;
}

TEST_P(StoreTest, Txn_ComparesOnThePreviousState_WritesOneRevision) {
  Put("a", "1");
  pb::TxnRequest t;
  AddCompare(t, "a", pb::Compare::VALUE, pb::Compare::EQUAL)->set_value("1");
  auto* put = t.add_success()->mutable_request_put();
  put->set_key("a");
  put->set_value("2");
  put->set_prev_kv(true);
  t.add_success()->mutable_request_range()->set_key("a");
  auto* nested = t.add_success()->mutable_request_txn();
  AddCompare(*nested, "a", pb::Compare::VALUE, pb::Compare::EQUAL)->set_value("1");  // not yet "2"
  nested->add_success()->mutable_request_put()->set_key("b");
  nested->add_failure()->mutable_request_put()->set_key("c");
  auto* del = t.add_success()->mutable_request_delete_range();
  del->set_key("nothing");
  std::string shown;
  OpResult result = Txn(t, &shown);
  EXPECT_TRUE(result.succeeded);
  EXPECT_EQ(result.revision, 3);
  EXPECT_EQ(Range({.key = "a", .range_end = "z"}), "a=2@2/3/2 b=@3/3/1 #2");
  pb::TxnResponse want;
  want.set_succeeded(true);
  auto* r = want.add_responses()->mutable_response_put();
  r->mutable_header()->set_revision(3);
  r->mutable_prev_kv()->set_key("a");
  r->mutable_prev_kv()->set_value("1");
  r->mutable_prev_kv()->set_create_revision(2);
  r->mutable_prev_kv()->set_mod_revision(2);
  r->mutable_prev_kv()->set_version(1);
  auto* g = want.add_responses()->mutable_response_range();
  g->mutable_header()->set_revision(3);
  g->set_count(1);
  auto* kv = g->add_kvs();
  kv->set_key("a");
  kv->set_value("2");
  kv->set_create_revision(2);
  kv->set_mod_revision(3);
  kv->set_version(2);
  auto* n = want.add_responses()->mutable_response_txn();
  n->mutable_header();
  n->set_succeeded(true);
  n->add_responses()->mutable_response_put()->mutable_header()->set_revision(3);
  want.add_responses()->mutable_response_delete_range()->mutable_header()->set_revision(3);
  EXPECT_EQ(result.body, want.SerializeAsString()) << shown;
  EXPECT_EQ(recorder_.log, "[2..2] +a=1@2/2/1.0\n[3..3] +a=2@2/3/2.0p +b=@3/3/1.1\n");
}

// etcd's own members end for good at this transaction; nothing must come of it but an error.
TEST_P(StoreTest, Txn_KeepsTheValueOfAKeyItDeletes_Refused) {
  Put("k", "1");
  pb::TxnRequest t;
  auto* del = t.add_success()->mutable_request_delete_range();
  del->set_key("a");
  del->set_range_end(std::string(1, '\0'));
  auto* put = t.add_success()->mutable_request_txn()->add_success()->mutable_request_put();
  put->set_key("k");
  put->set_ignore_value(true);
  std::string shown;
  EXPECT_EQ(Txn(t, &shown).error, StoreError::kKeyNotFound);
  EXPECT_EQ(Range({.key = "k"}), "k=1@2/2/1 #1") << "nothing of it took effect";
  put->set_ignore_value(false);
  put->set_value("2");
  EXPECT_EQ(Txn(t, &shown).error, StoreError::kNone);
  EXPECT_EQ(Range({.key = "k"}), "k=2@3/3/1 #1");
}

TEST_P(StoreTest, Txn_CompareOfAMissingKey) {
  auto holds = [this](pb::Compare::CompareTarget target, pb::Compare::CompareResult result) {
    pb::TxnRequest t;
    AddCompare(t, "missing", target, result);
    OpResult out;
    store_->ReadTxn(t, &out);
    return out.succeeded;
  };
  EXPECT_TRUE(holds(pb::Compare::VERSION, pb::Compare::EQUAL));
  EXPECT_TRUE(holds(pb::Compare::MOD, pb::Compare::EQUAL));
  EXPECT_TRUE(holds(pb::Compare::LEASE, pb::Compare::EQUAL));
  EXPECT_FALSE(holds(pb::Compare::CREATE, pb::Compare::GREATER));
  EXPECT_FALSE(holds(pb::Compare::VALUE, pb::Compare::EQUAL));
  EXPECT_FALSE(holds(pb::Compare::VALUE, pb::Compare::NOT_EQUAL));
}

TEST_P(StoreTest, Txn_RefusedByItsChecks_WritesNothing) {
  Put("a", "1");
  pb::TxnRequest t;
  t.add_success()->mutable_request_put()->set_key("b");
  auto* range = t.add_success()->mutable_request_range();
  range->set_key("a");
  range->set_revision(9);
  EXPECT_EQ(Txn(t).error, StoreError::kFutureRevision);
  range->set_revision(1);
  EXPECT_EQ(Compact(2), StoreError::kNone);
  EXPECT_EQ(Txn(t).error, StoreError::kCompacted);
  range->set_revision(0);
  t.add_success()->mutable_request_put()->set_lease(500);
  EXPECT_EQ(Txn(t).error, StoreError::kLeaseNotFound);
  t.mutable_success(2)->mutable_request_put()->set_lease(0);
  t.mutable_success(2)->mutable_request_put()->set_ignore_value(true);
  EXPECT_EQ(Txn(t).error, StoreError::kKeyNotFound);
  EXPECT_EQ(store_->current_revision(), 2);
  EXPECT_EQ(Range({.key = "a", .range_end = "z"}), "a=1@2/2/1 #1");
}

TEST_P(StoreTest, Txn_RangeOverItsOwnWrites) {
  Put("a", "1");
  pb::TxnRequest t;
  t.add_success()->mutable_request_put()->set_key("b");
  t.add_success()->mutable_request_delete_range()->set_key("a");
  auto* now = t.add_success()->mutable_request_range();
  now->set_key("a");
  now->set_range_end("z");
  auto* before = t.add_success()->mutable_request_range();
  before->set_key("a");
  before->set_range_end("z");
  before->set_revision(2);
  OpResult result = Txn(t);
  pb::TxnResponse response;
  ASSERT_TRUE(response.ParseFromString(result.body));
  ASSERT_EQ(response.responses(2).response_range().kvs_size(), 1);
  EXPECT_EQ(response.responses(2).response_range().kvs(0).key(), "b");
  ASSERT_EQ(response.responses(3).response_range().kvs_size(), 1);
  EXPECT_EQ(response.responses(3).response_range().kvs(0).key(), "a");
  EXPECT_EQ(response.responses(3).response_range().header().revision(), 3);
}

TEST_P(StoreTest, HashKv_WhereNothingLives_HasTheTombstonesOfTheCompactedRevision) {
  const uint32_t of_nothing = Hash(0);
  Put("a", "1");
  Put("b", "1");
  Delete("b");
  Delete("a");
  EXPECT_EQ(Compact(5), StoreError::kNone);
  Settle();
  EXPECT_NE(Hash(0), of_nothing);
  Put("c", "1");
  Delete("c");
  EXPECT_EQ(Compact(6), StoreError::kNone);
  const uint32_t with_c = Hash(6);
  Settle();
  EXPECT_EQ(Hash(6), with_c) << "what lives hides the tombstone";
  EXPECT_EQ(store_->HashKv(-1).hash, of_nothing);
  EXPECT_EQ(store_->HashKv(-1).hash_revision, -1);
}

// The constants are what etcd 3.4.23 answers after the same requests (etcdctl endpoint hashkv).
TEST_P(StoreTest, HashKv_IsEtcds) {
  EXPECT_EQ(Hash(0), 1084519789u);
  Put("foo", "bar");
  Put("foo2", "bar2");
  Put("foo", "bar3");
  EXPECT_EQ(Hash(0), 769798988u);
  Delete("foo2");
  Put("a", "");
  EXPECT_EQ(Hash(0), 2791729369u);
  EXPECT_EQ(Hash(4), 769798988u);
  EXPECT_EQ(Hash(3), 2782514397u);
  pb::TxnRequest t;
  t.add_success()->mutable_request_put()->set_key("t1");
  t.mutable_success(0)->mutable_request_put()->set_value("x");
  t.add_success()->mutable_request_put()->set_key("t2");
  t.mutable_success(1)->mutable_request_put()->set_value("y");
  t.add_success()->mutable_request_delete_range()->set_key("foo");
  Txn(t);
  EXPECT_EQ(Hash(0), 3403355479u);
  auto compacted = [this](uint32_t at_once, int64_t revision) {
    EXPECT_EQ(Hash(revision), at_once);
    Settle();
    EXPECT_EQ(Hash(revision), at_once) << "after the sweep";
  };
  EXPECT_EQ(Compact(4), StoreError::kNone);
  compacted(995639636u, 7);
  EXPECT_EQ(Hash(5), 3378700887u);
  EXPECT_EQ(store_->HashKv(3).error, StoreError::kCompacted);
  EXPECT_EQ(store_->HashKv(8).error, StoreError::kFutureRevision);
  Delete("t1");
  Delete("t2");
  Delete("a");
  EXPECT_EQ(Hash(0), 4107972808u);
  EXPECT_EQ(Compact(6), StoreError::kNone);
  compacted(838349651u, 10);  // nothing lives any more
  EXPECT_EQ(Hash(8), 3442153570u);
}

TEST_P(StoreTest, Compact_RefusesThePast_KeepsWhatLivesAndTheTombstoneAtTheRevision) {
  Put("a", "1");
  Put("a", "2");
  Put("b", "1");
  Delete("b");
  Put("c", "1");
  EXPECT_EQ(Compact(5), StoreError::kNone);
  Settle();
  EXPECT_EQ(Range({.key = "a", .range_end = "z", .revision = 4}), "compacted");
  EXPECT_EQ(Range({.key = "a", .range_end = "z", .revision = 5}), "a=2@2/3/2 #1");
  EXPECT_EQ(Range({.key = "a", .range_end = "z"}), "a=2@2/3/2 c=1@6/6/1 #2");
  std::vector<std::string> left;
  auto it = store_->engine().NewIterator({.lower = "R", .upper = "S"});
  for (; it->Valid(); it->Next()) {
    Revision revision;
    bool tombstone;
    ASSERT_TRUE(DecodeRevisionKey(it->key().substr(1), &revision, &tombstone));
    left.push_back(std::to_string(revision.main) + (tombstone ? "t" : ""));
  }
  EXPECT_EQ(left, (std::vector<std::string>{"3", "5t", "6"}));
  EventHistory history = store_->Events(base::KeyInterval::All(), {.from_revision = 5});
  ASSERT_EQ(history.events.size(), 2u);
  EXPECT_EQ(Show(history.events[0]), "-b=@0/5/0.0");
  EXPECT_EQ(store_->Events(base::KeyInterval::All(), {.from_revision = 4}).error, StoreError::kCompacted);
}

TEST_P(StoreTest, Compact_TellsWhenItIsSwept) {
  for (int i = 0; i < 5000; ++i) Put("k" + std::to_string(i % 10), "v");
  bool swept = false;
  ApplyBatch batch = store_->BeginApply();
  EXPECT_TRUE(batch.Compact(5001, [&swept] { swept = true; }).ok());
  Commit(batch);
  EXPECT_FALSE(swept);
  EXPECT_EQ(store_->sweeps(), 0u);
  Settle();
  EXPECT_TRUE(swept);
  EXPECT_EQ(store_->sweeps(), 1u);
}

TEST_P(StoreTest, Cursor_ReadsItsRevision_WhileWritesAndCompactionPass) {
  std::string want;
  for (int i = 0; i < 1000; ++i) {
    std::string key = "k" + std::to_string(1000 + i);
    Put(key, "old");
    want += key + "=old ";
  }
  int64_t revision = store_->current_revision();
  Put("k1000", "new");  // so that the second cursor reads the past
  StoreError error;
  for (int64_t at : {int64_t{0}, revision}) {
    auto cursor = store_->OpenRange({.key = "k", .range_end = "l", .revision = at}, &error);
    ASSERT_NE(cursor, nullptr);
    EXPECT_EQ(cursor->count(), 1000);
    std::string got;
    std::string bytes;
    int step = 0;
    while (!cursor->done()) {
      size_t n = cursor->Next(70, 2000, &bytes);
      EXPECT_GE(n, 1u);
      EXPECT_LE(n, 70u);
      if (at != 0 && step < 4) {
        Put("k19" + std::to_string(step) + "0", "newer");
        Delete("k18" + std::to_string(step) + "0");
        Put("k1000b", "more");
        EXPECT_EQ(Compact(store_->current_revision()), StoreError::kNone);
        Settle();
      }
      ++step;
    }
    pb::RangeResponse response;
    ASSERT_TRUE(response.ParseFromString(bytes));
    for (const auto& kv : response.kvs()) got += kv.key() + "=" + kv.value() + " ";
    if (at == 0) {
      EXPECT_EQ(got, "k1000=new " + want.substr(want.find(' ') + 1));
    } else {
      EXPECT_EQ(got, want);
    }
  }
  EXPECT_EQ(store_->OpenRange({.key = "k", .range_end = "l", .revision = revision}, &error), nullptr);
  EXPECT_EQ(error, StoreError::kCompacted);
  // What the cursor held back goes once it has ended.
  Settle();
  size_t records = 0;
  for (auto it = store_->engine().NewIterator({.lower = "R", .upper = "S"}); it->Valid(); it->Next())
    ++records;
  EXPECT_EQ(static_cast<int64_t>(records), store_->live_keys());
}

TEST_P(StoreTest, Cursor_ThatRested_ReadsItsRevision_ChangedOrNot) {
  for (int i = 0; i < 10; ++i) Put("k" + std::to_string(i), "old");
  StoreError error;
  auto quiet = store_->OpenRange({.key = "k", .range_end = "l"}, &error);
  auto busy = store_->OpenRange({.key = "k", .range_end = "l"}, &error);
  auto late = store_->OpenRange({.key = "k", .range_end = "l"}, &error);
  std::string want;
  quiet->Next(3, 0, &want);
  std::string got = want;
  busy->Next(3, 0, &got);
  const std::string first = want;
  quiet->Rest();  // nothing has changed when it goes on
  while (!quiet->done()) quiet->Next(1, 0, &want);
  busy->Rest();
  late->Rest();
  Put("k1", "new");
  Put("k3", "new");
  Put("k33", "new");
  Delete("k4");
  EXPECT_EQ(Compact(store_->current_revision()), StoreError::kNone);
  Settle();
  got = first;
  while (!busy->done()) busy->Next(2, 0, &got);
  EXPECT_EQ(got, want);
  got.clear();
  while (!late->done()) late->Next(2, 0, &got);
  EXPECT_EQ(got, want);
  pb::RangeResponse response;
  ASSERT_TRUE(response.ParseFromString(want));
  EXPECT_EQ(response.kvs_size(), 10);
}

// RocksDB rewrites files of the last level when a snapshot newer than they are is released.
TEST(StoreOnRocksTest, List_LeavesTheFilesAsTheyAre) {
  base::SimScheduler scheduler(1);
  std::unique_ptr<base::Executor> background = scheduler.NewExecutor("background");
  EngineHome home(EngineKind::kRocks);
  auto opened = Store::Open(home.Open(), *background);
  ASSERT_TRUE(opened.ok());
  Store& store = **opened;
  auto put = [&store](uint64_t index) {
    ApplyBatch batch = store.BeginApply();
    for (int i = 0; i < 100; ++i) batch.Put({.key = "k" + std::to_string(i), .value = "v"});
    batch.Commit({.index = index, .term = 1});
  };
  auto files = [&home] {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(home.path())) {
      if (entry.path().extension() == ".sst") names.insert(entry.path().filename());
    }
    return names;
  };
  put(1);
  store.Flush();
  put(2);
  const std::set<std::string> before = files();
  ASSERT_EQ(before.size(), 1u);
  StoreError error;
  std::string bytes;
  auto cursor = store.OpenRange({.key = "k", .range_end = "l"}, &error);
  cursor->Next(0, 0, &bytes);
  EXPECT_TRUE(cursor->done());
  cursor.reset();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));  // RocksDB has threads of its own
  EXPECT_EQ(files(), before);
}

TEST_P(StoreTest, Reopen_AfterACrash_IsTheLastFlush) {
  Put("a", "1", 5);
  Put("b", "1");
  Delete("b");
  store_->Flush();
  AppliedState flushed = store_->applied();
  uint32_t hash = Hash(0);
  Put("a", "2");
  Put("c", "1");
  EXPECT_EQ(store_->PersistedApplied().index, flushed.index);
  store_.reset();
  Open();
  EXPECT_EQ(store_->applied().index, flushed.index);
  EXPECT_EQ(store_->applied().term, 2u);
  EXPECT_EQ(store_->current_revision(), 4);
  EXPECT_EQ(Hash(0), hash);
  EXPECT_EQ(Range({.key = "a", .range_end = "z"}), "a=1@2/2/1L5 #1");
  EXPECT_EQ(Range({.key = "a", .range_end = "z", .revision = 3}), "a=1@2/2/1L5 b=1@3/3/1 #2");
  std::string leased;
  store_->ForEachLeasedKey(
      [&](std::string_view key, int64_t lease) { leased += std::string(key) + std::to_string(lease); });
  EXPECT_EQ(leased, "a5");
  EXPECT_EQ(Put("a", "2").revision, 5);
}

// Records of before the last flush that the table of latest ones does not have yet.
TEST_P(StoreTest, Crash_LatestRecordsAreMadeUpFromTheHistory) {
  Put("kept", "1");
  Put("changed", "1");
  Put("deleted", "1");
  EXPECT_EQ(Range({.key = "a", .range_end = "z"}), "changed=1@3/3/1 deleted=1@4/4/1 kept=1@2/2/1 #3");
  Put("changed", "2");
  Delete("deleted");
  Put("new", "1");
  Put("passing", "1");
  Delete("passing");
  store_->Flush();
  store_.reset();
  Open();
  EXPECT_EQ(Range({.key = "a", .range_end = "z"}), "changed=2@3/5/2 kept=1@2/2/1 new=1@7/7/1 #3");
  EXPECT_EQ(Range({.key = "changed"}), "changed=2@3/5/2 #1");
  EXPECT_EQ(Range({.key = "deleted"}), "#0");
  EXPECT_EQ(store_->live_keys(), 3);
}

// The sweep takes the deletion out of the history: it must be in the table of latest records before.
TEST_P(StoreTest, Crash_AfterASweepOfADeletion) {
  Put("deleted", "1");
  Put("kept", "1");
  EXPECT_EQ(Range({.key = "a", .range_end = "z"}), "deleted=1@2/2/1 kept=1@3/3/1 #2");
  Delete("deleted");
  EXPECT_EQ(Compact(4), StoreError::kNone);
  Settle();
  store_->Flush();
  store_.reset();
  Open();
  EXPECT_EQ(Range({.key = "a", .range_end = "z"}), "kept=1@3/3/1 #1");
}

TEST_P(StoreTest, Reopen_TakesUpAnInterruptedCompaction) {
  for (int i = 0; i < 3000; ++i) Put("k", std::to_string(i));
  EXPECT_EQ(Compact(2900), StoreError::kNone);
  world_.RunOne();
  uint32_t hash = Hash(0);
  store_->Flush();
  store_.reset();
  Open();
  EXPECT_EQ(store_->compact_revision(), 2900);
  EXPECT_EQ(Hash(0), hash);
  Settle();
  EXPECT_EQ(Hash(0), hash);
  size_t records = 0;
  for (auto it = store_->engine().NewIterator({.lower = "R", .upper = "S"}); it->Valid(); it->Next())
    ++records;
  EXPECT_EQ(records, 102u);
}

TEST_P(StoreTest, Events_GiveHistoryInWholeRevisions) {
  Put("a", "1");
  pb::TxnRequest t;
  for (const char* key : {"b", "c", "d"}) t.add_success()->mutable_request_put()->set_key(key);
  Txn(t);
  Delete("c");
  Put("e", "1");
  auto read = [this](const base::KeyInterval& interval, EventQuery query, int64_t* next) {
    EventHistory history = store_->Events(interval, query);
    EXPECT_EQ(history.error, StoreError::kNone);
    std::string out;
    for (const Event& e : history.events) out += Show(e) + " ";
    *next = history.next_revision;
    return out;
  };
  int64_t next;
  EXPECT_EQ(read(base::KeyInterval::All(), {.from_revision = 1, .max_events = 2}, &next),
            "+a=1@2/2/1.0 +b=@3/3/1.0 +c=@3/3/1.1 +d=@3/3/1.2 ");
  EXPECT_EQ(next, 4);
  EXPECT_EQ(read(base::KeyInterval::All(), {.from_revision = next}, &next), "-c=@0/4/0.0 +e=1@5/5/1.0 ");
  EXPECT_EQ(next, 6);
  EXPECT_EQ(read(base::KeyInterval::All(), {.from_revision = 9}, &next), "");
  EXPECT_EQ(next, 9);
  EXPECT_EQ(read(base::KeyInterval::Single("c"), {.from_revision = 2}, &next), "+c=@3/3/1.1 -c=@0/4/0.0 ");
  EXPECT_EQ(read(base::KeyInterval::Single("c"), {.from_revision = 2, .max_events = 1}, &next),
            "+c=@3/3/1.1 ");
  EXPECT_EQ(next, 4);
  EXPECT_EQ(read(base::KeyInterval::Between("b", "d"), {.from_revision = 2, .to_revision = 3}, &next),
            "+b=@3/3/1.0 +c=@3/3/1.1 ");
  EXPECT_EQ(next, 4);
  std::string previous;
  EXPECT_TRUE(store_->GetAt("c", 3, &previous));
  EXPECT_FALSE(store_->GetAt("c", 4, &previous));
}

TEST_P(StoreTest, DeleteKeys_IsOneTransactionInTheGivenOrder) {
  Put("a", "1", 3);
  Put("b", "1", 3);
  ApplyBatch batch = store_->BeginApply();
  std::vector<std::string> keys = {"b", "gone", "a"};
  OpResult result = batch.DeleteKeys(keys);
  batch.DeleteTable(Table::kLease, "3");
  Commit(batch);
  EXPECT_EQ(result.count, 2);
  EXPECT_EQ(result.revision, 4);
  EXPECT_EQ(recorder_.log.substr(recorder_.log.find("[4")), "[4..4] -b=@0/4/0.0p -a=@0/4/0.1p\n");
}

TEST_P(StoreTest, Image_OfOneStore_MakesAnEqualOne) {
  for (int i = 0; i < 3000; ++i) Put("k" + std::to_string(i % 700), std::to_string(i), i % 11);
  Delete("k1", "k3");
  EXPECT_EQ(Compact(1500), StoreError::kNone);
  world_.RunOne();
  ApplyBatch batch = store_->BeginApply();
  batch.PutTable(Table::kLease, "lease1", "ttl");
  batch.PutTable(Table::kMembers, "m", "{}");
  batch.PutTable(Table::kMeta, "storageVersion", "3.7.0");
  batch.SetConfState("{\"voters\":[1]}");
  Commit(batch);

  EngineHome other_home(EngineKind::kModel);
  auto engine = other_home.Open();
  StoreBuilder builder(*engine);
  auto image = store_->OpenImage();
  Put("later", "not in the image");
  std::string last;
  image->ForEachRecord([&](std::string_view bucket, std::string_view key, std::string_view value) {
    std::string at = std::string(bucket) + '\0' + std::string(key);
    EXPECT_LT(last, at);
    last = at;
    EXPECT_TRUE(builder.Add(bucket, key, value).ok());
    return true;
  });
  ASSERT_TRUE(builder.Finish().ok());
  auto other = Store::Open(std::move(engine), *background_);
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ((*other)->applied().index, image->applied().index);
  EXPECT_EQ((*other)->conf_state(), "{\"voters\":[1]}");
  EXPECT_EQ((*other)->compact_revision(), 1500);
  EXPECT_EQ((*other)->HashKv(0).hash, Hash(image->revision()));
  std::string value;
  EXPECT_TRUE((*other)->GetTable(Table::kLease, "lease1", &value));
  EXPECT_EQ(value, "ttl");
  EXPECT_TRUE((*other)->GetTable(Table::kMeta, "storageVersion", &value));
  Settle();
  EXPECT_EQ((*other)->HashKv(0).hash, Hash(image->revision()));
}

TEST_P(StoreTest, ReplaceWith_LongReadsEndOnTheOldState) {
  for (int i = 0; i < 100; ++i) Put("k" + std::to_string(100 + i), "old");
  StoreError error;
  auto cursor = store_->OpenRange({.key = "k", .range_end = "l"}, &error);
  std::string bytes;
  cursor->Next(10, 0, &bytes);

  EngineHome home(EngineKind::kModel);
  auto opened = Store::Open(home.Open(), *background_);
  ASSERT_TRUE(opened.ok());
  ApplyBatch batch = (*opened)->BeginApply();
  for (int i = 0; i < 200; ++i) batch.Put({.key = "k", .value = "new"});
  batch.Commit({.index = 1000, .term = 3});
  bool closed = false;
  recorder_.log.clear();
  store_->ReplaceWith(*std::move(opened), [&closed] { closed = true; });
  EXPECT_EQ(recorder_.log, "replaced 201\n");
  EXPECT_EQ(store_->applied().index, 1000u);
  EXPECT_EQ(Range({.key = "k", .range_end = "l"}), "k=new@2/201/200 #1");
  while (!cursor->done()) cursor->Next(10, 0, &bytes);
  pb::RangeResponse response;
  ASSERT_TRUE(response.ParseFromString(bytes));
  EXPECT_EQ(response.kvs_size(), 100);
  EXPECT_FALSE(closed);
  cursor.reset();
  EXPECT_TRUE(closed);
  recorder_.log.clear();
  index_ = 1000;
  EXPECT_EQ(Put("k", "newer").revision, 202);
  EXPECT_EQ(recorder_.log, "[202..202] +k=newer@2/202/201.0p\n");
  store_.reset();
}

TEST_P(StoreTest, LargeValue_IsOnDiskOnce_AndGoesWithItsRevision) {
  const std::string big(kLargeValueBytes, 'x'), bigger(2 * kLargeValueBytes, 'y');
  Put("a", "small");
  Put("b", big);
  Put("b", bigger);
  Put("c", big);
  Delete("c");
  auto stored = [this](Table table) {
    std::vector<std::pair<std::string, size_t>> sizes;
    auto it = store_->engine().NewIterator({.lower = TableKey(table, {}), .upper = TableEnd(table)});
    for (; it->Valid(); it->Next()) sizes.emplace_back(it->key().substr(1), it->value().size());
    return sizes;
  };
  const std::string shown = "b=" + bigger + "@3/4/2 ";
  EXPECT_EQ(Range({.key = "a", .range_end = "z"}), "a=small@2/2/1 " + shown + "#2");
  for (const auto& [key, size] : stored(Table::kLatest)) EXPECT_LT(size, 100u) << key;
  for (const auto& [key, size] : stored(Table::kRevision)) EXPECT_LT(size, 100u) << key;
  EXPECT_EQ(stored(Table::kLarge).size(), GetParam() < 10 ? 4u : 3u);
  EXPECT_EQ(Range({.key = "b", .revision = 3}), "b=" + big + "@3/3/1 #1");
  EventHistory history = store_->Events(base::KeyInterval::All(), {.from_revision = 3});
  ASSERT_EQ(history.events.size(), 4u);
  EXPECT_EQ(Show(history.events[1]), "+b=" + bigger + "@3/4/2.0");

  EXPECT_EQ(Compact(6), StoreError::kNone);
  Settle();
  std::vector<std::pair<std::string, size_t>> left = stored(Table::kLarge);
  ASSERT_EQ(left.size(), GetParam() < 10 ? 2u : 1u);
  EXPECT_GT(left.back().second, bigger.size());
  EXPECT_EQ(Range({.key = "b"}), shown + "#1");
  store_->Flush();
  store_.reset();
  Open();
  EXPECT_EQ(Range({.key = "b"}), shown + "#1");
  EXPECT_EQ(Range({.key = "a", .range_end = "z"}), "a=small@2/2/1 " + shown + "#2");
}

TEST_P(StoreTest, LargeValues_OfAnImageAndAfterACrash) {
  const std::string big(2 * kLargeValueBytes, 'x');
  for (int i = 0; i < 50; ++i) Put("k" + std::to_string(i % 20), i % 3 == 0 ? "small" : big);
  store_->Flush();
  const uint32_t hash = Hash(0);
  EngineHome other_home(EngineKind::kModel);
  auto engine = other_home.Open();
  StoreBuilder builder(*engine);
  auto image = store_->OpenImage();
  image->ForEachRecord([&](std::string_view bucket, std::string_view key, std::string_view value) {
    EXPECT_TRUE(builder.Add(bucket, key, value).ok());
    return true;
  });
  ASSERT_TRUE(builder.Finish().ok());
  auto other = Store::Open(std::move(engine), *background_);
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ((*other)->HashKv(0).hash, hash);

  const std::string all = Range({.key = "k", .range_end = "l"});
  for (int i = 0; i < 10; ++i) Put("k" + std::to_string(i), big);
  image.reset();
  home_.RememberAsCrashed();
  store_.reset();
  Open();
  EXPECT_EQ(Range({.key = "k", .range_end = "l"}), all);
  EXPECT_EQ(Hash(0), hash);
}

TEST_P(StoreTest, Builder_RefusesWhatIsNotEtcds) {
  EngineHome home(EngineKind::kModel);
  auto engine = home.Open();
  StoreBuilder builder(*engine);
  EXPECT_EQ(builder.Add("key", "short", "x").code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(builder.Add("meta", "term", "x").code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(builder.Add("unknown", "k", "v").ok());
}

TEST_P(StoreTest, Open_RefusesContradictions) {
  Put("a", "1");
  Range({.key = "a", .range_end = "b"});  // the table of latest records is complete
  auto batch = store_->engine().NewBatch();
  batch->Delete("La");
  store_->engine().Write(*batch);
  store_->Flush();
  store_.reset();
  EXPECT_EQ(Store::Open(home_.Open(), *background_).status().code(), absl::StatusCode::kDataLoss);
}

TEST(StoreGarbageTest, LargeValuesThatAreGone_GiveTheirRoomBack_OnceItIsWorthIt) {
  base::SimScheduler world{1};
  std::unique_ptr<base::Executor> background = world.NewExecutor("background");
  EngineHome home(EngineKind::kRocksTiny);
  auto opened =
      Store::Open(home.Open(), *background, {.large_value_bytes = 300, .least_garbage_bytes = 50'000});
  ASSERT_TRUE(opened.ok()) << opened.status();
  const std::unique_ptr<Store> store = *std::move(opened);
  uint64_t index = 0;
  auto apply = [&](absl::FunctionRef<void(ApplyBatch&)> change) {
    ApplyBatch batch = store->BeginApply();
    change(batch);
    batch.Commit({.index = ++index, .term = 1});
  };
  std::string value(5000, 'v');
  base::Random random(3);
  for (int i = 0; i < 400; ++i) {
    for (char& c : value) c = static_cast<char>(random.Below(256));
    apply([&](ApplyBatch& batch) { batch.Put({.key = "k" + std::to_string(i), .value = value}); });
  }
  const auto forget = [&](int first, int last) {
    for (int i = first; i < last; ++i) {
      if (i % 10 == 0) continue;
      apply([&](ApplyBatch& batch) { batch.DeleteRange({.key = "k" + std::to_string(i)}); });
    }
    apply([&](ApplyBatch& batch) { batch.Compact(store->current_revision()); });
    world.RunFor(std::chrono::seconds(10));
    store->Flush();
    store->engine().CompactRange({}, {});
    store->HintGarbage(*background);
    store->HintGarbage(*background);  // one of them is enough
    world.RunFor(std::chrono::seconds(1));
    return store->engine().Sizes();
  };
  EngineSizes little = forget(0, 40);
  EXPECT_GT(little.garbage_bytes, little.separate_bytes / 20);  // not worth it
  EngineSizes much = forget(40, 400);
  EXPECT_LE(much.garbage_bytes, much.separate_bytes / 6);
  EXPECT_LT(store->size_bytes(), 600'000u);
  EXPECT_EQ(store->live_keys(), 40);
  std::string record;
  for (int i = 0; i < 400; i += 10) EXPECT_TRUE(store->GetAt("k" + std::to_string(i), 0, &record)) << i;
}

INSTANTIATE_TEST_SUITE_P(Values, StoreTest, ::testing::Values(kLargeValueBytes, size_t{2}));

}  // namespace
}  // namespace kvd::storage
