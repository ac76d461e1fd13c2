// The subcommands of kvbench. Each reads its options, runs, and returns the report that is printed; an empty
// report means that it has failed and has said why on stderr.
//
// Thread-safety: one thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "load.h"
#include "options.h"
#include "process_stats.h"
#include "report.h"

namespace kvd::bench {

// What nearly every subcommand has: servers, connections, time.
struct Setup {
  // Reads --endpoints, --connections, --streams, --seconds, --warmup, --rate, --pids, --seed.
  explicit Setup(Options& options, int default_connections = 16, int default_streams = 16);

  const std::vector<std::string> endpoints;
  const int connections;
  const int streams;
  const double seconds;
  const double warmup;
  const double rate;
  const ProcessStats servers;
  const base::Random random;
  EventLoop loop;

  std::vector<std::unique_ptr<Connection>> Connect(int count, Connection::Windows windows = {});
};

// Ends the program with a message where the options hold something that nobody has asked for.
void RefuseUnknown(const Options& options);

// What a window has seen: rate, latencies, errors, and what the servers used for it.
void ReportWindow(const Load::Window& window, Report* report);

Report RunFill(Options& options);  // every key once, in order
Report RunPut(Options& options);
Report RunGet(Options& options);
Report RunTxn(Options& options);
Report RunList(Options& options);
Report RunApiserver(Options& options);  // kube-apiserver's mix
Report RunLeaseGrant(Options& options);
Report RunKeepAlive(Options& options);   // renewals of many leases on streams
Report RunWatch(Options& options);       // events to many watchers
Report RunCatchUp(Options& options);     // a watch from the past
Report RunDuring(Options& options);      // puts at a fixed rate: at rest, then beside something large
Report RunGap(Options& options);         // the longest time without an acknowledged put
Report RunIdle(Options& options);        // connections that do nothing
Report RunReady(Options& options);       // how long until a server answers a linearizable read
Report RunSlowReader(Options& options);  // lists that are asked for and not read

}  // namespace kvd::bench
