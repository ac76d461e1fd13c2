#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "apiserver_traffic.h"
#include "commands.h"
#include "kv_traffic.h"
#include "list_traffic.h"

namespace kvd::bench {
namespace {

// Warms up, measures, ends.
Load::Window RunLoad(Setup& setup, Traffic& traffic) {
  auto connections = setup.Connect(setup.connections);
  Load load(
      setup.loop, traffic,
      {.connections = &connections, .streams = setup.streams, .rate = setup.rate, .servers = &setup.servers});
  load.Start();
  if (setup.warmup > 0) load.Measure(setup.warmup);
  setup.servers.ResetPeaks();
  Load::Window window = load.Measure(setup.seconds);
  load.Finish();
  return window;
}

Report Measured(Setup& setup, Traffic& traffic) {
  Report report;
  ReportWindow(RunLoad(setup, traffic), &report);
  return report;
}

// One object for each window.
std::string Series(const std::vector<Load::Window>& windows) {
  std::string list;
  for (const Load::Window& window : windows) {
    Report part;
    part.Number("operations", static_cast<double>(window.operations)).Number("seconds", window.seconds);
    part.Latencies("", window.latency);
    list += (list.empty() ? "" : ", ") + part.Line();
  }
  return "[" + list + "]";
}

}  // namespace

Setup::Setup(Options& options, int default_connections, int default_streams)
    : endpoints(options.List("endpoints")),
      connections(static_cast<int>(options.Number("connections", default_connections))),
      streams(static_cast<int>(options.Number("streams", default_streams))),
      seconds(options.Real("seconds", 5)),
      warmup(options.Real("warmup", 1)),
      rate(options.Real("rate", 0)),
      servers(options.List("pids")),
      random(static_cast<uint64_t>(options.Number("seed", 1))) {
  if (endpoints.empty()) {
    std::fprintf(stderr, "kvbench: --endpoints HOST:PORT[,HOST:PORT...] is needed\n");
    std::exit(2);
  }
}

std::vector<std::unique_ptr<Connection>> Setup::Connect(int count, Connection::Windows windows) {
  return OpenAll(loop, endpoints, count, windows);
}

void RefuseUnknown(const Options& options) {
  const std::string complaint = options.Complaint();
  if (complaint.empty()) return;
  std::fprintf(stderr, "kvbench: %s\n", complaint.c_str());
  std::exit(2);
}

void ReportWindow(const Load::Window& window, Report* report) {
  const auto operations = static_cast<double>(window.operations);
  report->Number("operations", operations).Number("seconds", window.seconds);
  report->Number("ops_per_second", window.seconds > 0 ? operations / window.seconds : 0);
  report->Number("errors", static_cast<double>(window.errors));
  if (window.errors > 0) report->Text("first_error", window.first_error);
  report->Latencies("", window.latency);
  ReportUse(window.before, window.after, operations, report);
  if (operations > 0) report->Number("client_cpu_us_per_op", window.own_cpu_seconds * 1e6 / operations);
}

Report RunFill(Options& options) {
  Setup setup(options);
  const auto keys = static_cast<uint64_t>(options.Number("keys", 100'000));
  const auto value_bytes = static_cast<size_t>(options.Number("value", 256));
  const auto batch = static_cast<uint64_t>(std::max<int64_t>(1, options.Number("batch", 1)));
  const double series_seconds = options.Real("series", 0);
  RefuseUnknown(options);

  PutTraffic puts(setup.random, keys, KeyOrder::kSequential, value_bytes);
  TxnTraffic transactions(setup.random, keys, KeyOrder::kSequential, static_cast<int>(batch), value_bytes);
  Traffic& traffic = batch == 1 ? static_cast<Traffic&>(puts) : transactions;
  auto connections = setup.Connect(setup.connections);
  Load load(setup.loop, traffic,
            {.connections = &connections,
             .streams = setup.streams,
             .rate = setup.rate,
             .limit = (keys + batch - 1) / batch,
             .servers = &setup.servers});
  setup.servers.ResetPeaks();
  load.Start();
  std::vector<Load::Window> series;
  const Load::Window all = load.MeasureAll(series_seconds, &series);
  Report report;
  ReportWindow(all, &report);
  report.Number("keys_per_second", static_cast<double>(keys) / all.seconds);
  report.Number("revision",
                static_cast<double>(batch == 1 ? puts.last_revision() : transactions.last_revision()));
  if (series_seconds > 0) report.Raw("series", Series(series));
  return report;
}

Report RunPut(Options& options) {
  Setup setup(options);
  const auto keys = static_cast<uint64_t>(options.Number("keys", 100'000));
  const auto value_bytes = static_cast<size_t>(options.Number("value", 256));
  const KeyOrder order = options.Switch("sequential") ? KeyOrder::kSequential : KeyOrder::kRandom;
  RefuseUnknown(options);
  PutTraffic traffic(setup.random, keys, order, value_bytes);
  return Measured(setup, traffic);
}

Report RunGet(Options& options) {
  Setup setup(options);
  const auto keys = static_cast<uint64_t>(options.Number("keys", 100'000));
  const auto value_bytes = static_cast<size_t>(options.Number("value", 256));
  const bool serializable = options.Switch("serializable");
  RefuseUnknown(options);
  GetTraffic traffic(setup.random, keys, serializable, value_bytes);
  return Measured(setup, traffic);
}

Report RunTxn(Options& options) {
  Setup setup(options);
  const auto keys = static_cast<uint64_t>(options.Number("keys", 100'000));
  const auto value_bytes = static_cast<size_t>(options.Number("value", 256));
  const auto operations = static_cast<int>(options.Number("operations", 100));
  RefuseUnknown(options);
  TxnTraffic traffic(setup.random, keys, KeyOrder::kRandom, operations, value_bytes);
  return Measured(setup, traffic);
}

Report RunApiserver(Options& options) {
  Setup setup(options);
  const auto keys = static_cast<uint64_t>(options.Number("keys", 100'000));
  const auto value_bytes = static_cast<size_t>(options.Number("value", 1024));
  const double writes = options.Real("writes", 0.5);
  RefuseUnknown(options);
  ApiserverTraffic traffic(setup.random, {.keys = keys, .value_bytes = value_bytes, .writes = writes});
  auto connections = setup.Connect(setup.connections);
  {
    Load fill(setup.loop, traffic.creation(),
              {.connections = &connections, .streams = setup.streams, .limit = keys});
    fill.Start();
    if (const Load::Window filled = fill.MeasureAll(0, nullptr); filled.errors > 0) {
      std::fprintf(stderr, "kvbench: %s\n", filled.first_error.c_str());
      std::exit(1);
    }
  }
  Load load(
      setup.loop, traffic,
      {.connections = &connections, .streams = setup.streams, .rate = setup.rate, .servers = &setup.servers});
  load.Start();
  if (setup.warmup > 0) load.Measure(setup.warmup);
  setup.servers.ResetPeaks();
  traffic.Clear();
  Report report;
  ReportWindow(load.Measure(setup.seconds), &report);
  for (int kind = 0; kind < ApiserverTraffic::kKinds; ++kind) {
    report.Latencies(std::string(ApiserverTraffic::KindName(kind)) + "_", traffic.latency(kind));
  }
  load.Finish();
  return report;
}

Report RunList(Options& options) {
  Setup setup(options, 1, 1);
  ListTraffic::Config config;
  config.keys = static_cast<uint64_t>(options.Number("keys", 100'000));
  config.page = options.Number("page", 500);
  config.revision = options.Number("revision", 0);
  config.serializable = options.Switch("serializable");
  const std::string shape = options.Text("shape", "unary");
  RefuseUnknown(options);
  const std::optional<ListShape> parsed = ParseListShape(shape);
  if (!parsed) {
    std::fprintf(stderr, "kvbench: --shape unary|paged|stream|keys|count\n");
    std::exit(2);
  }
  config.shape = *parsed;

  ListTraffic traffic(config);
  auto connections = setup.Connect(setup.connections);
  Load load(
      setup.loop, traffic,
      {.connections = &connections, .streams = setup.streams, .rate = setup.rate, .servers = &setup.servers});
  load.Start();
  if (setup.warmup > 0) load.Measure(setup.warmup);
  setup.servers.ResetPeaks();
  traffic.Clear();
  const Load::Window window = load.Measure(setup.seconds);
  Report report;
  ReportWindow(window, &report);
  const auto bytes = static_cast<double>(traffic.bytes());
  report.Number("lists", static_cast<double>(traffic.lists())).Number("list_bytes", bytes);
  // The last list may have ended after the window: what came is set against the time until it had come.
  const double seconds = std::max(window.seconds, 1e-9);
  report.Number("mib_per_second", bytes / (1 << 20) / seconds);
  report.Number("keys_per_second", static_cast<double>(traffic.keys_seen()) / seconds);
  const double cpu = window.after.cpu_seconds - window.before.cpu_seconds;
  if (bytes > 0) report.Number("cpu_ns_per_byte", cpu * 1e9 / bytes);
  if (traffic.keys_seen() > 0)
    report.Number("cpu_ns_per_key", cpu * 1e9 / static_cast<double>(traffic.keys_seen()));
  if (traffic.first_chunk().count() > 0) report.Latencies("first_chunk_", traffic.first_chunk());
  load.Finish();
  return report;
}

Report RunLeaseGrant(Options& options) {
  Setup setup(options);
  const auto first = static_cast<uint64_t>(options.Number("first", 1));
  const int64_t ttl = options.Number("ttl", 3600);
  const auto count = static_cast<uint64_t>(options.Number("count", 0));
  RefuseUnknown(options);
  LeaseGrantTraffic traffic(first, ttl);
  if (count == 0) return Measured(setup, traffic);
  auto connections = setup.Connect(setup.connections);
  Load load(
      setup.loop, traffic,
      {.connections = &connections, .streams = setup.streams, .limit = count, .servers = &setup.servers});
  load.Start();
  Report report;
  ReportWindow(load.MeasureAll(0, nullptr), &report);
  return report;
}

}  // namespace kvd::bench
