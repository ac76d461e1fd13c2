// Readers on threads of their own against the writer and the sweeper. The invariant that every read checks:
// the writer moves a total between two keys within one transaction, so any one revision shows the same sum.
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/executor.h"
#include "base/random.h"
#include "etcdserverpb/rpc.pb.h"
#include "storage/store.h"
#include "storage_test_util.h"

namespace kvd::storage {
namespace {

namespace pb = etcdserverpb;

constexpr int kAccounts = 64;
constexpr int64_t kEach = 1000;

std::string Account(uint64_t i) {
  return "acct" + std::to_string(100 + i);
}

class StoreConcurrency : public ::testing::TestWithParam<EngineKind> {};

int64_t SumOf(const std::string& bytes, int* keys) {
  pb::RangeResponse response;
  EXPECT_TRUE(response.ParseFromString(bytes));
  int64_t sum = 0;
  for (const auto& kv : response.kvs()) sum += std::stoll(kv.value());
  *keys = response.kvs_size();
  return sum;
}

TEST_P(StoreConcurrency, EveryRead_SeesWholeTransactions) {
  EngineHome home(GetParam());
  base::ThreadExecutor background("background");
  auto opened =
      Store::Open(home.Open(), background, {.sweep_batch_revisions = 50, .sweep_pause_ns = 100'000});
  ASSERT_TRUE(opened.ok());
  std::unique_ptr<Store> store = *std::move(opened);
  std::vector<int64_t> balance(kAccounts, kEach);
  {
    ApplyBatch batch = store->BeginApply();
    for (uint64_t i = 0; i < kAccounts; ++i) batch.Put({.key = Account(i), .value = std::to_string(kEach)});
    batch.Commit({.index = 1, .term = 1});
  }
  const int64_t start = store->current_revision();
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> reads{0};

  auto check = [&](const RangeArgs& args) {
    OpResult result;
    store->Range(args, &result);
    if (!result.ok()) {
      EXPECT_EQ(result.error, StoreError::kCompacted);
      return;
    }
    int keys;
    EXPECT_EQ(SumOf(result.body, &keys), kAccounts * kEach);
    EXPECT_EQ(keys, result.count);
  };
  auto list_reader = [&](uint64_t seed) {
    base::Random random(seed);
    while (!stop) {
      int64_t now = store->current_revision();
      check({.key = "acct", .range_end = "acctz"});
      check({.key = "acct",
             .range_end = "acctz",
             .revision = now - static_cast<int64_t>(random.Below(static_cast<uint64_t>(now - start) + 1))});
      StoreError error;
      auto cursor = store->OpenRange({.key = "acct", .range_end = "acctz", .revision = now}, &error);
      if (cursor) {
        std::string bytes;
        int keys;
        const uint64_t total = cursor->total_bytes();
        while (!cursor->done()) cursor->Next(5, 0, &bytes);
        EXPECT_EQ(bytes.size(), total);
        EXPECT_EQ(SumOf(bytes, &keys), kAccounts * kEach);
      }
      ++reads;
    }
  };
  auto point_reader = [&](uint64_t seed) {
    base::Random random(seed);
    AppliedState last;
    while (!stop) {
      AppliedState applied = store->applied();
      EXPECT_GE(applied.index, last.index);
      last = applied;
      OpResult count, got;
      store->Range({.key = "acct", .range_end = "acctz", .count_only = true}, &count);
      OpResult keys;
      store->Range({.key = "acct", .range_end = "acctz", .keys_only = true}, &keys);
      pb::RangeResponse response;
      EXPECT_TRUE(response.ParseFromString(keys.body));
      EXPECT_EQ(response.kvs_size(), keys.count);
      store->Range({.key = Account(random.Below(kAccounts))}, &got);
      EXPECT_TRUE(got.ok());
      EXPECT_GE(got.revision, count.revision);
      // What a header says is current is never older than what stands below it.
      for (int i = 0; i < 500; ++i) {
        OpResult point;
        store->Range({.key = Account(random.Below(kAccounts))}, &point);
        EXPECT_TRUE(response.ParseFromString(point.body));
        for (const auto& kv : response.kvs()) EXPECT_LE(kv.mod_revision(), point.revision);
      }
      EXPECT_EQ(store->HashKv(0).error, StoreError::kNone);
      EventHistory history =
          store->Events(base::KeyInterval::All(), {.from_revision = store->current_revision()});
      if (history.error == StoreError::kNone) {
        EXPECT_GE(history.events.size(), 1u);
      }
      ++reads;
    }
  };
  std::vector<std::thread> readers;
  readers.emplace_back(list_reader, 1);
  readers.emplace_back(point_reader, 2);
  readers.emplace_back(list_reader, 3);

  base::Random random(4);
  uint64_t index = 1;
  // A key of an account that is emptied goes, and comes back when it gets something.
  auto set = [&](pb::TxnRequest& txn, uint64_t i) {
    if (balance[i] == 0) {
      txn.add_success()->mutable_request_delete_range()->set_key(Account(i));
    } else {
      auto* put = txn.add_success()->mutable_request_put();
      put->set_key(Account(i));
      put->set_value(std::to_string(balance[i]));
    }
  };
  while (index < 1500 || reads < 60) {
    ApplyBatch batch = store->BeginApply();
    for (uint64_t n = 1 + random.Below(10); n > 0; --n) {
      uint64_t from = random.Below(kAccounts), to = random.Below(kAccounts);
      if (from == to) continue;
      int64_t amount = random.Chance(0.3) ? balance[from] : balance[from] / 2;
      balance[from] -= amount;
      balance[to] += amount;
      pb::TxnRequest txn;
      set(txn, from);
      set(txn, to);
      EXPECT_TRUE(batch.Txn(txn, ApplyBatch::Answer::kNone).ok());
    }
    if (random.Chance(0.02))
      batch.Compact(store->current_revision() - static_cast<int64_t>(random.Below(50)));
    batch.Commit({.index = ++index, .term = 1});
    if (HasFailure()) break;
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  store.reset();
}

INSTANTIATE_TEST_SUITE_P(Engines, StoreConcurrency,
                         ::testing::Values(EngineKind::kModel, EngineKind::kRocksTiny), [](const auto& kind) {
                           return kind.param == EngineKind::kModel ? "Model" : "Rocks";
                         });

}  // namespace
}  // namespace kvd::storage
