// A lease that is kept alive while a command runs, and the signals that end the command.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client.h"
#include "etcdserverpb/rpc.pb.h"

namespace kvd::ctl {

// Renews the lease on a thread and a client of its own until Close, or until it is lost.
//
// Thread-safety: thread-safe after Open.
class LeaseSession {
 public:
  // `options` must outlive the session. Errors: those of granting, with the text to show.
  static absl::StatusOr<std::unique_ptr<LeaseSession>> Open(const GlobalOptions& options, int64_t ttl_s);
  ~LeaseSession();

  int64_t id() const { return id_; }
  bool expired() const { return expired_.load(std::memory_order_acquire); }
  // Stops renewing and gives the lease up.
  void Close();

 private:
  explicit LeaseSession(std::unique_ptr<Client> client) : client_(std::move(client)) {}
  void Renew(int64_t ttl_s);

  std::unique_ptr<Client> client_;
  int64_t id_ = 0;
  std::atomic<bool> expired_{false};
  std::atomic<bool> closed_{false};
  std::thread renewer_;
};

// One renewal on a stream of its own, so that it has a deadline.
grpc::Status RenewLease(Client& client, absl::Time deadline, int64_t id,
                        etcdserverpb::LeaseKeepAliveResponse* response);

// Takes SIGINT and SIGTERM from the process while it lives; made before there are other threads.
class StopSignals {
 public:
  StopSignals();
  // Whether one has come; waits for it at most that long.
  bool Wait(absl::Duration limit);
  // Gives the signals their usual effect again, in a child before it executes a program.
  static void Restore();
};

}  // namespace kvd::ctl
