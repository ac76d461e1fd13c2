// Unary calls, many at a time: closed loop (each slot starts its next call when one ends) or open loop (calls
// are due at a fixed rate, whatever the server does, and a latency counts from when the call was due, so that
// a stall is seen by every call that it delays).
//
// Thread-safety: one thread, the loop's.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "event_loop.h"
#include "grpc_client.h"
#include "histogram.h"
#include "process_stats.h"

namespace kvd::bench {

class Load;

// One call in flight, with what its traffic remembers about it.
class Slot final : public Call {
 public:
  explicit Slot(Load* load) : load_(load) {}
  void OnMessage(std::string_view message) override;
  void OnEnd(int status, std::string_view text) override;

  const std::string* path = nullptr;           // the method
  uint64_t number = 0;                         // the traffic's: a key, say
  int kind = 0;                                // the traffic's: what sort of request
  uint64_t due_ns() const { return due_ns_; }  // when it was to start

 private:
  friend class Load;
  Load* const load_;
  Connection* connection_ = nullptr;
  uint64_t due_ns_ = 0;
  bool accepted_ = true;
};

// What is sent, and whether the answers are right.
class Traffic {
 public:
  virtual ~Traffic() = default;
  // Once for each slot, before its first request.
  virtual void Init(Slot&) {}
  // Sets slot.path and slot.request().
  virtual void Prepare(Slot& slot) = 0;
  // One message of the answer. False: it is not what was asked for, and the call counts as an error.
  virtual bool Accept(Slot& slot, std::string_view message) = 0;
  // The call has ended.
  virtual void Finish(Slot&, bool /*ok*/) {}
};

class Load {
 public:
  struct Config {
    std::vector<std::unique_ptr<Connection>>* connections = nullptr;
    int streams = 1;                        // calls in flight on each connection
    double rate = 0;                        // calls a second; 0: closed loop
    uint64_t limit = UINT64_MAX;            // calls to make altogether
    const ProcessStats* servers = nullptr;  // looked at when a window begins and ends
  };
  // What one window of time has seen.
  struct Window {
    Histogram latency;
    uint64_t operations = 0;  // that ended well within the window
    uint64_t errors = 0;
    std::string first_error;
    double seconds = 0;
    ProcessUse before, after;
    double own_cpu_seconds = 0;  // of the load generator
  };

  Load(EventLoop& loop, Traffic& traffic, const Config& config);

  void Start();
  // Another load that runs whenever this one does, or null.
  void set_beside(Load* other) { beside_ = other; }
  // No more calls; those in flight end (Drained).
  void Stop() { stopping_ = true; }
  bool Drained() const { return in_flight_ == 0 && (stopping_ || started_ == config_.limit); }
  // Starts what is due; the time when more is due.
  uint64_t Poll();
  // Runs the loop until `until_ns`, or until all is drained.
  void RunUntil(uint64_t until_ns);
  // Measures the calls that are due in the next `seconds`, and waits up to 10 s for the last of them.
  Window Measure(double seconds);
  // Measures until the limit of calls is reached.
  Window MeasureAll(double series_seconds, std::vector<Window>* series);
  // Stops, and runs until nothing is in flight, for at most 10 s.
  void Finish();

 private:
  friend class Slot;
  void Begin(Slot* slot, uint64_t due_ns);
  void OpenWindow();
  void CloseWindow();
  void Ended(Slot* slot, int status, std::string_view text);
  bool MayStart() const { return !stopping_ && started_ < config_.limit; }

  EventLoop& loop_;
  Traffic& traffic_;
  const Config config_;
  Load* beside_ = nullptr;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<Slot*> free_;
  bool stopping_ = true;
  uint64_t started_ = 0;
  uint64_t in_flight_ = 0;
  uint64_t paced_ = 0;  // open loop: calls begun since pace_start_ns_
  uint64_t pace_start_ns_ = 0;
  uint64_t window_begin_ns_ = kNever;
  uint64_t window_end_ns_ = kNever;
  Window window_;
};

// Opens `count` connections, to the endpoints in turn; exits with a message if one refuses.
std::vector<std::unique_ptr<Connection>> OpenAll(EventLoop& loop, const std::vector<std::string>& endpoints,
                                                 int count, Connection::Windows windows = {});

}  // namespace kvd::bench
