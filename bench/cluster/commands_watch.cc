#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "commands.h"
#include "kv_traffic.h"
#include "watch_client.h"

namespace kvd::bench {
namespace {

constexpr uint64_t kNsPerSecond = 1'000'000'000;
constexpr uint64_t kPatienceNs = 60 * kNsPerSecond;

// Watches and the puts that they see: a value begins with the time when its put was due.
class FanOut final : public WatchSink, public Traffic {
 public:
  FanOut(base::Random random, uint64_t watchers, uint64_t keys, size_t value_bytes)
      : random_(random.Split("keys")),
        watchers_(watchers),
        keys_(keys),
        values_(random.Split("values"), std::max(value_bytes, sizeof(uint64_t))) {
    const std::string key = KeyOf(0);
    const std::string value(values_.Next());
    template_ = PatchedRequest(PutMessage(key, value), key, value);
    value_.resize(value.size());
  }

  void OnCreated() override { ++created_; }
  void OnEvent(std::string_view value) override {
    if (value.size() < sizeof(uint64_t)) return;
    uint64_t due = 0;
    std::memcpy(&due, value.data(), sizeof due);
    --outstanding_;
    ++delivered_;
    if (due >= window_begin_ns_ && due < window_end_ns_) latency_.Record(NowNs() - due);
  }

  void Init(Slot& slot) override { slot.request() = template_.frame(); }
  void Prepare(Slot& slot) override {
    slot.path = &method::kPut;
    const uint64_t key = random_.Below(keys_);
    // Watcher i watches key i modulo keys.
    outstanding_ += static_cast<int64_t>(watchers_ / keys_ + (key < watchers_ % keys_ ? 1 : 0));
    template_.SetKey(&slot.request(), key);
    value_ = values_.Next();
    const uint64_t due = slot.due_ns();
    std::memcpy(value_.data(), &due, sizeof due);
    template_.SetValue(&slot.request(), value_);
    ++puts_;
  }
  bool Accept(Slot&, std::string_view message) override { return HeaderRevision(message) > 0; }
  void Finish(Slot&, bool ok) override {
    if (ok) return;
    std::fprintf(stderr, "kvbench: a put failed\n");
    std::exit(1);
  }

  void SetWindow(uint64_t begin, uint64_t end) {
    window_begin_ns_ = begin;
    window_end_ns_ = end;
  }
  uint64_t created() const { return created_; }
  uint64_t delivered() const { return delivered_; }
  uint64_t puts() const { return puts_; }
  int64_t outstanding() const { return outstanding_; }  // deliveries that are still to come
  const Histogram& latency() const { return latency_; }

 private:
  base::Random random_;
  const uint64_t watchers_;
  const uint64_t keys_;
  ValueSource values_;
  std::string value_;
  PatchedRequest template_;
  uint64_t window_begin_ns_ = kNever, window_end_ns_ = kNever;
  uint64_t created_ = 0, delivered_ = 0, puts_ = 0;
  int64_t outstanding_ = 0;
  Histogram latency_;
};

// Runs until `done` or until patience ends; false then.
template <typename Done>
bool RunUntilDone(EventLoop& loop, uint64_t patience_ns, Done done) {
  const uint64_t give_up = NowNs() + patience_ns;
  while (!done()) {
    if (NowNs() >= give_up) return false;
    loop.RunOnce(give_up);
  }
  return true;
}

[[noreturn]] void Fail(const char* why) {
  std::fprintf(stderr, "kvbench: %s\n", why);
  std::exit(1);
}

using WatchStreams = std::vector<std::unique_ptr<WatchStream>>;

void AddWatches(Setup& setup, FanOut& fan_out, WatchStreams& streams, uint64_t watchers, uint64_t keys) {
  for (uint64_t i = 0; i < watchers; ++i) {
    // Neighbours on different streams, and all the watches of a key spread over all of them.
    const size_t stream = (i / keys + i % keys) % streams.size();
    streams[stream]->Add(KeyOf(i % keys), "", 0);
  }
  if (!RunUntilDone(setup.loop, kPatienceNs, [&] { return fan_out.created() == watchers; })) {
    Fail("the watches are not created in time");
  }
}

// Puts until `until`: at the load's rate, or each once all of the one before has been delivered.
void RunPuts(Setup& setup, FanOut& fan_out, Load& load, uint64_t until) {
  while (NowNs() < until) {
    uint64_t due = kNever;
    if (setup.rate > 0 || fan_out.outstanding() == 0) due = load.Poll();
    setup.loop.RunOnce(std::min(due, until));
  }
}

}  // namespace

Report RunWatch(Options& options) {
  Setup setup(options, 10, 10);
  const auto watchers = static_cast<uint64_t>(options.Number("watchers", 10'000));
  const auto keys = static_cast<uint64_t>(options.Number("keys", 1));
  const auto value_bytes = static_cast<size_t>(options.Number("value", 256));
  RefuseUnknown(options);

  FanOut fan_out(setup.random, watchers, keys, value_bytes);
  auto watching = setup.Connect(setup.connections);
  WatchStreams streams;
  for (int i = 0; i < setup.connections * setup.streams; ++i) {
    streams.push_back(
        std::make_unique<WatchStream>(*watching[static_cast<size_t>(i % setup.connections)], fan_out));
  }
  AddWatches(setup, fan_out, streams, watchers, keys);

  auto putting = setup.Connect(setup.rate > 0 ? 4 : 1);
  Load load(setup.loop, fan_out,
            {.connections = &putting, .streams = setup.rate > 0 ? 64 : 1, .rate = setup.rate});
  load.Start();
  const auto duration = [](double seconds) { return static_cast<uint64_t>(seconds * 1e9); };
  RunPuts(setup, fan_out, load, NowNs() + duration(setup.warmup));
  const uint64_t delivered_before = fan_out.delivered(), puts_before = fan_out.puts();
  setup.servers.ResetPeaks();
  const ProcessUse before = setup.servers.Sample();
  const double own_before = OwnCpuSeconds();
  const uint64_t begin = NowNs();
  fan_out.SetWindow(begin, begin + duration(setup.seconds));
  RunPuts(setup, fan_out, load, begin + duration(setup.seconds));
  const double seconds = static_cast<double>(NowNs() - begin) / 1e9;
  const auto delivered = static_cast<double>(fan_out.delivered() - delivered_before);
  const auto puts = static_cast<double>(fan_out.puts() - puts_before);
  const ProcessUse after = setup.servers.Sample();
  const double own = OwnCpuSeconds() - own_before;

  load.Stop();
  RunUntilDone(setup.loop, kPatienceNs, [&] { return fan_out.outstanding() <= 0; });
  Report report;
  report.Number("operations", delivered).Number("seconds", seconds).Number("puts", puts);
  report.Number("ops_per_second", delivered / seconds).Number("puts_per_second", puts / seconds);
  report.Number("missing", static_cast<double>(fan_out.outstanding()));
  report.Latencies("", fan_out.latency());
  ReportUse(before, after, delivered, &report);
  const double cpu = after.cpu_seconds - before.cpu_seconds;
  report.Number("events_per_cpu_second", cpu > 0 ? delivered / cpu : 0);
  report.Number("client_cpu_us_per_op", delivered > 0 ? own * 1e6 / delivered : 0);
  // The streams end before what they report to.
  watching.clear();
  return report;
}

Report RunCatchUp(Options& options) {
  Setup setup(options, 1, 1);
  const int64_t from = options.Number("from", 1);
  const auto events = static_cast<uint64_t>(options.Number("events", 1'000'000));
  RefuseUnknown(options);

  class Counter final : public WatchSink {
   public:
    void OnCreated() override {}
    void OnEvent(std::string_view) override { ++events; }
    uint64_t events = 0;
  } counter;
  auto connections = setup.Connect(setup.connections);
  setup.servers.ResetPeaks();
  const ProcessUse before = setup.servers.Sample();
  const uint64_t begin = NowNs();
  WatchStreams streams;
  for (int i = 0; i < setup.connections * setup.streams; ++i) {
    streams.push_back(
        std::make_unique<WatchStream>(*connections[static_cast<size_t>(i % setup.connections)], counter));
    streams.back()->Add(kKeyPrefix, EndOf(kKeyPrefix), from);
  }
  const uint64_t wanted = events * streams.size();
  if (!RunUntilDone(setup.loop, 5 * kPatienceNs, [&] { return counter.events >= wanted; })) {
    Fail("not all events have come");
  }
  const double seconds = static_cast<double>(NowNs() - begin) / 1e9;
  const ProcessUse after = setup.servers.Sample();
  Report report;
  const auto seen = static_cast<double>(counter.events);
  report.Number("operations", seen).Number("seconds", seconds).Number("ops_per_second", seen / seconds);
  ReportUse(before, after, seen, &report);
  const double cpu = after.cpu_seconds - before.cpu_seconds;
  report.Number("events_per_cpu_second", cpu > 0 ? seen / cpu : 0);
  connections.clear();
  return report;
}

}  // namespace kvd::bench
