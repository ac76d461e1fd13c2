// Bytes changed behind the log's back: what is a torn write and what is rot.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "wal/wal.h"
#include "wal_fixture.h"

namespace kvd::wal {
namespace {

using testing::HasSubstr;

class WalDamageTest : public WalFixture {
 protected:
  // One segment of ten entries; the offset where each record of an entry starts, and where the log ends.
  void WriteTen() {
    auto wal = MustCreate();
    for (uint64_t i = 1; i <= 10; ++i) {
      starts_.push_back(wal->written_bytes());
      ASSERT_TRUE(wal->Append(nullptr, MakeEntries(i, i, 1, 300)).ok());
      ASSERT_TRUE(wal->Sync().ok());
    }
    end_ = wal->written_bytes();
    wal.reset();
    name_ = Segments()[0];
    bytes_ = ReadSegment(name_);
  }
  void ForgetMark() { ASSERT_TRUE(fs_->Remove(PathOf("synced")).ok()); }
  // As after a power loss that the mark's last writes did not survive.
  void MarkNothing() { Overwrite("synced", ""); }
  absl::Status OpenStatus() { return Wal::Open(*fs_, kDir, {}, options_).status(); }

  std::vector<uint64_t> starts_;
  uint64_t end_ = 0;
  std::string name_;
  std::string bytes_;
};

TEST_F(WalDamageTest, FlippedBit_BeforeTheMark_IsRotWithFileAndOffset) {
  WriteTen();
  for (size_t victim = 0; victim < starts_.size(); ++victim) {
    Overwrite(name_, bytes_);
    ASSERT_TRUE(fs_->FlipBit(PathOf(name_), starts_[victim] + 100, 3).ok());
    const std::string found = ReadSegment(name_);
    const absl::Status status = OpenStatus();
    ASSERT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(status.ToString(), HasSubstr(name_));
    EXPECT_THAT(status.ToString(), HasSubstr(std::to_string(starts_[victim])));
    EXPECT_THAT(status.ToString(), HasSubstr("The file is left as it is"));
    EXPECT_EQ(ReadSegment(name_), found);  // nothing is touched
  }
}

TEST_F(WalDamageTest, AnyFlippedBit_IsNeverReadAsOtherData) {
  WriteTen();
  const std::vector<Entry> all = MakeEntries(1, 10, 1, 300);
  for (bool marked : {true, false}) {
    if (!marked) MarkNothing();
    for (uint64_t offset = 0; offset < end_; ++offset) {
      Overwrite(name_, bytes_);
      ASSERT_TRUE(fs_->FlipBit(PathOf(name_), offset, static_cast<int>(offset % 8)).ok());
      auto read = Wal::Read(*fs_, kDir, {});
      if (!read.ok()) continue;
      // Padding, and record types that the format does not protect, may pass; entries are then missing, not
      // wrong.
      for (const Entry& e : read->entries) ASSERT_EQ(e, all[e.index - 1]) << offset;
      if (marked && !read->repair) {
        ASSERT_GE(read->entries.size(), 9u) << offset;
      }
    }
  }
}

// The checksum covers the data of a record and not its type, so one bit can make a hard state of an entry,
// and an entry of a hard state.
TEST_F(WalDamageTest, FlippedRecordType_IsFoundByWhatCannotBe) {
  constexpr uint64_t kVote = 0x1234'5678'9abc'def0;
  auto wal = MustCreate();
  for (uint64_t i = 1; i <= 10; ++i) {
    MustSave(*wal, {i / 4 + 1, kVote, i - 1}, {MakeEntry(i, i / 4 + 1, i % 3 == 0 ? 0 : 30)});
  }
  const uint64_t end = wal->written_bytes();
  wal.reset();
  const std::string name = Segments()[0];
  const std::string whole = ReadSegment(name);
  std::vector<Entry> all;
  for (uint64_t i = 1; i <= 10; ++i) all.push_back(MakeEntry(i, i / 4 + 1, i % 3 == 0 ? 0 : 30));
  int found = 0;
  for (uint64_t offset = 0; offset < end; ++offset) {
    for (int bit = 0; bit < 8; ++bit) {
      Overwrite(name, whole);
      ASSERT_TRUE(fs_->FlipBit(PathOf(name), offset, bit).ok());
      auto read = Wal::Read(*fs_, kDir, {});
      if (!read.ok()) {
        ++found;
        continue;
      }
      ASSERT_EQ(read->entries, all) << offset << " bit " << bit;
      ASSERT_EQ(read->hard_state.term, 3u) << offset << " bit " << bit;
      ASSERT_EQ(read->hard_state.vote, kVote) << offset << " bit " << bit;
    }
  }
  EXPECT_GT(found, static_cast<int>(end) * 7);
}

TEST_F(WalDamageTest, RandomBytes_NeverCrashTheReader) {
  WriteTen();
  base::Random random(3);
  for (bool marked : {true, false}) {
    if (!marked) ForgetMark();
    for (int round = 0; round < 2000; ++round) {
      std::string bytes = bytes_;
      for (uint64_t n = random.Between(1, 20); n > 0; --n) {
        bytes[random.Below(end_ + 100)] = static_cast<char>(random.Next());
      }
      if (random.Chance(0.3)) bytes.resize(random.Below(bytes.size()));
      Overwrite(name_, bytes);
      Wal::Read(*fs_, kDir, {}).status().IgnoreError();
      Wal::ReadSnapshotMarkers(*fs_, kDir).status().IgnoreError();
    }
  }
}

TEST_F(WalDamageTest, TruncatedFile_BehindTheMark_IsRepaired) {
  WriteTen();
  for (uint64_t length = starts_[9] + 1; length < end_; length += 7) {
    Overwrite(name_, bytes_.substr(0, length));
    MarkNothing();
    Wal::Opened opened = MustOpen();
    ASSERT_EQ(opened.contents.entries, MakeEntries(1, 9, 1, 300)) << length;
    ASSERT_TRUE(opened.contents.repair) << length;
    EXPECT_EQ(opened.contents.repair->offset, starts_[9]);
    EXPECT_EQ(opened.contents.repair->path, PathOf(name_));
    EXPECT_EQ(ReadSegment(name_ + ".broken"), bytes_.substr(0, length));
    ASSERT_TRUE(opened.wal->Append(nullptr, MakeEntries(10, 11, 2)).ok());
    ASSERT_TRUE(opened.wal->Sync().ok());
    opened.wal.reset();
    std::vector<Entry> expected = MakeEntries(1, 9, 1, 300);
    for (const Entry& e : MakeEntries(10, 11, 2)) expected.push_back(e);
    opened = MustOpen();
    EXPECT_FALSE(opened.contents.repair);
    ASSERT_EQ(opened.contents.entries, expected);
  }
}

TEST_F(WalDamageTest, TruncatedFile_BeforeTheMark_IsRot) {
  WriteTen();
  for (uint64_t length : {uint64_t{0}, starts_[0], starts_[5] + 10, starts_[9]}) {
    Overwrite(name_, bytes_.substr(0, length));
    EXPECT_TRUE(absl::IsDataLoss(OpenStatus())) << length;
  }
}

TEST_F(WalDamageTest, EtcdsLog_ZeroSectorIsTornAndOtherDamageIsNot) {
  options_.segment_bytes = 64 << 10;
  auto wal = MustCreate();
  ASSERT_TRUE(wal->Append(nullptr, MakeEntries(1, 1, 1, 300)).ok());
  ASSERT_TRUE(wal->Sync().ok());
  const uint64_t start = wal->written_bytes();
  ASSERT_TRUE(wal->Append(nullptr, MakeEntries(2, 2, 1, 3000)).ok());
  ASSERT_TRUE(wal->Sync().ok());
  wal.reset();
  name_ = Segments()[0];
  bytes_ = ReadSegment(name_);
  ForgetMark();
  const uint64_t sector = (start / 512 + 2) * 512;

  std::string torn = bytes_;
  torn.replace(sector, 512, 512, '\0');
  Overwrite(name_, torn);
  auto read = Wal::Read(*fs_, kDir, {});
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->entries, MakeEntries(1, 1, 1, 300));
  ASSERT_TRUE(read->repair);
  EXPECT_EQ(read->repair->offset, start);
  EXPECT_EQ(ReadSegment(name_), torn);  // Read changes nothing

  std::string rotten = bytes_;
  rotten.replace(sector, 512, 512, '?');
  Overwrite(name_, rotten);
  EXPECT_TRUE(absl::IsDataLoss(OpenStatus()));
}

TEST_F(WalDamageTest, ZerosInsteadOfTheLastRecords_AreACleanEndOnlyBehindTheMark) {
  WriteTen();
  std::string zeros = bytes_;
  zeros.replace(starts_[7], end_ - starts_[7], end_ - starts_[7], '\0');
  Overwrite(name_, zeros);
  EXPECT_TRUE(absl::IsDataLoss(OpenStatus()));
  MarkNothing();
  Wal::Opened opened = MustOpen();
  EXPECT_EQ(opened.contents.entries, MakeEntries(1, 7, 1, 300));
  EXPECT_FALSE(opened.contents.repair);
}

TEST_F(WalDamageTest, LeftoversBehindTheEnd_AreNotReadLater) {
  WriteTen();
  // The record before them was lost, these survived: their place must be zeros before it is written again.
  std::string bytes = bytes_;
  bytes.replace(starts_[8], starts_[9] - starts_[8], starts_[9] - starts_[8], '\0');
  Overwrite(name_, bytes);
  MarkNothing();
  Wal::Opened opened = MustOpen();
  EXPECT_EQ(opened.contents.entries, MakeEntries(1, 8, 1, 300));
  ASSERT_TRUE(opened.wal->Append(nullptr, MakeEntries(9, 9, 1, 300)).ok());
  ASSERT_TRUE(opened.wal->Sync().ok());
  opened.wal.reset();
  EXPECT_EQ(MustOpen().contents.entries, MakeEntries(1, 9, 1, 300));
}

TEST_F(WalDamageTest, OnlySegmentWithoutRecords_IsRot) {
  for (const std::string& contents : {std::string(), std::string(8192, '\0'), std::string("garbage")}) {
    ASSERT_TRUE(fs_->RemoveAll(kDir).ok());
    ASSERT_TRUE(fs_->CreateDirs(kDir).ok());
    Overwrite("0000000000000000-0000000000000000.wal", contents);
    const absl::Status status = OpenStatus();
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  }
}

TEST_F(WalDamageTest, LastSegmentWithoutRecords_IsSetAside) {
  for (const std::string& contents : {std::string(), std::string(8192, '\0')}) {
    ASSERT_TRUE(fs_->RemoveAll(kDir).ok());
    starts_.clear();
    WriteTen();
    const std::string empty = "0000000000000001-000000000000000b.wal";
    Overwrite(empty, contents);
    Wal::Opened opened = MustOpen();
    EXPECT_EQ(opened.contents.entries, MakeEntries(1, 10, 1, 300));
    ASSERT_TRUE(opened.contents.repair);
    EXPECT_EQ(opened.contents.repair->path, PathOf(empty));
    EXPECT_THAT(Segments(), testing::ElementsAre(name_));
    for (uint64_t i = 11; i <= 60; ++i) MustSave(*opened.wal, {1, 1, i}, {MakeEntry(i, 1, 300)});
    opened.wal.reset();
    EXPECT_EQ(MustOpen().contents.entries, MakeEntries(1, 60, 1, 300));
    EXPECT_GT(Segments().size(), 2u);
  }
}

TEST_F(WalDamageTest, LastSegmentWithoutRecords_WhenReadingStartsInIt) {
  auto wal = MustCreate();
  MustSave(*wal, {1, 1, 5}, MakeEntries(1, 5, 1));
  ASSERT_TRUE(wal->SaveSnapshot({5, 1, ""}).ok());
  wal.reset();
  Overwrite("0000000000000001-0000000000000005.wal", "");
  Wal::Opened opened = MustOpen({5, 1, ""});
  MustSave(*opened.wal, {1, 1, 6}, MakeEntries(6, 6, 1));
  opened.wal.reset();
  EXPECT_EQ(MustOpen().contents.entries, MakeEntries(1, 6, 1));
}

TEST_F(WalDamageTest, DamageInAnOlderSegment_IsAlwaysRot) {
  auto wal = MustCreate();
  for (uint64_t i = 1; i <= 60; ++i) MustSave(*wal, {1, 1, i}, {MakeEntry(i, 1, 500)});
  wal.reset();
  MarkNothing();
  const std::vector<std::string> segments = Segments();
  const std::string bytes = ReadSegment(segments[1]);
  // A cut file, and a whole last record missing: the checksum at the head of the next segment tells.
  Overwrite(segments[1], bytes.substr(0, bytes.size() - 20));
  EXPECT_TRUE(absl::IsDataLoss(OpenStatus()));
  Overwrite(segments[1], bytes.substr(0, 4000) + std::string(bytes.size() - 4000, '\0'));
  EXPECT_TRUE(absl::IsDataLoss(OpenStatus()));
  Overwrite(segments[1], bytes);
  MustOpen();
}

TEST_F(WalDamageTest, SegmentOfAnotherLog_IsRefused) {
  WriteTen();
  auto other = Wal::Create(*fs_, "/other", "other metadata", options_);
  ASSERT_TRUE(other.ok());
  Overwrite("0000000000000001-000000000000000b.wal",
            *base::ReadFile(*fs_, "/other/0000000000000000-0000000000000000.wal"));
  EXPECT_TRUE(absl::IsDataLoss(OpenStatus()));
}

TEST_F(WalDamageTest, FullDisk_DoesNotKeepARepairFromHappening) {
  WriteTen();
  Overwrite(name_, bytes_.substr(0, end_ - 8));
  MarkNothing();
  fs_->SetCapacity(end_);
  Wal::Opened opened = MustOpen();
  EXPECT_EQ(opened.contents.entries, MakeEntries(1, 9, 1, 300));
  ASSERT_TRUE(opened.contents.repair);
  EXPECT_EQ(opened.contents.repair->broken_copy, "");
}

}  // namespace
}  // namespace kvd::wal
