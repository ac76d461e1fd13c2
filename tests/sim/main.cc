// kvd-sim: runs seeds of simulated clusters, each in a process of its own, so that a broken invariant of one
// ends that one only.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>
#include <string_view>

#include "base/log.h"
#include "base/mutant.h"
#include "run.h"
#include "sim_sites.h"

namespace kvd::sim {
namespace {

struct Flags {
  uint64_t seed = 1;
  uint64_t seeds = 1;
  int jobs = 1;
  std::string log = "none";
  double until_s = 0;
  std::string mutant;
  bool keep_going = false;
  double budget_s = 0;  // start no new seed after this long
  // Print how often each named place was reached; with kRequired, one that never was fails the series.
  enum class Probes { kNo, kPrinted, kRequired };
  Probes probes = Probes::kNo;
  bool minute = false;  // one minute of three members under load, and what it costs
  std::string self;
};

constexpr int kFailed = 3;
constexpr unsigned kSecondsPerSeed = 300;

bool Take(std::string_view argument, std::string_view name, std::string* value) {
  if (!argument.starts_with(name) || argument.size() <= name.size() || argument[name.size()] != '=')
    return false;
  *value = std::string(argument.substr(name.size() + 1));
  return true;
}

bool Parse(int argc, char** argv, Flags* flags) {
  flags->self = argv[0];
  for (int i = 1; i < argc; ++i) {
    std::string value;
    std::string_view argument = argv[i];
    if (Take(argument, "--seed", &value)) {
      flags->seed = std::strtoull(value.c_str(), nullptr, 10);
    } else if (Take(argument, "--seeds", &value)) {
      flags->seeds = std::strtoull(value.c_str(), nullptr, 10);
    } else if (Take(argument, "--jobs", &value)) {
      flags->jobs = std::max(1, std::atoi(value.c_str()));
    } else if (Take(argument, "--log", &value) && (value == "none" || value == "events" || value == "full")) {
      flags->log = value;
    } else if (Take(argument, "--until", &value)) {
      flags->until_s = std::strtod(value.c_str(), nullptr);
    } else if (Take(argument, "--budget", &value)) {
      flags->budget_s = std::strtod(value.c_str(), nullptr);
    } else if (Take(argument, "--mutant", &value)) {
      flags->mutant = value;
    } else if (argument == "--keep-going") {
      flags->keep_going = true;
    } else if (argument == "--probes") {
      flags->probes = Flags::Probes::kPrinted;
    } else if (argument == "--probes=required") {
      flags->probes = Flags::Probes::kRequired;
    } else if (argument == "--minute") {
      flags->minute = true;
    } else {
      std::cerr
          << "kvd-sim: " << argument << "\n"
          << "usage: kvd-sim [--seed=N] [--seeds=K] [--jobs=J] [--log=none|events|full] [--until=SECONDS]\n"
             "               [--budget=SECONDS] [--keep-going] [--probes[=required]] [--mutant=NAME]\n"
             "       kvd-sim --minute\n";
      return false;
    }
  }
  return true;
}

std::string Replay(const Flags& flags, uint64_t seed) {
  std::string command = flags.self + " --seed=" + std::to_string(seed) + " --log=full";
  if (!flags.mutant.empty()) command += " --mutant=" + flags.mutant;
  return command;
}

// In the process of one seed; ends it.
[[noreturn]] void RunSeed(const Flags& flags, uint64_t seed) {
  base::SetLogLevel(flags.log == "full" ? base::LogLevel::kDebug : base::LogLevel::kFatal);
  alarm(kSecondsPerSeed);
  RunOptions options;
  options.log_events = flags.log != "none";
  options.until = base::Nanos(static_cast<int64_t>(flags.until_s * 1e9));
  Swarm swarm = DrawSwarm(seed);
  RunResult result = Run(swarm, options);
  if (!result.failed && seed % 20 == 0) {
    RunResult again = Run(swarm, {.log_events = false, .until = options.until});
    if (again.trace != result.trace) {
      result.failed = true;
      result.checker = "determinism";
      result.what = "two runs of the seed differ";
    }
  }
  if (result.failed) {
    std::cout << "seed " << seed << " FAILED [" << result.checker << "] " << result.what
              << "\n  replay: " << Replay(flags, seed) << std::endl;
    std::_Exit(kFailed);
  }
  if (flags.seeds == 1) {
    std::cout << "seed " << seed << " ok: " << result.requests << " requests, " << result.answered
              << " answered, " << result.revisions << " revisions, " << result.events << " events watched, "
              << result.terms << " leaders, " << result.faults << " faults, "
              << static_cast<double>(result.simulated.count()) / 1e9 << " s simulated, trace " << std::hex
              << result.trace << std::dec << std::endl;
  }
  std::cout.flush();
  std::_Exit(0);
}

// One simulated minute of three members under load, without faults. The bound is far above what it costs
// (below a second), so that only a simulation that has become useless fails it.
int RunMinute() {
  base::SetLogLevel(base::LogLevel::kFatal);
  Swarm swarm;
  swarm.duration = std::chrono::seconds(60);
  swarm.think = std::chrono::milliseconds(40);
  swarm.max_ops = UINT64_MAX;
  swarm.cluster.log_latency.max = std::chrono::milliseconds(5);
  RunResult result = Run(swarm, {});
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  double cpu = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  std::printf(
      "%.1f s simulated, %llu requests, %lld revisions, %llu events watched: %.2f s CPU, %.2f s for each "
      "minute%s\n",
      static_cast<double>(result.simulated.count()) / 1e9, static_cast<unsigned long long>(result.requests),
      static_cast<long long>(result.revisions), static_cast<unsigned long long>(result.events), cpu,
      cpu * 60e9 / static_cast<double>(result.simulated.count()),
      result.failed ? (" FAILED [" + result.checker + "] " + result.what).c_str() : "");
  constexpr double kMostSeconds = 10;
  return result.failed || cpu > kMostSeconds ? 1 : 0;
}

class Runner {
 public:
  explicit Runner(const Flags& flags) : flags_(flags) {}

  int Run() {
    started_ = std::chrono::steady_clock::now();
    uint64_t next = flags_.seed;
    uint64_t end = flags_.seed + flags_.seeds;
    while (next < end || !running_.empty()) {
      bool stop = (failed_ > 0 && !flags_.keep_going) || (flags_.budget_s > 0 && Seconds() > flags_.budget_s);
      if (next < end && !stop && running_.size() < static_cast<size_t>(flags_.jobs)) {
        std::cout.flush();
        pid_t child = fork();
        if (child == 0) RunSeed(flags_, next);
        if (child < 0) return 1;
        running_[child] = next++;
        continue;
      }
      if (running_.empty()) break;
      Reap();
    }
    if (flags_.seeds > 1) {
      rusage usage{};
      getrusage(RUSAGE_CHILDREN, &usage);
      std::printf("%llu seeds, %llu failed, %.0f seeds/min, %.1f s CPU\n",
                  static_cast<unsigned long long>(done_), static_cast<unsigned long long>(failed_),
                  static_cast<double>(done_) * 60 / Seconds(),
                  static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec));
    }
    bool reached = flags_.probes == Flags::Probes::kNo || PrintProbes();
    return failed_ == 0 && reached ? 0 : 1;
  }

 private:
  // False if one that is required was never hit.
  bool PrintProbes() const {
    size_t never = 0;
    for (size_t i = 0; i < SiteNames().size(); ++i) {
      uint64_t hits = SiteCounters::Shared().Get(i);
      if (hits == 0) ++never;
      std::printf("%12llu  %s%s\n", static_cast<unsigned long long>(hits),
                  std::string(SiteNames()[i]).c_str(), hits == 0 ? "   NEVER REACHED" : "");
    }
    std::printf("%zu of %zu places never reached\n", never, SiteNames().size());
    return never == 0 || flags_.probes != Flags::Probes::kRequired;
  }
  double Seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
  }
  void Reap() {
    int status = 0;
    pid_t child = wait(&status);
    auto it = running_.find(child);
    if (it == running_.end()) return;
    uint64_t seed = it->second;
    running_.erase(it);
    ++done_;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
    ++failed_;
    if (WIFEXITED(status) && WEXITSTATUS(status) == kFailed) return;  // has said what
    bool slow = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
    std::cout << "seed " << seed << " FAILED [" << (slow ? "too slow" : "invariant") << "] the process "
              << (WIFSIGNALED(status) ? "ended by signal " + std::to_string(WTERMSIG(status))
                                      : "exited with " + std::to_string(WEXITSTATUS(status)))
              << "\n  replay: " << Replay(flags_, seed) << std::endl;
  }

  const Flags flags_;
  std::map<pid_t, uint64_t> running_;
  std::chrono::steady_clock::time_point started_;
  uint64_t done_ = 0;
  uint64_t failed_ = 0;
};

}  // namespace
}  // namespace kvd::sim

int main(int argc, char** argv) {
  kvd::sim::Flags flags;
  if (!kvd::sim::Parse(argc, argv, &flags)) return 2;
  if (!flags.mutant.empty()) {
#ifdef KVD_MUTANTS
    kvd::base::ActivateMutant(flags.mutant);
#else
    std::cerr << "kvd-sim: this build has no planted bugs; `make mutants` makes one that has\n";
    return 2;
#endif
  }
  kvd::sim::SiteCounters::Shared();  // before the processes that share them
  if (flags.minute) return kvd::sim::RunMinute();
  return kvd::sim::Runner(flags).Run();
}
