// One HTTP/2 connection whose client takes the bytes of one stream at a given rate, and calls others beside
// it.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "support.h"

namespace kvd::scale {

// Single-threaded: everything happens within Run.
class SlowHttp2 {
 public:
  explicit SlowHttp2(const std::string& endpoint);
  ~SlowHttp2();

  // Calls `method` with `request`. What comes is given to `take` as it arrives, at `bytes_per_second` (0: at
  // once), and the window is opened only for what was taken. Meanwhile `ping_method` is called every
  // `ping_ms`, answered by as much as the stream's window; `pings` is how long each took, in seconds. Returns
  // when the first call ends; any error ends the program.
  void Run(const std::string& method, const std::string& request, double bytes_per_second,
           const std::function<void(std::string_view)>& take, const std::string& ping_method,
           const std::string& ping_request, int ping_ms, std::vector<double>* pings);

 private:
  friend struct SlowHttp2Callbacks;
  struct Call {
    std::string body;
    size_t sent = 0;
    Clock::time_point start;
    std::string status = "none";
  };

  int32_t Submit(const std::string& method, const std::string& request);
  void Send();
  void Receive(int wait_ms);
  void Pay(double bytes_per_second, Clock::time_point start);

  int socket_ = -1;
  nghttp2_session* session_ = nullptr;
  std::map<int32_t, Call> calls_;
  int32_t slow_ = 0;
  bool slow_ended_ = false;
  uint64_t received_ = 0;  // of the slow stream
  uint64_t paid_ = 0;      // of these, given back to the window
  const std::function<void(std::string_view)>* take_ = nullptr;
  std::vector<double>* pings_ = nullptr;
};

// Takes apart what arrives of one or many gRPC messages into the top-level protobuf fields of each.
class FieldStream {
 public:
  // `field`: number and, of a length-delimited one, its bytes; of a varint, its value.
  using Visit = std::function<void(uint32_t number, std::string_view bytes, uint64_t value)>;
  explicit FieldStream(Visit visit) : visit_(std::move(visit)) {}
  void Add(std::string_view bytes);
  bool empty() const { return buffer_.empty(); }

 private:
  size_t Parse(std::string_view bytes);

  const Visit visit_;
  std::string buffer_;
  uint64_t message_left_ = 0;
};

}  // namespace kvd::scale
