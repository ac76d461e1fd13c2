// Any bytes as a configuration change of a log entry: what can be read says the same when it is written
// again.

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "raft/conf_change.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (auto change = kvd::raft::DecodeConfChange(bytes)) {
    auto again = kvd::raft::DecodeConfChange(kvd::raft::EncodeConfChange(*change));
    if (!again || !(*again == *change)) std::abort();
  }
  if (auto change = kvd::raft::DecodeConfChangeV2(bytes)) {
    auto again = kvd::raft::DecodeConfChangeV2(kvd::raft::EncodeConfChange(*change));
    if (!again || !(*again == *change)) std::abort();
  }
  return 0;
}
