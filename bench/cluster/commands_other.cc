#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>

#include "commands.h"
#include "kv_traffic.h"
#include "list_traffic.h"

namespace kvd::bench {
namespace {

constexpr uint64_t kNsPerMs = 1'000'000;

uint64_t AfterSeconds(double seconds) {
  return NowNs() + static_cast<uint64_t>(seconds * 1e9);
}

// Renewals on one stream: `outstanding` of them wait for their answers, which come in order.
class Renewals final : public Call {
 public:
  struct Shared {
    explicit Shared(base::Random source) : random(source) {}
    base::Random random;
    uint64_t first = 1, leases = 0;
    uint64_t window_begin_ns = kNever;
    bool stopping = false;
    uint64_t renewed = 0, lost = 0;
    Histogram latency;
  };
  Renewals(Connection& connection, Shared& shared, int outstanding) : shared_(shared) {
    connection.Start(method::kLeaseKeepAlive, this, /*half_close=*/false);
    for (int i = 0; i < outstanding; ++i) Renew();
  }
  void OnMessage(std::string_view message) override {
    const uint64_t now = NowNs();
    const std::optional<Field> ttl = Find(message, 3);
    if (!ttl || ttl->value == 0) ++shared_.lost;
    if (now >= shared_.window_begin_ns) {
      ++shared_.renewed;
      shared_.latency.Record(now - sent_ns_.front());
    }
    sent_ns_.pop_front();
    if (!shared_.stopping) Renew();
  }
  void OnEnd(int status, std::string_view) override {
    std::fprintf(stderr, "kvbench: a stream of renewals ended: %d\n", status);
    std::exit(1);
  }

 private:
  void Renew() {
    sent_ns_.push_back(NowNs());
    const uint64_t lease = shared_.first + shared_.random.Below(shared_.leases);
    Connection::Send(this, Frame(Encoder().Varint(1, lease).str()));
  }
  Shared& shared_;
  std::deque<uint64_t> sent_ns_;
};

// Compacts everything up to the last put.
class CompactTraffic final : public Traffic {
 public:
  explicit CompactTraffic(const PutTraffic& puts) : puts_(puts) {}
  void Prepare(Slot& slot) override {
    slot.path = &method::kCompact;
    FrameInto(&slot.request(), Encoder().Varint(1, static_cast<uint64_t>(puts_.last_revision())).str());
  }
  bool Accept(Slot&, std::string_view) override { return true; }

 private:
  const PutTraffic& puts_;
};

[[noreturn]] void GiveUp(const char* why) {
  std::fprintf(stderr, "kvbench: %s\n", why);
  std::exit(1);
}

// Runs `work` in another process until this object ends: what is large must not delay the clock of what is
// small.
class OtherProcess {
 public:
  explicit OtherProcess(const std::function<void()>& work) : pid_(fork()) {
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    work();
    _exit(0);
  }
  ~OtherProcess() {
    if (ended_) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  OtherProcess(const OtherProcess&) = delete;
  OtherProcess& operator=(const OtherProcess&) = delete;

  bool StillRuns() {
    ended_ = pid_ < 0 || waitpid(pid_, nullptr, WNOHANG) != 0;
    return !ended_;
  }

 private:
  const pid_t pid_;
  bool ended_ = false;
};

class SnapshotTraffic final : public Traffic {
 public:
  void Prepare(Slot& slot) override {
    slot.path = &method::kSnapshot;
    FrameInto(&slot.request(), "");
  }
  bool Accept(Slot&, std::string_view) override { return true; }
};

// Lists, or snapshots, one after the other; returns once one has failed.
void RepeatForever(const Setup& setup, const std::string& activity, uint64_t keys) {
  EventLoop loop;
  ListTraffic lists({.shape = ListShape::kUnary, .keys = keys});
  SnapshotTraffic snapshots;
  Traffic& traffic = activity == "snapshot" ? static_cast<Traffic&>(snapshots) : lists;
  auto connections = OpenAll(loop, setup.endpoints, 1);
  Load load(loop, traffic, {.connections = &connections});
  load.Start();
  while (load.Measure(1).errors == 0) {
  }
}

}  // namespace

Report RunKeepAlive(Options& options) {
  Setup setup(options, 16, 1);
  const auto outstanding = static_cast<int>(options.Number("outstanding", 16));
  Renewals::Shared shared(setup.random);
  shared.first = static_cast<uint64_t>(options.Number("first", 1));
  shared.leases = static_cast<uint64_t>(options.Number("leases", 100'000));
  RefuseUnknown(options);

  auto connections = setup.Connect(setup.connections);
  std::vector<std::unique_ptr<Renewals>> streams;
  streams.reserve(static_cast<size_t>(setup.connections) * static_cast<size_t>(setup.streams));
  for (int i = 0; i < setup.connections * setup.streams; ++i) {
    streams.push_back(std::make_unique<Renewals>(*connections[static_cast<size_t>(i % setup.connections)],
                                                 shared, outstanding));
  }
  const auto run = [&](double seconds) {
    const uint64_t until = AfterSeconds(seconds);
    while (NowNs() < until) setup.loop.RunOnce(until);
  };
  run(setup.warmup);
  setup.servers.ResetPeaks();
  const ProcessUse before = setup.servers.Sample();
  shared.window_begin_ns = NowNs();
  run(setup.seconds);
  const double seconds = static_cast<double>(NowNs() - shared.window_begin_ns) / 1e9;
  const ProcessUse after = setup.servers.Sample();
  Report report;
  const auto renewed = static_cast<double>(shared.renewed);
  report.Number("operations", renewed).Number("seconds", seconds).Number("ops_per_second", renewed / seconds);
  report.Number("errors", static_cast<double>(shared.lost)).Latencies("", shared.latency);
  ReportUse(before, after, renewed, &report);
  connections.clear();
  return report;
}

Report RunDuring(Options& options) {
  Setup setup(options, 4, 64);
  const auto keys = static_cast<uint64_t>(options.Number("keys", 100'000));
  const auto value_bytes = static_cast<size_t>(options.Number("value", 256));
  const std::string activity = options.Text("activity", "list");
  const double every = options.Real("every", 2);
  RefuseUnknown(options);

  PutTraffic puts(setup.random, keys, KeyOrder::kRandom, value_bytes);
  auto connections = setup.Connect(setup.connections);
  Load load(setup.loop, puts,
            {.connections = &connections,
             .streams = setup.streams,
             .rate = setup.rate > 0 ? setup.rate : 1000,
             .servers = &setup.servers});
  load.Start();
  if (setup.warmup > 0) load.Measure(setup.warmup);
  setup.servers.ResetPeaks();
  const Load::Window rest = load.Measure(setup.seconds);

  CompactTraffic compactions(puts);
  auto other_connections = setup.Connect(1);
  Load beside(setup.loop, compactions, {.connections = &other_connections, .rate = 1 / every});
  std::unique_ptr<OtherProcess> other;
  if (activity == "compact") {
    load.set_beside(&beside);
    beside.Start();
  } else {
    other = std::make_unique<OtherProcess>([&] { RepeatForever(setup, activity, keys); });
  }
  setup.servers.ResetPeaks();
  const Load::Window busy = load.Measure(setup.seconds);
  if (other != nullptr && !other->StillRuns()) GiveUp("what was to run beside the puts has ended");
  other.reset();
  beside.Finish();
  load.Finish();

  Report report;
  ReportWindow(busy, &report);
  report.Latencies("rest_", rest.latency);
  report.Number("rest_errors", static_cast<double>(rest.errors));
  const auto p99 = static_cast<double>(rest.latency.Percentile(99));
  report.Number("p99_ratio", p99 > 0 ? static_cast<double>(busy.latency.Percentile(99)) / p99 : 0);
  return report;
}

Report RunIdle(Options& options) {
  Setup setup(options, 1000, 1);
  RefuseUnknown(options);
  const ProcessUse alone = setup.servers.Sample();
  auto connections = setup.Connect(setup.connections);
  const auto run = [&](double seconds) {
    const uint64_t until = AfterSeconds(seconds);
    while (NowNs() < until) setup.loop.RunOnce(until);
  };
  run(setup.warmup);
  const ProcessUse before = setup.servers.Sample();
  const uint64_t begin = NowNs();
  run(setup.seconds);
  const double seconds = static_cast<double>(NowNs() - begin) / 1e9;
  const ProcessUse after = setup.servers.Sample();
  const auto alive =
      std::count_if(connections.begin(), connections.end(), [](auto& c) { return c->alive(); });
  Report report;
  report.Number("connections", static_cast<double>(alive)).Number("seconds", seconds);
  report.Number("cpu_percent", (after.cpu_seconds - before.cpu_seconds) / seconds * 100);
  report.Number("kib_per_connection",
                (static_cast<double>(after.resident_bytes) - static_cast<double>(alone.resident_bytes)) /
                    1024 / std::max(1.0, static_cast<double>(alive)));
  ReportUse(before, after, 0, &report);
  return report;
}

Report RunSlowReader(Options& options) {
  Setup setup(options, 16, 1);
  const auto keys = static_cast<uint64_t>(options.Number("keys", 100'000));
  const bool stream = options.Switch("stream");
  RefuseUnknown(options);
  ListTraffic lists({.shape = stream ? ListShape::kStream : ListShape::kUnary, .keys = keys});
  const ProcessUse before = setup.servers.Sample();
  setup.servers.ResetPeaks();
  // gRPC's smallest window, and nothing after it.
  auto connections = setup.Connect(setup.connections,
                                   {.stream_bytes = 65'535, .connection_bytes = 65'535, .open_again = false});
  Load load(setup.loop, lists, {.connections = &connections, .streams = setup.streams});
  load.Start();
  load.RunUntil(AfterSeconds(setup.seconds));
  const ProcessUse after = setup.servers.Sample();
  Report report;
  report.Number("seconds", setup.seconds);
  const auto more = static_cast<double>(after.peak_bytes) - static_cast<double>(before.resident_bytes);
  report.Number("more_mib", more / (1 << 20));
  ReportUse(before, after, 0, &report);
  load.Stop();
  return report;
}

Report RunReady(Options& options) {
  Setup setup(options, 1, 1);
  const double timeout = options.Real("timeout", 300);
  RefuseUnknown(options);
  class Probe final : public Call {
   public:
    void OnMessage(std::string_view) override {}
    void OnEnd(int status, std::string_view) override { served = status == kOk; }
    bool served = false;
  } probe;
  const uint64_t begin = NowNs();
  const uint64_t give_up = AfterSeconds(timeout);
  double connected_ms = 0;
  const std::string request = Frame(RangeMessage({.key = kKeyPrefix}));
  std::unique_ptr<Connection> connection;
  while (!probe.served && NowNs() < give_up) {
    if (connection == nullptr || !connection->alive()) {
      connection = Connection::Open(setup.loop, setup.endpoints.front(), {});
      if (connection != nullptr) connected_ms = static_cast<double>(NowNs() - begin) / 1e6;
    }
    if (connection != nullptr && !probe.open()) {
      probe.request() = request;
      connection->Start(method::kRange, &probe);
    }
    setup.loop.RunOnce(NowNs() + 2 * kNsPerMs);
  }
  Report report;
  report.Number("served", probe.served ? 1 : 0);
  report.Number("connected_ms", connected_ms);
  report.Number("ready_ms", static_cast<double>(NowNs() - begin) / 1e6);
  ReportUse({}, setup.servers.Sample(), 0, &report);
  connection.reset();
  return report;
}

}  // namespace kvd::bench
