#include "process_stats.h"

#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

namespace kvd::bench {
namespace {

double CpuSeconds(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/stat");
  std::string line;
  std::getline(file, line);
  const size_t name_end = line.rfind(')');  // the name may hold spaces
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(line.substr(name_end + 2));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  double user = 0, system = 0;
  fields >> user >> system;
  return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

// The number after `name` in a file of "name: number" lines.
uint64_t Line(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(name, 0) == 0) return std::stoull(line.substr(name.size()));
  }
  return 0;
}

}  // namespace

ProcessUse ProcessStats::Sample() const {
  ProcessUse use;
  for (const std::string& pid : pids_) {
    use.cpu_seconds += CpuSeconds(pid);
    use.resident_bytes += Line("/proc/" + pid + "/status", "VmRSS:") * 1024;
    use.peak_bytes += Line("/proc/" + pid + "/status", "VmHWM:") * 1024;
    use.written_bytes += Line("/proc/" + pid + "/io", "write_bytes:");
  }
  return use;
}

void ProcessStats::ResetPeaks() const {
  for (const std::string& pid : pids_) std::ofstream("/proc/" + pid + "/clear_refs") << 5;
}

double OwnCpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

void ReportUse(const ProcessUse& before, const ProcessUse& after, double operations, Report* report) {
  const double cpu = after.cpu_seconds - before.cpu_seconds;
  const auto written = static_cast<double>(after.written_bytes - before.written_bytes);
  report->Number("cpu_seconds", cpu);
  report->Number("peak_mib", static_cast<double>(after.peak_bytes) / (1 << 20));
  report->Number("resident_mib", static_cast<double>(after.resident_bytes) / (1 << 20));
  report->Number("written_mib", written / (1 << 20));
  if (operations <= 0) return;
  report->Number("cpu_us_per_op", cpu * 1e6 / operations);
  report->Number("written_bytes_per_op", written / operations);
}

}  // namespace kvd::bench
