// An event loop for what a process asks of the network before its threads run: each call blocks until it is
// answered, has failed, or the process is asked to stop.
//
// Thread-safety: thread-compatible. Errors: besides those of each call, kCancelled once the interrupt
// descriptor is readable; from then on every call fails so.
#pragma once

#include <memory>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "net/peer/http_client.h"

namespace boost::asio {
class io_context;
}

namespace kvd::net {

class BlockingLoop {
 public:
  // `interrupt_fd` is watched, and neither read nor closed; -1: none. It must stay open as long as this.
  explicit BlockingLoop(int interrupt_fd = -1);
  ~BlockingLoop();
  BlockingLoop(const BlockingLoop&) = delete;
  BlockingLoop& operator=(const BlockingLoop&) = delete;

  // As HttpClient::Call, over a connection of its own.
  absl::StatusOr<PeerResponse> Http(std::string_view base_url, const PeerRequest& request,
                                    HttpCallOptions options, std::shared_ptr<const TlsContext> tls = nullptr);
  // OK when that much time has passed.
  absl::Status Pause(base::Nanos time);

  // For connections that live on this loop: runs what is due until `done`. kDeadlineExceeded after `timeout`.
  absl::Status RunUntil(absl::FunctionRef<bool()> done, base::Nanos timeout);
  boost::asio::io_context& context();

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace kvd::net
