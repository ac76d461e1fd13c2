#include "recorder.h"

#include <google/protobuf/util/json_util.h>

#include <chrono>

#include "history.pb.h"

namespace kvd::drill {

int64_t NowNs() {
  return std::chrono::steady_clock::now().time_since_epoch().count() + 1;
}

void Recorder::Write(const Line& line) {
  std::string text;
  (void)google::protobuf::util::MessageToJsonString(line, &text);
  std::lock_guard lock(mutex_);
  out_ << text << '\n';
}

}  // namespace kvd::drill
