#include "load.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace kvd::bench {
namespace {

constexpr uint64_t kDrainNs = 10'000'000'000;
constexpr double kNsPerSecond = 1e9;

[[noreturn]] void GiveUp(const std::string& why) {
  std::fprintf(stderr, "kvbench: %s\n", why.c_str());
  std::exit(1);
}

}  // namespace

void Slot::OnMessage(std::string_view message) {
  accepted_ = load_->traffic_.Accept(*this, message) && accepted_;
}

void Slot::OnEnd(int status, std::string_view text) {
  load_->Ended(this, status, text);
}

Load::Load(EventLoop& loop, Traffic& traffic, const Config& config)
    : loop_(loop), traffic_(traffic), config_(config) {
  // Slots of one connection stand apart, so that a few calls use many connections.
  for (int stream = 0; stream < config_.streams; ++stream) {
    for (auto& connection : *config_.connections) {
      slots_.push_back(std::make_unique<Slot>(this));
      slots_.back()->connection_ = connection.get();
      traffic_.Init(*slots_.back());
    }
  }
  for (auto& slot : slots_) free_.push_back(slot.get());
  std::reverse(free_.begin(), free_.end());
}

void Load::Start() {
  stopping_ = false;
  paced_ = 0;
  pace_start_ns_ = NowNs();
}

void Load::Begin(Slot* slot, uint64_t due_ns) {
  ++started_;
  ++in_flight_;
  slot->due_ns_ = due_ns;
  slot->accepted_ = true;
  traffic_.Prepare(*slot);
  slot->connection_->Start(*slot->path, slot);
}

uint64_t Load::Poll() {
  if (config_.rate <= 0) {
    const uint64_t now = NowNs();
    while (MayStart() && !free_.empty()) {
      Slot* slot = free_.back();
      free_.pop_back();
      Begin(slot, now);
    }
    return kNever;
  }
  const double interval_ns = kNsPerSecond / config_.rate;
  const uint64_t now = NowNs();
  while (MayStart()) {
    const uint64_t due = pace_start_ns_ + static_cast<uint64_t>(static_cast<double>(paced_) * interval_ns);
    if (due > now) return due;
    if (free_.empty()) return kNever;  // begun when a slot is free, with its due time
    Slot* slot = free_.back();
    free_.pop_back();
    ++paced_;
    Begin(slot, due);
  }
  return kNever;
}

void Load::Ended(Slot* slot, int status, std::string_view text) {
  const uint64_t now = NowNs();
  --in_flight_;
  free_.push_back(slot);
  const bool ok = status == kOk && slot->accepted_;
  traffic_.Finish(*slot, ok);
  if (now >= window_begin_ns_) {
    if (slot->due_ns_ < window_end_ns_) window_.latency.Record(now - std::min(now, slot->due_ns_));
    if (ok && now < window_end_ns_) ++window_.operations;
    if (!ok) {
      if (window_.errors++ == 0) {
        window_.first_error =
            status == kOk ? "a wrong answer" : std::to_string(status) + " " + std::string(text);
      }
    }
  }
  if (!ok && !slot->connection_->alive()) GiveUp("a connection to the server is lost");
  // A closed loop goes on with the next Poll, after all answers of this round.
}

void Load::RunUntil(uint64_t until_ns) {
  while (!Drained()) {
    uint64_t due = Poll();
    if (beside_ != nullptr) due = std::min(due, beside_->Poll());
    if (Drained() || NowNs() >= until_ns) return;
    loop_.RunOnce(std::min(due, until_ns));
  }
}

void Load::OpenWindow() {
  window_ = Window();
  if (config_.servers != nullptr) window_.before = config_.servers->Sample();
  window_.own_cpu_seconds = -OwnCpuSeconds();
  window_begin_ns_ = NowNs();
  if (!stopping_) Start();
}

void Load::CloseWindow() {
  window_.seconds = static_cast<double>(NowNs() - window_begin_ns_) / kNsPerSecond;
  window_.own_cpu_seconds += OwnCpuSeconds();
  if (config_.servers != nullptr) window_.after = config_.servers->Sample();
}

Load::Window Load::Measure(double seconds) {
  OpenWindow();
  window_end_ns_ = window_begin_ns_ + static_cast<uint64_t>(seconds * kNsPerSecond);
  RunUntil(window_end_ns_);
  CloseWindow();
  // What was due within the window counts, however late it is answered.
  const uint64_t give_up = NowNs() + kDrainNs;
  while (in_flight_ > 0 && NowNs() < give_up) {
    const bool behind =
        config_.rate > 0 &&
        pace_start_ns_ + static_cast<uint64_t>(static_cast<double>(paced_) * kNsPerSecond / config_.rate) <
            window_end_ns_;
    if (behind) Poll();
    if (beside_ != nullptr) beside_->Poll();
    loop_.RunOnce(give_up);
  }
  window_begin_ns_ = window_end_ns_ = kNever;
  return window_;
}

Load::Window Load::MeasureAll(double series_seconds, std::vector<Window>* series) {
  Window all;
  all.own_cpu_seconds = -OwnCpuSeconds();
  if (config_.servers != nullptr) all.before = config_.servers->Sample();
  const uint64_t begin = NowNs();
  while (!Drained()) {
    OpenWindow();
    RunUntil(series_seconds > 0 ? window_begin_ns_ + static_cast<uint64_t>(series_seconds * kNsPerSecond)
                                : kNever);
    CloseWindow();
    all.latency.Merge(window_.latency);
    all.operations += window_.operations;
    if (all.errors == 0) all.first_error = window_.first_error;
    all.errors += window_.errors;
    if (series != nullptr) series->push_back(window_);
  }
  window_begin_ns_ = kNever;
  all.seconds = static_cast<double>(NowNs() - begin) / kNsPerSecond;
  all.own_cpu_seconds += OwnCpuSeconds();
  all.after = window_.after;
  return all;
}

void Load::Finish() {
  Stop();
  RunUntil(NowNs() + kDrainNs);
}

std::vector<std::unique_ptr<Connection>> OpenAll(EventLoop& loop, const std::vector<std::string>& endpoints,
                                                 int count, Connection::Windows windows) {
  std::vector<std::unique_ptr<Connection>> connections;
  for (int i = 0; i < count && !endpoints.empty(); ++i) {
    const std::string& endpoint = endpoints[static_cast<size_t>(i) % endpoints.size()];
    connections.push_back(Connection::Open(loop, endpoint, windows));
    if (connections.back() == nullptr) {
      GiveUp("nobody listens at " + endpoint);
    }
  }
  return connections;
}

}  // namespace kvd::bench
