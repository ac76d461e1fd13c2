// What one watch must be told, given what the cluster has done: ordered, unique, whole revisions, no gap,
// progress never ahead, the right previous values. The watch may move between members; it goes on at next().
// Thread-compatible.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "etcdserverpb/rpc.pb.h"
#include "truth.h"

namespace kvd::sim {

class WatchChecker {
 public:
  struct Options {
    std::string key;
    std::string range_end;
    bool prev_kv = false;
    bool fragment = false;
  };
  // `fail` takes what is wrong. `compacted` is the compacted revision where the watch is served.
  WatchChecker(const Truth& truth, Options options, std::function<void(const std::string&)> fail,
               std::function<int64_t()> compacted);

  // A new stream, which asks for what comes from next() on.
  void BeginStream();
  // Asks for a start of its own. REQUIRES: next() == 0.
  void StartAt(int64_t revision) { next_ = revision; }
  // kCompacted: the stream is over, and what was compacted is lost; next() is behind it.
  enum class After { kGoOn, kCompacted };
  After OnResponse(const etcdserverpb::WatchResponse& response);

  // The first revision not seen; 0: none has been, and the watch begins with what comes.
  int64_t next() const { return next_; }
  // Everything up to `revision` that concerns this watch has been delivered.
  bool CaughtUp(int64_t revision) const;
  uint64_t events() const { return events_; }

 private:
  void OnEvents(const etcdserverpb::WatchResponse& response);
  // False if it was wrong.
  bool CheckEvent(const mvccpb::Event& event, const Truth::Change& change, int64_t revision);

  const Truth& truth_;
  const Options options_;
  const std::function<void(const std::string&)> fail_;
  const std::function<int64_t()> compacted_;
  int64_t next_ = 0;
  std::vector<mvccpb::Event> fragments_;
  uint64_t events_ = 0;
};

}  // namespace kvd::sim
