// What the tests of the log share: entries, and a log in a file system of memory.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/mem_file_system.h"
#include "wal/segment.h"
#include "wal/wal.h"

namespace kvd::wal {

inline constexpr char kDir[] = "/data/wal";

inline Entry MakeEntry(uint64_t index, uint64_t term, size_t bytes = 20) {
  return {.index = index,
          .term = term,
          .type = 0,
          .data = base::SharedBytes(std::string(bytes, static_cast<char>('a' + index % 26)))};
}

inline std::vector<Entry> MakeEntries(uint64_t from, uint64_t to, uint64_t term, size_t bytes = 20) {
  std::vector<Entry> entries;
  for (uint64_t i = from; i <= to; ++i) entries.push_back(MakeEntry(i, term, bytes));
  return entries;
}

class WalFixture : public testing::Test {
 protected:
  WalFixture() { base::SetLogLevel(base::LogLevel::kError); }
  ~WalFixture() override { base::SetLogLevel(base::LogLevel::kInfo); }

  std::unique_ptr<Wal> MustCreate() {
    auto wal = Wal::Create(*fs_, kDir, "metadata", options_);
    EXPECT_TRUE(wal.ok()) << wal.status();
    return wal.ok() ? *std::move(wal) : nullptr;
  }
  Wal::Opened MustOpen(const SnapshotMarker& from = {}) {
    auto opened = Wal::Open(*fs_, kDir, from, options_);
    EXPECT_TRUE(opened.ok()) << opened.status();
    return opened.ok() ? *std::move(opened) : Wal::Opened();
  }
  static void MustSave(Wal& wal, const HardState& state, const std::vector<Entry>& entries) {
    ASSERT_TRUE(wal.Append(&state, entries).ok());
    ASSERT_TRUE(wal.Sync().ok());
  }
  // The next one.
  void FailOneSync() {
    fs_->SetFaultHook(
        [failed = std::make_shared<bool>(false)](base::MemFileSystem::Op op, const std::string&) {
          if (op != base::MemFileSystem::Op::kSync || std::exchange(*failed, true)) return absl::OkStatus();
          return absl::DataLossError("injected");
        });
  }
  std::vector<std::string> Segments() {
    std::vector<std::string> names;
    auto segments = ListSegments(*fs_, kDir);
    EXPECT_TRUE(segments.ok()) << segments.status();
    for (const SegmentName& s : *segments) names.push_back(s.ToString());
    return names;
  }
  std::string PathOf(const std::string& name) const { return base::JoinPath(kDir, name); }
  std::string ReadSegment(const std::string& name) {
    auto bytes = base::ReadFile(*fs_, PathOf(name));
    EXPECT_TRUE(bytes.ok()) << bytes.status();
    return *bytes;
  }
  void Overwrite(const std::string& name, std::string_view bytes) {
    auto file = fs_->Open(PathOf(name), base::FileSystem::Mode::kCreate);
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE((*file)->Truncate(0).ok());
    ASSERT_TRUE((*file)->WriteAt(0, bytes).ok());
    ASSERT_TRUE((*file)->Sync().ok());
  }

  std::unique_ptr<base::MemFileSystem> fs_ = std::make_unique<base::MemFileSystem>();
  Options options_{.segment_bytes = 8192};
};

}  // namespace kvd::wal
