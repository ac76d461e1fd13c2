// Which of a client's pings are too many, as etcd's server counts them.
//
// Thread-safety: thread-compatible.
#pragma once

#include <chrono>

#include "base/clock.h"

namespace kvd::net {

class PingPolicy {
 public:
  PingPolicy(base::Nanos min_time, bool permit_without_stream)
      : min_time_(min_time), permit_without_stream_(permit_without_stream) {}

  // Headers or data were sent: the client has a reason to ping.
  void OnSent() { sent_ = true; }

  // False if the connection has to end.
  bool OnPing(base::Nanos now, bool has_streams) {
    base::Nanos previous = last_ping_;
    bool first = !pinged_;
    last_ping_ = now;
    pinged_ = true;
    if (sent_) {
      sent_ = false;
      strikes_ = 0;
      return true;
    }
    base::Nanos apart =
        !has_streams && !permit_without_stream_ ? base::Nanos(std::chrono::hours(2)) : min_time_;
    if (!first && now - previous < apart) ++strikes_;
    return strikes_ <= kMaxStrikes;
  }

 private:
  static constexpr int kMaxStrikes = 2;

  const base::Nanos min_time_;
  const bool permit_without_stream_;
  base::Nanos last_ping_{0};
  bool pinged_ = false;
  bool sent_ = false;
  int strikes_ = 0;
};

}  // namespace kvd::net
