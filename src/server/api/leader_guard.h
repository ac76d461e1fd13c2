// Ends the streams that asked for a leader ("hasleader: true") once this member has had none for three
// elections, so that a client does not wait on a member that is cut off.
//
// Thread-safety: thread-safe.
#pragma once

#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "net/grpc_call.h"
#include "server/api/services.h"

namespace kvd::server {

class Services::LeaderGuard : public std::enable_shared_from_this<LeaderGuard> {
 public:
  explicit LeaderGuard(Node& node) : node_(node) {}

  // Looks after the streams until Stop.
  void Start() { Check(); }
  void Stop() {
    base::MutexLock lock(mutex_);
    stopped_ = true;
    streams_.clear();
  }
  void Add(const std::shared_ptr<net::StreamCall>& stream) {
    base::MutexLock lock(mutex_);
    if (!stopped_) streams_.push_back(stream);
  }

 private:
  void Check();

  Node& node_;
  base::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::weak_ptr<net::StreamCall>> streams_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvd::server
