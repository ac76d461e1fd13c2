// A client that watches, loses its member or its patience, and goes on elsewhere where it had come to; and
// that knows from the truth what it must be told (watch_checker.h; checker "watch").
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "etcdserverpb/rpc.pb.h"
#include "server/watch/watch_stream.h"
#include "sim_cluster.h"
#include "truth.h"
#include "verdict.h"
#include "watch_checker.h"

namespace kvd::sim {

class WatchClient {
 public:
  struct Options {
    std::string key;
    std::string range_end;
    bool prev_kv = false;
    bool fragment = false;
    bool progress = false;
    int64_t start_ahead = 0;    // begins this far in the future
    base::Nanos read_pause{0};  // how long reading one message takes
    size_t resume_at_half = 0;  // queued bytes below which the stream is writable again
  };
  WatchClient(SimCluster& cluster, const Truth& truth, Verdict& verdict, Options options);

  bool running() const { return stream_ != nullptr; }
  size_t member() const { return member_; }
  void Start(size_t member);
  // Drops the stream. Must come before the member's process ends.
  void Stop();
  void RequestProgress();
  // From now on reads as fast as it can.
  void Hurry() { options_.read_pause = base::Nanos(0); }
  // Everything up to `revision` that concerns this watch has been delivered.
  bool CaughtUp(int64_t revision) const { return checker_.CaughtUp(revision); }
  std::string Describe() const;
  uint64_t events() const { return checker_.events(); }

 private:
  class Sink;
  void OnMessage(uint64_t generation, const std::string& bytes);
  void Fail(const std::string& what);

  SimCluster& cluster_;
  const Truth& truth_;
  Verdict& verdict_;
  Options options_;
  size_t member_ = 0;
  uint64_t generation_ = 0;
  WatchChecker checker_;
  std::shared_ptr<Sink> sink_;
  std::unique_ptr<server::WatchStream> stream_;
};

}  // namespace kvd::sim
