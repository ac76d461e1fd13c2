// Watch streams: many watches on each, and what comes of them.
//
// Thread-safety: one thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "grpc_client.h"

namespace kvd::bench {

// Counts for all streams of a run.
class WatchSink {
 public:
  virtual ~WatchSink() = default;
  virtual void OnCreated() = 0;
  // One event, with the value of the record that was put (empty for a delete).
  virtual void OnEvent(std::string_view value) = 0;
};

class WatchStream final : public Call {
 public:
  // Opens the stream. `connection` and `sink` outlive it.
  WatchStream(Connection& connection, WatchSink& sink);
  // Watches the interval; `start_revision` 0: from now on.
  void Add(std::string_view key, std::string_view range_end, int64_t start_revision);

  void OnMessage(std::string_view message) override;
  void OnEnd(int status, std::string_view text) override;

 private:
  WatchSink& sink_;
};

}  // namespace kvd::bench
