// kvbench: puts load on an etcd or a kvd and prints what came of it as one line of JSON.
//
//   kvbench SUBCOMMAND --endpoints HOST:PORT[,...] [--connections N] [--streams N] [--seconds S] [--warmup S]
//           [--rate CALLS/S] [--pids PID,...] [--seed N] ...
//
// One thread; the calls in flight are connections x streams. Without --rate the loop is closed; with it calls
// are due at that rate, and latencies count from when a call was due. --pids: the servers, whose use of CPU,
// memory and disk is reported too.
#include <cstdio>
#include <map>
#include <string>

#include "commands.h"

namespace {

using kvd::bench::Options;
using kvd::bench::Report;

struct Command {
  Report (*run)(Options&);
  const char* help;
};

const std::map<std::string, Command>& Commands() {
  static const std::map<std::string, Command> commands = {
      {"fill",
       {kvd::bench::RunFill, "each key once, in order: --keys --value [--batch N] [--series SECONDS]"}},
      {"put", {kvd::bench::RunPut, "--keys --value [--sequential]"}},
      {"get", {kvd::bench::RunGet, "--keys --value [--serializable]"}},
      {"txn", {kvd::bench::RunTxn, "transactions of puts: --keys --value --operations"}},
      {"list",
       {kvd::bench::RunList,
        "--shape unary|paged|stream|keys|count --keys [--page] [--revision] [--serializable]"}},
      {"apiserver", {kvd::bench::RunApiserver, "kube-apiserver's mix: --keys --value --writes PART"}},
      {"lease-grant", {kvd::bench::RunLeaseGrant, "--first ID --ttl [--count]"}},
      {"keepalive", {kvd::bench::RunKeepAlive, "--first ID --leases --outstanding"}},
      {"watch",
       {kvd::bench::RunWatch,
        "--watchers --keys --value; without --rate, a put follows once all have the one before"}},
      {"catch-up", {kvd::bench::RunCatchUp, "a watch from the past: --from REVISION --events"}},
      {"during",
       {kvd::bench::RunDuring,
        "puts at rest, then beside --activity list|compact|snapshot: --keys --value [--every S]"}},
      {"gap", {kvd::bench::RunGap, "the longest time without an acknowledged put, on any of the endpoints"}},
      {"idle", {kvd::bench::RunIdle, "--connections that do nothing"}},
      {"ready", {kvd::bench::RunReady, "waits for a linearizable read: --timeout S"}},
      {"slow-reader", {kvd::bench::RunSlowReader, "lists that nobody reads: --keys [--stream]"}},
  };
  return commands;
}

}  // namespace

int main(int argc, char** argv) {
  const auto found = argc < 2 ? Commands().end() : Commands().find(argv[1]);
  if (found == Commands().end()) {
    std::fprintf(stderr,
                 "usage: kvbench SUBCOMMAND --endpoints HOST:PORT[,...] [--connections N] [--streams N]\n"
                 "         [--seconds S] [--warmup S] [--rate CALLS/S] [--pids PID,...] [--seed N] ...\n");
    for (const auto& [name, command] : Commands())
      std::fprintf(stderr, "  %-12s %s\n", name.c_str(), command.help);
    return 2;
  }
  Options options(argc - 2, argv + 2);
  std::puts(found->second.run(options).Line().c_str());
  return 0;
}
