#include <algorithm>
#include <cstdio>

#include "commands.h"
#include "kv_traffic.h"

namespace kvd::bench {
namespace {

constexpr uint64_t kNsPerMs = 1'000'000;
// A put begins at every member this often, so that the first that can be acknowledged is there to be.
constexpr uint64_t kIntervalNs = 5 * kNsPerMs;
// A proposal that was on its way to a leader who died is lost; its client gives it up after this.
constexpr uint64_t kTimeoutNs = 1000 * kNsPerMs;

struct Acknowledgements {
  uint64_t last_ns = 0, longest_ns = 0, count = 0, failed = 0;
  void Record() {
    const uint64_t now = NowNs();
    if (last_ns != 0) longest_ns = std::max(longest_ns, now - last_ns);
    last_ns = now;
    ++count;
  }
};

class Put final : public Call {
 public:
  explicit Put(Acknowledgements& all) : all_(all) {}
  void OnMessage(std::string_view) override {}
  void OnEnd(int status, std::string_view) override {
    if (status == kOk) {
      all_.Record();
    } else {
      ++all_.failed;
    }
  }
  uint64_t begun_ns = 0;

 private:
  Acknowledgements& all_;
};

// One member's client.
struct Client {
  std::unique_ptr<Connection> connection;
  std::vector<std::unique_ptr<Put>> puts;

  void Begin(Acknowledgements& all, const std::string& request) {
    if (connection == nullptr || !connection->alive()) return;
    const uint64_t now = NowNs();
    for (auto& put : puts) {
      if (put->open() && now - put->begun_ns > kTimeoutNs) Connection::Cancel(put.get());
    }
    auto free = std::find_if(puts.begin(), puts.end(), [](auto& put) { return !put->open(); });
    if (free == puts.end()) free = puts.insert(puts.end(), std::make_unique<Put>(all));
    (*free)->begun_ns = now;
    (*free)->request() = request;
    connection->Start(method::kPut, free->get());
  }
};

}  // namespace

Report RunGap(Options& options) {
  Setup setup(options, 1, 1);
  RefuseUnknown(options);
  Acknowledgements all;
  std::vector<Client> clients;
  for (const std::string& endpoint : setup.endpoints) {
    clients.push_back({.connection = Connection::Open(setup.loop, endpoint, {}), .puts = {}});
  }
  const std::string request = Frame(PutMessage(KeyOf(0), std::string(64, 'v')));
  const uint64_t until = NowNs() + static_cast<uint64_t>(setup.seconds * 1e9);
  for (uint64_t next = NowNs(); next < until; next += kIntervalNs) {
    for (Client& client : clients) client.Begin(all, request);
    while (NowNs() < next) setup.loop.RunOnce(next);
  }
  Report report;
  report.Number("gap_ms", static_cast<double>(all.longest_ns) / 1e6);
  report.Number("operations", static_cast<double>(all.count))
      .Number("errors", static_cast<double>(all.failed));
  for (Client& client : clients) client.connection.reset();
  return report;
}

}  // namespace kvd::bench
