#include "base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/file_system.h"

namespace kvd::base {
namespace {

using testing::HasSubstr;

class LogTest : public testing::Test {
 protected:
  LogTest() {
    std::string name = testing::TempDir() + "kvd-log-XXXXXX";
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    dir_ = name;
    path_ = JoinPath(dir_, "log");
  }
  ~LogTest() override { EXPECT_TRUE(PosixFileSystem().RemoveAll(dir_).ok()); }

  void Init(LogOptions options = {}) {
    options.outputs = {path_};
    ASSERT_TRUE(InitLogging(options).ok());
  }
  std::string Written() {
    FlushLogging();
    auto data = ReadFile(PosixFileSystem(), path_);
    return data.ok() ? *data : data.status().ToString();
  }

  std::string dir_;
  std::string path_;
};

TEST_F(LogTest, Line_IsEtcdsJson) {
  Init();
  KVD_LOG(kInfo, "saved snapshot", {"snapshot-index", uint64_t{7}}, {"path", std::string("a/b")},
          {"ok", true}, {"took", 1.5}, {"names", std::vector<std::string>{"x", "y"}},
          {"error", absl::NotFoundError("no such thing")});
  const std::string line = Written();
  const std::regex expected(
      R"re(\{"level":"info","ts":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d{4})","caller":"base/log_test\.cc:\d+","msg":"saved snapshot","snapshot-index":7,"path":"a/b","ok":true,"took":1\.5,"names":\["x","y"\],"error":"no such thing"\}\n)re");
  EXPECT_TRUE(std::regex_match(line, expected)) << line;
}

TEST_F(LogTest, Text_IsEscaped) {
  Init();
  KVD_LOG(kWarn, "quote \" backslash \\ line\nbreak", {"bytes", std::string("\x01\xff \xc3\xa9")});
  const std::string line = Written();
  EXPECT_THAT(line, HasSubstr(R"("msg":"quote \" backslash \\ line\nbreak")"));
  EXPECT_THAT(line, HasSubstr("\"bytes\":\"\\u0001\\ufffd \xc3\xa9\""));
}

TEST_F(LogTest, Level_Filters) {
  Init({.level = LogLevel::kWarn});
  KVD_LOG(kInfo, "hidden");
  KVD_LOG(kError, "shown");
  SetLogLevel(LogLevel::kDebug);
  KVD_LOG(kDebug, "shown too");
  SetLogLevel(LogLevel::kInfo);
  const std::string text = Written();
  EXPECT_EQ(text.find("hidden"), std::string::npos);
  EXPECT_THAT(text, HasSubstr("\"level\":\"error\""));
  EXPECT_THAT(text, HasSubstr("shown too"));
}

TEST_F(LogTest, Console_IsTabbed) {
  Init({.format = LogOptions::Format::kConsole});
  KVD_LOG(kInfo, "hello", {"k", "v"});
  KVD_LOG(kInfo, "bare");
  const std::string text = Written();
  EXPECT_THAT(text, HasSubstr("\tinfo\tbase/log_test.cc:"));
  EXPECT_THAT(text, HasSubstr("\thello\t{\"k\":\"v\"}\n"));
  EXPECT_THAT(text, HasSubstr("\tbare\n"));
}

TEST_F(LogTest, ManyThreads_WriteWholeLines) {
  Init();
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 1000; ++i) KVD_LOG(kInfo, "line", {"i", i});
    });
  }
  for (std::thread& t : threads) t.join();
  const std::string text = Written();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4000);
  EXPECT_EQ(text.find("}{"), std::string::npos);
}

TEST_F(LogTest, Rotation_KeepsSoManyFiles) {
  Init({.rotate_bytes = 4096, .rotate_keep_files = 2});
  for (int i = 0; i < 500; ++i) KVD_LOG(kInfo, "a line that takes some room in the file", {"i", i});
  FlushLogging();
  EXPECT_EQ(PosixFileSystem().List(dir_)->size(), 3u);  // the current one and two older
}

TEST_F(LogTest, OutputThatCannotBeOpened_IsInvalid) {
  LogOptions options;
  options.outputs = {dir_};  // a directory
  const absl::Status status = InitLogging(options);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(status.ToString(), HasSubstr(dir_));
}

TEST_F(LogTest, CheckFailure_SaysWhatMustHold) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        LogOptions options;
        options.outputs = {"stderr"};
        if (InitLogging(options).ok()) KVD_CHECK(1 == 2, "one is two");
      },
      "\"level\":\"fatal\".*base/log_test.cc.*1 == 2.*one is two");
}

TEST(LogLevels, Parse) {
  LogLevel level;
  EXPECT_TRUE(ParseLogLevel("warn", &level));
  EXPECT_EQ(level, LogLevel::kWarn);
  EXPECT_TRUE(ParseLogLevel("panic", &level));
  EXPECT_EQ(level, LogLevel::kFatal);
  EXPECT_FALSE(ParseLogLevel("WARN", &level));
  EXPECT_FALSE(ParseLogLevel("", &level));
}

TEST(LogField, Text_IsTheBareValue) {
  EXPECT_EQ(LogField("k", "v").text(), "v");
  EXPECT_EQ(LogField("k", 12).text(), "12");
  EXPECT_EQ(LogField("k", 0.1).json(), "0.1");
}

TEST(HexId, HasNoLeadingZeros) {
  EXPECT_EQ(HexId(0x8e9e05c52164694d), "8e9e05c52164694d");
  EXPECT_EQ(HexId(0xab), "ab");
  EXPECT_EQ(HexId(0), "0");
}

}  // namespace
}  // namespace kvd::base
