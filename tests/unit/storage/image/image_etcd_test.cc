// Database files exchanged with etcd's own programs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "base/bytes.h"
#include "base/file_system.h"
#include "base/protobuf_wire.h"
#include "base/strings.h"
#include "storage/image/image_reader.h"
#include "storage/image/image_writer.h"
#include "support/real_etcd.h"

namespace kvd::storage::image {
namespace {

using base::StrCat;
using testing::HasSubstr;
using Mode = base::FileSystem::Mode;

class ImageEtcdTest : public support::RealEtcdTest {
 protected:
  std::unique_ptr<base::File> MustOpen(std::string_view name, Mode mode) {
    auto file = base::PosixFileSystem().Open(Path(name), mode);
    EXPECT_TRUE(file.ok()) << file.status();
    return *std::move(file);
  }

  // A database of `puts` puts, as etcd 3.4 would hold it after them.
  void WriteBackup(uint64_t puts, size_t value_bytes) {
    auto file = MustOpen("backup.db", Mode::kCreate);
    ImageWriter writer(*file);
    for (const char* name : {"alarm", "auth", "authRoles", "authUsers", "cluster", "key"}) {
      ASSERT_TRUE(writer.BeginBucket(name).ok());
    }
    for (uint64_t i = 0; i < puts; ++i) {
      std::string key;
      base::AppendBigEndian64(key, i + 2);
      key.push_back('_');
      base::AppendBigEndian64(key, 0);
      std::string record;  // mvccpb.KeyValue
      base::AppendBytesField(record, 1, StrCat("key", 1'000'000 + i));
      base::AppendUint64Field(record, 2, i + 2);
      base::AppendUint64Field(record, 3, i + 2);
      base::AppendUint64Field(record, 4, 1);
      base::AppendBytesField(record, 5, std::string(value_bytes, 'v'));
      ASSERT_TRUE(writer.Put(key, record).ok());
    }
    for (const char* name : {"lease", "members", "members_removed", "meta"}) {
      ASSERT_TRUE(writer.BeginBucket(name).ok());
    }
    std::string index;
    base::AppendBigEndian64(index, puts + 4);
    ASSERT_TRUE(writer.Put("consistent_index", index).ok());
    auto size = writer.Finish();
    ASSERT_TRUE(size.ok()) << size.status();
    ASSERT_TRUE(AppendSha256(*file, *size).ok());
  }
};

TEST_F(ImageEtcdTest, FileWrittenHere_IsRestoredAndServedByEtcd) {
  constexpr uint64_t kPuts = 20'000;
  WriteBackup(kPuts, 200);
  ASSERT_TRUE(Etcdctl({"snapshot", "status", Path("backup.db"), "-w", "json"})) << Printed();
  EXPECT_THAT(Printed(), HasSubstr(StrCat("\"revision\":", kPuts + 1)));
  EXPECT_THAT(Printed(), HasSubstr(StrCat("\"totalKey\":", kPuts + 1)));  // and consistent_index
  ASSERT_TRUE(
      Etcdctl({"snapshot", "restore", Path("backup.db"), "--name", "default", "--data-dir", Path("data"),
               "--initial-cluster", "default=" + peer_url(), "--initial-advertise-peer-urls", peer_url()}))
      << Printed();
  StartEtcd();
  ASSERT_TRUE(Etcdctl({"get", "key1012345", "-w", "json"})) << Printed();
  EXPECT_THAT(Printed(), HasSubstr("\"mod_revision\":12347"));
  // etcd goes on writing into the trees that were built here.
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(Etcdctl({"put", StrCat("key10", i), "new"})) << Printed();
  ASSERT_TRUE(Etcdctl({"compaction", StrCat(kPuts)})) << Printed();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));  // it deletes in the background
  ASSERT_TRUE(Etcdctl({"get", "key", "--prefix", "--keys-only", "-w", "fields"})) << Printed();
  EXPECT_THAT(Printed(), HasSubstr(StrCat("\"Count\" : ", kPuts + 5)));
  ASSERT_TRUE(Etcdctl({"defrag"})) << Printed();
  ASSERT_TRUE(Etcdctl({"get", "key1019999"})) << Printed();
  EXPECT_THAT(Printed(), HasSubstr("vvvv"));
}

TEST_F(ImageEtcdTest, FileWithLargeValues_IsRestoredByEtcd) {
  WriteBackup(30, 900'000);
  ASSERT_TRUE(Etcdctl({"snapshot", "status", Path("backup.db"), "-w", "json"})) << Printed();
  EXPECT_THAT(Printed(), HasSubstr("\"revision\":31"));
}

TEST_F(ImageEtcdTest, BackupOfEtcd_IsRead) {
  StartEtcd();
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(Etcdctl({"put", StrCat("key", i), std::string(3000, 'v')}));
  ASSERT_TRUE(Etcdctl({"snapshot", "save", Path("saved.db")})) << Printed();
  ASSERT_TRUE(Etcdctl({"snapshot", "status", Path("saved.db"), "-w", "json"})) << Printed();
  const std::string status = Printed();
  StopEtcd(SIGTERM);

  for (const char* name : {"saved.db", "data/member/snap/db"}) {
    auto file = MustOpen(name, Mode::kRead);
    auto trailer = CheckSha256(*file);
    ASSERT_TRUE(trailer.ok()) << trailer.status();
    EXPECT_EQ(*trailer == Sha256Trailer::kMatches, name == std::string("saved.db"));
    auto reader = ImageReader::Open(*file);
    ASSERT_TRUE(reader.ok()) << reader.status();
    auto buckets = (*reader)->Buckets();
    ASSERT_TRUE(buckets.ok()) << buckets.status();
    EXPECT_THAT(*buckets,
                testing::IsSupersetOf({"alarm", "auth", "cluster", "key", "lease", "members", "meta"}));
    uint64_t total = 0, revision = 0;
    for (const std::string& bucket : *buckets) {
      absl::Status s = (*reader)->ForEach(bucket, [&](std::string_view key, std::string_view value) {
        ++total;
        if (bucket == "key") {
          revision = base::LoadBigEndian64(key.data());
          EXPECT_THAT(std::string(value), HasSubstr(std::string(3000, 'v')));
        }
        return absl::OkStatus();
      });
      ASSERT_TRUE(s.ok()) << bucket << ": " << s;
    }
    EXPECT_EQ(revision, 31u);
    if (name == std::string("saved.db")) {
      EXPECT_THAT(status, HasSubstr(StrCat("\"totalKey\":", total)));
      EXPECT_THAT(status, HasSubstr(StrCat("\"totalSize\":", (*reader)->size_bytes())));
    }
  }
}

}  // namespace
}  // namespace kvd::storage::image
