// The log of a real etcd, read by this reader, and appended to.
#include <gtest/gtest.h>
#include <signal.h>

#include <string>
#include <vector>

#include "base/file_system.h"
#include "base/strings.h"
#include "support/real_etcd.h"
#include "wal/wal.h"

namespace kvd::wal {
namespace {

class WalEtcdTest : public support::RealEtcdTest {
 protected:
  // No orderly shutdown: the log ends as it stands.
  void KillEtcd() { StopEtcd(SIGKILL); }
  std::string WalDir() const { return Path("data/member/wal"); }
};

TEST_F(WalEtcdTest, LogOfEtcd_ReadsWhole) {
  StartEtcd();
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(Etcdctl({"put", base::StrCat("key", i), std::string(100, 'v')}));
  KillEtcd();

  auto read = Wal::Read(base::PosixFileSystem(), WalDir(), {});
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_FALSE(read->repair);
  EXPECT_FALSE(read->metadata.empty());
  EXPECT_GE(read->hard_state.term, 1u);
  EXPECT_NE(read->hard_state.vote, 0u);
  ASSERT_GE(read->entries.size(), 21u);
  EXPECT_GE(read->hard_state.commit, 20u);
  int puts = 0;
  for (size_t i = 0; i < read->entries.size(); ++i) {
    EXPECT_EQ(read->entries[i].index, i + 1);
    puts += read->entries[i].data.view().find(std::string(100, 'v')) != std::string_view::npos;
  }
  EXPECT_EQ(puts, 20);
  EXPECT_EQ(read->snapshots.size(), 1u);
}

TEST_F(WalEtcdTest, LogOfEtcd_AppendedToHere_IsReadByEtcd) {
  StartEtcd();
  ASSERT_TRUE(Etcdctl({"put", "before", "1"}));
  KillEtcd();
  Entry copy;
  {
    auto opened = Wal::Open(base::PosixFileSystem(), WalDir(), {}, {});
    ASSERT_TRUE(opened.ok()) << opened.status();
    // The put again, under the next index: etcd has to find and apply it.
    const std::vector<Entry>& entries = opened->contents.entries;
    for (const Entry& e : entries) {
      if (e.data.view().find("before") != std::string_view::npos) copy = e;
    }
    ASSERT_NE(copy.index, 0u);
    std::string data(copy.data.view());
    data.replace(data.find("before"), 6, "behind");
    copy = {entries.back().index + 1, opened->contents.hard_state.term, 0,
            base::SharedBytes(std::move(data))};
    HardState state = opened->contents.hard_state;
    state.commit = copy.index;
    ASSERT_TRUE(opened->wal->Append(&state, {copy}).ok());
    ASSERT_TRUE(opened->wal->Sync().ok());
  }
  StartEtcd();
  ASSERT_TRUE(Etcdctl({"get", "behind"}));
  EXPECT_NE(Printed().find("behind\n1\n"), std::string::npos) << Printed();
}

TEST_F(WalEtcdTest, LogOfManySegmentsWrittenHere_IsTheSameThroughEtcdsEyes) {
  // etcd cuts at 64 MB only, so the segments are cut small here and etcd reads across them.
  StartEtcd();
  ASSERT_TRUE(Etcdctl({"put", "before", "1"}));
  KillEtcd();
  uint64_t last = 0;
  {
    auto opened = Wal::Open(base::PosixFileSystem(), WalDir(), {}, {.segment_bytes = 4096});
    ASSERT_TRUE(opened.ok()) << opened.status();
    std::string request;
    for (const Entry& e : opened->contents.entries) {
      if (e.data.view().find("before") != std::string_view::npos) request = std::string(e.data.view());
    }
    ASSERT_FALSE(request.empty());
    last = opened->contents.entries.back().index;
    HardState state = opened->contents.hard_state;
    for (int i = 0; i < 300; ++i) {
      std::string data = request;
      data.replace(data.find("before"), 6, base::StrCat("k", 10'000 + i));
      state.commit = ++last;
      ASSERT_TRUE(opened->wal->Append(&state, {{last, state.term, 0, base::SharedBytes(data)}}).ok());
      ASSERT_TRUE(opened->wal->Sync().ok());
    }
  }
  ASSERT_GT(base::PosixFileSystem().List(WalDir())->size(), 4u);
  StartEtcd();
  ASSERT_TRUE(Etcdctl({"get", "k", "--prefix", "--keys-only", "--write-out=fields"}));
  EXPECT_NE(Printed().find("\"Count\" : 300"), std::string::npos) << Printed();
}

}  // namespace
}  // namespace kvd::wal
