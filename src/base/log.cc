#include "base/log.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/strings.h"
#include "spdlog/async_logger.h"
#include "spdlog/details/thread_pool.h"
#include "spdlog/pattern_formatter.h"
#include "spdlog/sinks/base_sink.h"
#include "spdlog/sinks/basic_file_sink.h"
#include "spdlog/sinks/rotating_file_sink.h"
#include "spdlog/sinks/stdout_sinks.h"

namespace kvd::base {
namespace {

constexpr size_t kQueueLines = 8192;
constexpr auto kFlushLimit = std::chrono::seconds(1);

constexpr std::string_view kLevelNames[] = {"debug", "info", "warn", "error", "fatal"};

std::string_view NameOf(LogLevel level) {
  return kLevelNames[static_cast<size_t>(level)];
}

spdlog::level::level_enum SpdlogLevel(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kFatal:
      return spdlog::level::critical;
  }
  return spdlog::level::info;
}

// True for a byte that starts or continues no valid UTF-8 sequence at `text[i]`; `*length` is the sequence's
// length.
bool InvalidUtf8(std::string_view text, size_t i, size_t* length) {
  const auto byte = [&](size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned char first = byte(i);
  *length = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first >= 0x80 && (first < 0xc2 || first > 0xf4)) return true;
  if (i + *length > text.size()) return true;
  for (size_t k = 1; k < *length; ++k) {
    if ((byte(i + k) & 0xc0) != 0x80) return true;
  }
  if (*length == 3) return (first == 0xe0 && byte(i + 1) < 0xa0) || (first == 0xed && byte(i + 1) > 0x9f);
  if (*length == 4) return (first == 0xf0 && byte(i + 1) < 0x90) || (first == 0xf4 && byte(i + 1) > 0x8f);
  return false;
}

void AppendJsonString(std::string& out, std::string_view text) {
  out.push_back('"');
  for (size_t i = 0; i < text.size();) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    size_t length;
    if (InvalidUtf8(text, i, &length)) {
      out.append("\\ufffd");
      ++i;
      continue;
    }
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(text[i]);
    } else if (c == '\n') {
      out.append("\\n");
    } else if (c == '\r') {
      out.append("\\r");
    } else if (c == '\t') {
      out.append("\\t");
    } else if (c < 0x20) {
      absl::StrAppendFormat(&out, "\\u%04x", c);
    } else {
      out.append(text.substr(i, length));
    }
    i += length;
  }
  out.push_back('"');
}

std::string JsonString(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 2);
  AppendJsonString(out, text);
  return out;
}

// Local time as Go's layout 2006-01-02T15:04:05.999999Z0700 prints it: microseconds without trailing zeros.
std::string TimestampNow() {
  static const absl::TimeZone* const zone = new absl::TimeZone(absl::LocalTimeZone());
  const absl::Time now = absl::FromUnixNanos(SystemClock().Wall().count());
  std::string out = absl::FormatTime("%Y-%m-%dT%H:%M:%S", now, *zone);
  const int64_t micros = absl::ToUnixMicros(now) % 1'000'000;
  if (micros != 0) {
    absl::StrAppendFormat(&out, ".%06d", micros);
    while (out.back() == '0') out.pop_back();
  }
  const std::string offset = absl::FormatTime("%z", now, *zone);
  return StrCat(out, offset == "+0000" ? "Z" : offset);
}

std::string FormatLine(LogOptions::Format format, LogLevel level, std::string_view caller,
                       std::string_view message, std::initializer_list<LogField> fields) {
  std::string line;
  line.reserve(160 + message.size());
  if (format == LogOptions::Format::kConsole) {
    StrAppend(&line, TimestampNow(), "\t", NameOf(level), "\t", caller, "\t", message);
    if (fields.size() > 0) line.append("\t{");
  } else {
    StrAppend(&line, "{\"level\":\"", NameOf(level), "\",\"ts\":\"", TimestampNow(), "\",\"caller\":");
    AppendJsonString(line, caller);
    line.append(",\"msg\":");
    AppendJsonString(line, message);
    if (fields.size() > 0) line.push_back(',');
  }
  bool first = true;
  for (const LogField& field : fields) {
    if (!first) line.push_back(',');
    first = false;
    AppendJsonString(line, field.key());
    line.push_back(':');
    line.append(field.json());
  }
  if (format == LogOptions::Format::kJson || fields.size() > 0) line.push_back('}');
  return line;
}

void WriteToStderr(std::string line) {
  line.push_back('\n');
  std::string_view left = line;
  while (!left.empty()) {
    const ssize_t wrote = write(STDERR_FILENO, left.data(), left.size());
    if (wrote <= 0) return;
    left.remove_prefix(static_cast<size_t>(wrote));
  }
}

// Lines to stderr as systemd's journal reads them: "<priority>" before each.
class JournalSink final : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 protected:
  void sink_it_(const spdlog::details::log_msg& msg) override {
    int priority = 6;
    if (msg.level == spdlog::level::debug) priority = 7;
    if (msg.level == spdlog::level::warn) priority = 4;
    if (msg.level == spdlog::level::err) priority = 3;
    if (msg.level == spdlog::level::critical) priority = 2;
    WriteToStderr(StrCat("<", priority, ">", std::string_view(msg.payload.data(), msg.payload.size())));
  }
  void flush_() override {}
};

// Counts the lines that every other sink has written and flushed; it is the last of a logger's sinks.
class CountingSink final : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  uint64_t Written() {
    std::lock_guard<std::mutex> lock(written_mutex_);
    return written_;
  }
  // Waits until `Written() >= target()` or the limit has passed.
  template <typename Target>
  void WaitFor(Target target) {
    std::unique_lock<std::mutex> lock(written_mutex_);
    changed_.wait_for(lock, kFlushLimit, [&] { return written_ >= target(); });
  }

 protected:
  void sink_it_(const spdlog::details::log_msg&) override {}
  void flush_() override {
    std::lock_guard<std::mutex> lock(written_mutex_);
    ++written_;
    changed_.notify_all();
  }

 private:
  std::mutex written_mutex_;
  std::condition_variable changed_;
  uint64_t written_ = 0;
};

struct Backend {
  LogOptions::Format format;
  std::shared_ptr<spdlog::details::thread_pool> pool;
  std::shared_ptr<CountingSink> counter;
  std::shared_ptr<spdlog::async_logger> logger;
  std::atomic<uint64_t> submitted{0};
  std::atomic<uint64_t> drops_reported{0};
};

std::atomic<LogLevel> g_level{LogLevel::kInfo};
std::atomic<Backend*> g_backend{nullptr};

absl::StatusOr<spdlog::sink_ptr> OpenOutput(const std::string& output, const LogOptions& options) {
  try {
    if (output == "default" || output == "stderr") return std::make_shared<spdlog::sinks::stderr_sink_mt>();
    if (output == "stdout") return std::make_shared<spdlog::sinks::stdout_sink_mt>();
    if (output == "systemd/journal") return std::make_shared<JournalSink>();
    if (options.rotate_bytes > 0) {
      constexpr uint32_t kAll = 200000;  // the most that spdlog takes
      const uint32_t keep = options.rotate_keep_files == 0 ? kAll : std::min(options.rotate_keep_files, kAll);
      return std::make_shared<spdlog::sinks::rotating_file_sink_mt>(output, options.rotate_bytes, keep);
    }
    return std::make_shared<spdlog::sinks::basic_file_sink_mt>(output);
  } catch (const spdlog::spdlog_ex& e) {
    return absl::InvalidArgumentError(StrCat("cannot open log output \"", output, "\": ", e.what()));
  }
}

void Submit(Backend& backend, LogLevel level, const std::string& line) {
  backend.submitted.fetch_add(1, std::memory_order_relaxed);
  backend.logger->log(SpdlogLevel(level), spdlog::string_view_t(line.data(), line.size()));
}

// Says how many lines the full queue has dropped, once it has room again.
void ReportDrops(Backend& backend) {
  const uint64_t dropped = backend.pool->overrun_counter();
  uint64_t reported = backend.drops_reported.load(std::memory_order_relaxed);
  if (dropped <= reported || backend.pool->queue_size() > kQueueLines / 2) return;
  if (!backend.drops_reported.compare_exchange_strong(reported, dropped)) return;
  Submit(backend, LogLevel::kWarn,
         FormatLine(backend.format, LogLevel::kWarn, "base/log.cc:0", "log lines dropped",
                    {{"count", dropped - reported}}));
}

void FlushBackend(Backend& backend) {
  const uint64_t target = backend.submitted.load();
  backend.counter->WaitFor([&] {
    const uint64_t dropped = backend.pool->overrun_counter();
    return target > dropped ? target - dropped : 0;
  });
}

}  // namespace

LogField::LogField(std::string_view key, std::string_view value) : key_(key), json_(JsonString(value)) {}
LogField::LogField(std::string_view key, bool value) : key_(key), json_(value ? "true" : "false") {}
LogField::LogField(std::string_view key, int64_t value) : key_(key), json_(StrCat(value)) {}
LogField::LogField(std::string_view key, uint64_t value) : key_(key), json_(StrCat(value)) {}
LogField::LogField(std::string_view key, double value) : key_(key), json_(absl::StrFormat("%.17g", value)) {
  // The shortest text that reads back as the same number; JSON has no infinities and no NaN.
  for (int digits = 1; digits < 17; ++digits) {
    std::string shorter = absl::StrFormat("%.*g", digits, value);
    double back;
    if (absl::SimpleAtod(shorter, &back) && back == value) {
      json_ = std::move(shorter);
      break;
    }
  }
  if (json_.find_first_of("in") != std::string::npos) json_ = JsonString(json_);
}
LogField::LogField(std::string_view key, const absl::Status& status)
    : key_(key), json_(JsonString(status.ok() ? std::string_view("OK") : FromAbsl(status.message()))) {}
LogField::LogField(std::string_view key, const std::vector<std::string>& values) : key_(key), json_("[") {
  for (const std::string& value : values) {
    if (json_.size() > 1) json_.push_back(',');
    AppendJsonString(json_, value);
  }
  json_.push_back(']');
}

std::string_view LogField::text() const {
  std::string_view text = json_;
  if (text.size() >= 2 && text.front() == '"') text = text.substr(1, text.size() - 2);
  return text;
}

absl::Status InitLogging(const LogOptions& options) {
  auto backend = std::make_unique<Backend>();
  backend->format = options.format;
  std::vector<spdlog::sink_ptr> sinks;
  for (const std::string& output : options.outputs) {
    auto sink = OpenOutput(output, options);
    if (!sink.ok()) return sink.status();
    sinks.push_back(*std::move(sink));
  }
  backend->counter = std::make_shared<CountingSink>();
  sinks.push_back(backend->counter);
  backend->pool = std::make_shared<spdlog::details::thread_pool>(kQueueLines, 1, [] {
    pthread_setname_np(pthread_self(), "kvd-log");
    sigset_t all;  // signals are for the threads that wait for them
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
  });
  backend->logger = std::make_shared<spdlog::async_logger>("kvd", sinks.begin(), sinks.end(), backend->pool,
                                                           spdlog::async_overflow_policy::overrun_oldest);
  backend->logger->set_level(spdlog::level::trace);
  backend->logger->flush_on(spdlog::level::trace);
  backend->logger->set_formatter(
      std::make_unique<spdlog::pattern_formatter>("%v", spdlog::pattern_time_type::utc));
  SetLogLevel(options.level);
  FlushLogging();
  // Neither this one nor one before it is destroyed: a thread may be logging through it until the process
  // ends.
  static std::mutex* const mutex = new std::mutex;
  static auto* const all = new std::vector<Backend*>;
  std::lock_guard<std::mutex> lock(*mutex);
  if (all->empty()) std::atexit(FlushLogging);
  all->push_back(backend.get());
  g_backend.store(backend.release(), std::memory_order_release);
  return absl::OkStatus();
}

void SetLogLevel(LogLevel level) {
  g_level.store(level, std::memory_order_relaxed);
}

bool LogEnabled(LogLevel level) {
  return level >= g_level.load(std::memory_order_relaxed);
}

void FlushLogging() {
  if (Backend* backend = g_backend.load(std::memory_order_acquire)) FlushBackend(*backend);
}

void LogLine(LogLevel level, std::string_view caller, std::string_view message,
             std::initializer_list<LogField> fields) {
  Backend* backend = g_backend.load(std::memory_order_acquire);
  if (backend == nullptr) {
    WriteToStderr(FormatLine(LogOptions::Format::kJson, level, caller, message, fields));
    return;
  }
  ReportDrops(*backend);
  Submit(*backend, level, FormatLine(backend->format, level, caller, message, fields));
  if (level == LogLevel::kFatal) FlushBackend(*backend);
}

bool ParseLogLevel(std::string_view text, LogLevel* level) {
  if (text == "panic" || text == "dpanic") {
    *level = LogLevel::kFatal;
    return true;
  }
  for (size_t i = 0; i < std::size(kLevelNames); ++i) {
    if (text == kLevelNames[i]) {
      *level = static_cast<LogLevel>(i);
      return true;
    }
  }
  return false;
}

std::string HexId(uint64_t id) {
  return StrCat(absl::Hex(id));
}

namespace log_internal {
std::string Caller(std::string_view short_path, int line) {
  return StrCat(short_path, ":", line);
}
}  // namespace log_internal

}  // namespace kvd::base
