#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <limits>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/strings.h"
#include "server/metrics/metrics.h"

namespace kvd::server {
namespace {

std::string FirstLine(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The fields of /proc/self/stat behind the command's name, which may itself hold blanks and brackets.
std::vector<std::string> StatFields() {
  const std::string line = FirstLine("/proc/self/stat");
  const size_t end = line.rfind(") ");
  if (end == std::string::npos) return {};
  return absl::StrSplit(line.substr(end + 2), ' ');
}

double Number(const std::vector<std::string>& fields, size_t index) {
  double value = 0;
  if (index < fields.size() && absl::SimpleAtod(fields[index], &value)) return value;
  return 0;
}

// When the machine was booted, in seconds since 1970.
double BootTime() {
  std::ifstream file("/proc/stat");
  std::string line;
  while (std::getline(file, line)) {
    double seconds = 0;
    if (line.rfind("btime ", 0) == 0 && absl::SimpleAtod(line.substr(6), &seconds)) return seconds;
  }
  return 0;
}

double OpenFiles() {
  DIR* dir = ::opendir("/proc/self/fd");
  if (dir == nullptr) return 0;
  double count = 0;
  while (const dirent* entry = ::readdir(dir)) {
    if (entry->d_name[0] != '.') ++count;
  }
  ::closedir(dir);
  return count - 1;  // without the one for reading the directory
}

double MaxFiles() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  return limit.rlim_cur == RLIM_INFINITY ? std::numeric_limits<double>::infinity()
                                         : static_cast<double>(limit.rlim_cur);
}

}  // namespace

void CollectProcessMetrics(MetricSink& sink) {
  const std::vector<std::string> fields = StatFields();
  const double ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
  // By proc(5): utime and stime are fields 14 and 15, starttime 22, vsize 23, rss 24; the first here is
  // field 3.
  sink.Counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.",
               (Number(fields, 11) + Number(fields, 12)) / ticks);
  sink.Gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.",
             BootTime() + Number(fields, 19) / ticks);
  sink.Gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", Number(fields, 20));
  sink.Gauge("process_resident_memory_bytes", "Resident memory size in bytes.",
             Number(fields, 21) * static_cast<double>(::sysconf(_SC_PAGESIZE)));
  const double open = OpenFiles();
  const double max = MaxFiles();
  sink.Gauge("process_open_fds", "Number of open file descriptors.", open);
  sink.Gauge("process_max_fds", "Maximum number of open file descriptors.", max);
  sink.Gauge("os_fd_used", "The number of used file descriptors.", open);
  sink.Gauge("os_fd_limit", "The file descriptor limit.", max);
}

}  // namespace kvd::server
