// Logging: one JSON object a line with etcd's keys (level, ts, caller, msg, then the fields), written by a
// background thread. A full queue drops the oldest lines and counts them; a request never waits for the log.
//
//   KVD_LOG(kInfo, "saved snapshot", {"snapshot-index", index}, {"path", path});
//
// Thread-safety: thread-safe. Before InitLogging, lines go to stderr synchronously at level info.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace kvd::base {

enum class LogLevel { kDebug, kInfo, kWarn, kError, kFatal };

// One key with a string, a number, a bool or a list of strings. Views must outlive the call only.
class LogField {
 public:
  LogField(std::string_view key, std::string_view value);
  LogField(std::string_view key, const char* value) : LogField(key, std::string_view(value)) {}
  LogField(std::string_view key, const std::string& value) : LogField(key, std::string_view(value)) {}
  LogField(std::string_view key, bool value);
  LogField(std::string_view key, int64_t value);
  LogField(std::string_view key, uint64_t value);
  LogField(std::string_view key, int value) : LogField(key, static_cast<int64_t>(value)) {}
  LogField(std::string_view key, unsigned value) : LogField(key, static_cast<uint64_t>(value)) {}
  LogField(std::string_view key, long long value) : LogField(key, static_cast<int64_t>(value)) {}
  LogField(std::string_view key, unsigned long long value) : LogField(key, static_cast<uint64_t>(value)) {}
  LogField(std::string_view key, double value);
  LogField(std::string_view key, const absl::Status& status);
  LogField(std::string_view key, const std::vector<std::string>& values);

  std::string_view key() const { return key_; }
  std::string_view json() const { return json_; }  // the value as JSON
  std::string_view text() const;                   // the value for the console format

 private:
  std::string_view key_;
  std::string json_;
};

struct LogOptions {
  LogLevel level = LogLevel::kInfo;
  enum class Format { kJson, kConsole } format = Format::kJson;
  // "default" and "stderr", "stdout", "systemd/journal" (stderr with priority prefixes), or a file's path.
  std::vector<std::string> outputs = {"default"};
  // Rotation of file outputs; 0 bytes: none.
  uint64_t rotate_bytes = 0;
  uint32_t rotate_keep_files = 0;  // 0: all
};

// Once per process, before threads log. Errors: kInvalidArgument for an output that cannot be opened.
absl::Status InitLogging(const LogOptions& options);
void SetLogLevel(LogLevel level);
// Writes out what is queued, waiting at most a second. Called before the process ends.
void FlushLogging();
bool LogEnabled(LogLevel level);
// `caller` is "file.cc:line". kFatal also flushes; it does not end the process.
void LogLine(LogLevel level, std::string_view caller, std::string_view message,
             std::initializer_list<LogField> fields);
// "debug", "info", "warn", "error", "panic", "fatal" (as etcd's --log-level).
bool ParseLogLevel(std::string_view text, LogLevel* level);

// A member and cluster ID as etcd prints it: lower-case hex without leading zeros.
std::string HexId(uint64_t id);

namespace log_internal {
// "src/base/log.cc" -> "base/log.cc"
constexpr std::string_view ShortPath(std::string_view path) {
  size_t last = path.rfind('/');
  if (last == std::string_view::npos) return path;
  size_t before = path.rfind('/', last - 1);
  return before == std::string_view::npos ? path : path.substr(before + 1);
}
std::string Caller(std::string_view short_path, int line);
}  // namespace log_internal

#define KVD_LOG(level_, message_, ...)                                                                 \
  do {                                                                                                 \
    if (::kvd::base::LogEnabled(::kvd::base::LogLevel::level_)) {                                      \
      ::kvd::base::LogLine(                                                                            \
          ::kvd::base::LogLevel::level_,                                                               \
          ::kvd::base::log_internal::Caller(::kvd::base::log_internal::ShortPath(__FILE__), __LINE__), \
          (message_), {__VA_ARGS__});                                                                  \
    }                                                                                                  \
  } while (false)

}  // namespace kvd::base
