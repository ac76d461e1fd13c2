#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/mem_file_system.h"
#include "base/random.h"
#include "base/strings.h"
#include "storage/image/image_reader.h"
#include "storage/image/image_writer.h"

namespace kvd::storage::image {
namespace {

using testing::HasSubstr;
using Bucket = std::map<std::string, std::string>;
using Database = std::map<std::string, Bucket>;

class ImageTest : public testing::Test {
 protected:
  ImageTest() {
    auto file = fs_.Open("/image", base::FileSystem::Mode::kCreate);
    EXPECT_TRUE(file.ok());
    file_ = *std::move(file);
  }

  uint64_t MustWrite(const Database& database) {
    EXPECT_TRUE(file_->Truncate(0).ok());
    ImageWriter writer(*file_);
    for (const auto& [name, bucket] : database) {
      EXPECT_TRUE(writer.BeginBucket(name).ok());
      for (const auto& [key, value] : bucket) EXPECT_TRUE(writer.Put(key, value).ok());
    }
    auto size = writer.Finish();
    EXPECT_TRUE(size.ok()) << size.status();
    return *size;
  }
  absl::StatusOr<Database> Read() {
    auto reader = ImageReader::Open(*file_);
    if (!reader.ok()) return reader.status();
    auto names = (*reader)->Buckets();
    if (!names.ok()) return names.status();
    Database database;
    for (const std::string& name : *names) {
      Bucket& bucket = database[name];
      absl::Status status = (*reader)->ForEach(name, [&](std::string_view key, std::string_view value) {
        bucket.emplace_hint(bucket.end(), key, value);
        return absl::OkStatus();
      });
      if (!status.ok()) return status;
    }
    return database;
  }
  Database MustRead() {
    auto database = Read();
    EXPECT_TRUE(database.ok()) << database.status();
    return database.ok() ? *std::move(database) : Database();
  }

  base::MemFileSystem fs_;
  std::unique_ptr<base::File> file_;
};

Bucket Numbered(uint64_t count, size_t value_bytes) {
  Bucket bucket;
  for (uint64_t i = 0; i < count; ++i) {
    std::string key;
    base::AppendBigEndian64(key, i);
    bucket.emplace_hint(bucket.end(), key, std::string(value_bytes, static_cast<char>('a' + i % 26)));
  }
  return bucket;
}

TEST_F(ImageTest, NoBuckets) {
  EXPECT_EQ(MustWrite({}), 4 * 4096u);
  EXPECT_TRUE(MustRead().empty());
}

TEST_F(ImageTest, EveryCountOfKeys_ReadsBack) {
  // Around each count at which a page fills up or a level is added.
  for (uint64_t count = 0; count < 700; ++count) {
    const Database database = {{"key", Numbered(count, 100)}};
    const uint64_t size = MustWrite(database);
    EXPECT_EQ(size % 4096, 0u);
    EXPECT_EQ(*file_->Size(), size);
    ASSERT_EQ(MustRead(), database) << count;
  }
}

TEST_F(ImageTest, SecondLevelOfBranches_ReadsBack) {
  // 37 leaves of 100 small values fit one branch page 100 times over.
  for (uint64_t count : {4000u, 12'900u, 13'000u, 13'100u, 60'000u}) {
    const Database database = {{"key", Numbered(count, 30)}, {"meta", {{"term", "12345678"}}}};
    MustWrite(database);
    ASSERT_EQ(MustRead(), database) << count;
  }
}

TEST_F(ImageTest, LargeKeys_MakeDeepTrees) {
  Bucket bucket;
  for (int i = 0; i < 300; ++i) {
    bucket[std::string(1500, 'k') + std::to_string(1000 + i)] = "v";
    bucket[std::string(32'760, 'm') + std::to_string(1000 + i)] = "v";
  }
  const Database database = {{"key", bucket}};
  MustWrite(database);
  EXPECT_EQ(MustRead(), database);
}

TEST_F(ImageTest, LargeValues_TakeOverflowPages) {
  Database database = {{"key", Numbered(20, 3)}};
  size_t n = 1;
  for (auto& [key, value] : database["key"]) {
    value = std::string(n, 'v');
    n = n < 2'000'000 ? n * 3 + 1 : n;
  }
  for (size_t around = 4000; around < 4200; ++around) {
    database["key"]["x" + std::to_string(around)] = std::string(around, 'w');
  }
  MustWrite(database);
  EXPECT_EQ(MustRead(), database);
}

TEST_F(ImageTest, ManyBuckets_EmptyOnesToo) {
  Database database;
  for (int i = 0; i < 500; ++i)
    database["bucket " + std::to_string(i)] = Numbered(static_cast<uint64_t>(i % 3), 10);
  MustWrite(database);
  EXPECT_EQ(MustRead(), database);
}

TEST_F(ImageTest, RandomDatabases_ReadBack) {
  base::Random random(1);
  for (int round = 0; round < 30; ++round) {
    Database database;
    for (uint64_t b = random.Below(6); b > 0; --b) {
      Bucket& bucket =
          database[std::string(random.Between(1, 30), static_cast<char>('a' + random.Below(26)))];
      const uint64_t longest = uint64_t{1} << random.Below(13);
      for (uint64_t k = random.Below(2000); k > 0; --k) {
        std::string key(random.Between(1, 40), '\0');
        for (char& c : key) c = static_cast<char>(random.Next());
        bucket[key] = std::string(random.Below(longest), 'v');
      }
    }
    MustWrite(database);
    ASSERT_EQ(MustRead(), database) << round;
  }
}

TEST_F(ImageTest, Writer_RefusesWhatDoesNotAscend) {
  ImageWriter writer(*file_);
  EXPECT_TRUE(absl::IsInvalidArgument(writer.BeginBucket("")));
  ASSERT_TRUE(writer.BeginBucket("b").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(writer.Put("", "v")));
  EXPECT_TRUE(absl::IsInvalidArgument(writer.Put(std::string(32'769, 'k'), "v")));
  ASSERT_TRUE(writer.Put("k", "v").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(writer.Put("k", "v")));
  EXPECT_TRUE(absl::IsInvalidArgument(writer.Put("j", "v")));
  EXPECT_TRUE(absl::IsInvalidArgument(writer.BeginBucket("a")));
  EXPECT_TRUE(absl::IsInvalidArgument(writer.BeginBucket("b")));
  ASSERT_TRUE(writer.BeginBucket("c").ok());
  ASSERT_TRUE(writer.Put("a", "v").ok());
  ASSERT_TRUE(writer.Finish().ok());
  EXPECT_EQ(MustRead(), (Database{{"b", {{"k", "v"}}}, {"c", {{"a", "v"}}}}));
}

TEST_F(ImageTest, Writer_FullDisk_SaysSo) {
  fs_.SetCapacity(3 << 20);
  ImageWriter writer(*file_);
  ASSERT_TRUE(writer.BeginBucket("key").ok());
  absl::Status status;
  for (int i = 1000; i < 9999 && status.ok(); ++i)
    status = writer.Put(std::to_string(i), std::string(1000, 'v'));
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
}

TEST_F(ImageTest, ForEach_StopsWhenTold) {
  MustWrite({{"key", Numbered(5000, 10)}});
  auto reader = ImageReader::Open(*file_);
  ASSERT_TRUE(reader.ok());
  int seen = 0;
  EXPECT_TRUE(absl::IsAborted((*reader)->ForEach("key", [&](std::string_view, std::string_view) {
    return ++seen == 700 ? absl::AbortedError("enough") : absl::OkStatus();
  })));
  EXPECT_EQ(seen, 700);
  EXPECT_TRUE(absl::IsNotFound(
      (*reader)->ForEach("other", [](std::string_view, std::string_view) { return absl::OkStatus(); })));
}

TEST_F(ImageTest, Sha256_IsCheckedByTheFilesLength) {
  const Database database = {{"key", Numbered(100, 10)}};
  const uint64_t size = MustWrite(database);
  EXPECT_EQ(*CheckSha256(*file_), Sha256Trailer::kNone);
  ASSERT_TRUE(AppendSha256(*file_, size).ok());
  EXPECT_EQ(*file_->Size(), size + 32);
  EXPECT_EQ(*CheckSha256(*file_), Sha256Trailer::kMatches);
  EXPECT_EQ(MustRead(), database);
  ASSERT_TRUE(fs_.FlipBit("/image", size - 100, 1).ok());
  EXPECT_TRUE(absl::IsDataLoss(CheckSha256(*file_).status()));
}

TEST_F(ImageTest, DamagedMeta_TheOtherServes) {
  const Database database = {{"key", Numbered(100, 10)}};
  for (uint64_t victim : {0u, 4096u}) {
    MustWrite(database);
    ASSERT_TRUE(fs_.FlipBit("/image", victim + 20, 1).ok());
    EXPECT_EQ(MustRead(), database);
  }
  ASSERT_TRUE(fs_.FlipBit("/image", 20, 1).ok());
  const absl::Status status = Read().status();
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_THAT(status.ToString(), HasSubstr("/image"));
}

TEST_F(ImageTest, CutOffFile_IsRefused) {
  const uint64_t size = MustWrite({{"key", Numbered(1000, 10)}});
  for (uint64_t length : {uint64_t{0}, uint64_t{10}, uint64_t{4096}, uint64_t{5000}, size - 4096, size - 1}) {
    MustWrite({{"key", Numbered(1000, 10)}});
    ASSERT_TRUE(file_->Truncate(length).ok());
    EXPECT_TRUE(absl::IsDataLoss(Read().status())) << length;
  }
}

TEST_F(ImageTest, HostileBytes_EndInAResultOrAnError) {
  Database database = {{"key", Numbered(6000, 10)}, {"lease", {}}, {"meta", Numbered(3, 9000)}};
  const uint64_t size = MustWrite(database);
  std::string bytes;
  ASSERT_TRUE(file_->ReadAt(0, size, &bytes).ok());
  base::Random random(4);
  int refused = 0;
  for (int round = 0; round < 1500; ++round) {
    ASSERT_TRUE(file_->WriteAt(0, bytes).ok());
    for (uint64_t n = random.Between(1, 8); n > 0; --n) {
      // Mostly in headers and elements, where it matters.
      const uint64_t page = random.Between(2, size / 4096 - 1);
      const uint64_t at = page * 4096 + (random.Chance(0.7) ? random.Below(64) : random.Below(4096));
      const char byte = static_cast<char>(random.Chance(0.5) ? random.Below(size / 4096) : random.Next());
      ASSERT_TRUE(file_->WriteAt(at, std::string(1, byte)).ok());
    }
    auto read = Read();
    if (!read.ok()) {
      EXPECT_TRUE(absl::IsDataLoss(read.status())) << read.status();
      ++refused;
    }
  }
  EXPECT_GT(refused, 300);
}

TEST_F(ImageTest, BranchThatPointsAtItself_IsRefused) {
  MustWrite({{"key", Numbered(2000, 100)}});
  // The one branch page of this tree is the last page but the root's; make its first child itself.
  const uint64_t branch = *file_->Size() / 4096 - 2;
  std::string header;
  ASSERT_TRUE(file_->ReadAt(branch * 4096, 16, &header).ok());
  ASSERT_EQ(header[8], 1);
  char child[8];
  base::StoreLittleEndian64(child, branch);
  ASSERT_TRUE(file_->WriteAt(branch * 4096 + 16 + 8, std::string_view(child, 8)).ok());
  EXPECT_THAT(Read().status().ToString(), HasSubstr("in the tree twice"));
}

}  // namespace
}  // namespace kvd::storage::image
