#include "storage/stored_record.h"

#include <gtest/gtest.h>

#include "storage/engine.h"

namespace kvd::storage {
namespace {

constexpr KeyValueView kRecord{.key = "registry/pods/a",
                               .create_revision = 3,
                               .mod_revision = 1'000'000,
                               .version = 17,
                               .value = "a value",
                               .lease = -5};

TEST(StoredRecordTest, Reference_HasAllButTheValue) {
  std::string reference;
  AppendReference(reference, kRecord, 300, 12'345);
  StoredRecord record;
  ASSERT_TRUE(DecodeStored(reference, &record));
  EXPECT_TRUE(record.large);
  EXPECT_EQ(record.revision(), (Revision{1'000'000, 300}));
  EXPECT_EQ(record.record_size, 12'345u);
  EXPECT_EQ(record.kv.key, kRecord.key);
  EXPECT_EQ(record.kv.create_revision, 3);
  EXPECT_EQ(record.kv.version, 17);
  EXPECT_EQ(record.kv.lease, -5);
  EXPECT_TRUE(record.kv.value.empty());
}

TEST(StoredRecordTest, Record_IsItself) {
  std::string bytes;
  AppendKeyValue(bytes, kRecord);
  EXPECT_FALSE(IsReference(bytes));
  StoredRecord record;
  ASSERT_TRUE(DecodeStored(bytes, &record));
  EXPECT_FALSE(record.large);
  EXPECT_EQ(record.kv.value, "a value");
  EXPECT_EQ(record.record_size, bytes.size());
}

TEST(StoredRecordTest, WhatIsCutShort_DoesNotDecode) {
  std::string reference;
  AppendReference(reference, kRecord, 300, 12'345);
  StoredRecord record;
  for (size_t size = 1; size < 5; ++size) EXPECT_FALSE(DecodeStored(reference.substr(0, size), &record));
  EXPECT_FALSE(DecodeStored(reference.substr(0, reference.size() - 1), &record));
  EXPECT_FALSE(DecodeStored(std::string(1, '\0'), &record));
}

TEST(StoredRecordTest, TryUseRecord_FollowsTheReferenceWithinItsState) {
  auto engine = OpenModelEngine(NewModelDisk());
  std::string whole, reference;
  AppendKeyValue(whole, kRecord);
  AppendReference(reference, kRecord, 2, whole.size());
  auto batch = engine->NewBatch();
  batch->Put(LargeTableKey({1'000'000, 2}), whole);
  engine->Write(*batch);
  auto snapshot = engine->TakeSnapshot();
  batch->Clear();
  batch->Delete(LargeTableKey({1'000'000, 2}));
  engine->Write(*batch);

  std::string got;
  auto take = [&got](std::string_view record) { got = record; };
  EXPECT_TRUE(TryUseRecord(*engine, reference, snapshot.get(), take));
  EXPECT_EQ(got, whole);
  EXPECT_FALSE(TryUseRecord(*engine, reference, nullptr, take));
  EXPECT_TRUE(TryUseRecord(*engine, "plain", nullptr, take));
  EXPECT_EQ(got, "plain");
}

}  // namespace
}  // namespace kvd::storage
