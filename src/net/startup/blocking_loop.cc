#include "net/startup/blocking_loop.h"

#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>
#include <utility>

namespace kvd::net {
namespace asio = boost::asio;
using boost::system::error_code;

struct BlockingLoop::Impl {
  asio::io_context io{1};
  asio::posix::stream_descriptor interrupt{io};
  bool interrupted = false;
};

BlockingLoop::BlockingLoop(int interrupt_fd) : impl_(std::make_unique<Impl>()) {
  if (interrupt_fd < 0) return;
  error_code error;
  impl_->interrupt.assign(::dup(interrupt_fd), error);
  if (error) return;  // without it, a stop waits for the call's time limit
  impl_->interrupt.async_wait(asio::posix::stream_descriptor::wait_read, [impl = impl_.get()](error_code ec) {
    if (!ec) impl->interrupted = true;
  });
}

BlockingLoop::~BlockingLoop() = default;

asio::io_context& BlockingLoop::context() {
  return impl_->io;
}

absl::Status BlockingLoop::RunUntil(absl::FunctionRef<bool()> done, base::Nanos timeout) {
  bool late = false;
  asio::steady_timer timer(impl_->io);
  timer.expires_after(timeout);
  timer.async_wait([&late](error_code ec) { late = !ec; });
  impl_->io.restart();
  while (!done() && !late && !impl_->interrupted) impl_->io.run_one();
  if (!late) {
    // The handler refers to this frame.
    timer.cancel();
    bool settled = false;
    asio::post(impl_->io, [&settled] { settled = true; });
    while (!settled) impl_->io.run_one();
  }
  if (done()) return absl::OkStatus();
  return impl_->interrupted ? absl::CancelledError("interrupted") : absl::DeadlineExceededError("timed out");
}

absl::Status BlockingLoop::Pause(base::Nanos time) {
  absl::Status status = RunUntil([] { return false; }, time);
  return absl::IsDeadlineExceeded(status) ? absl::OkStatus() : status;
}

absl::StatusOr<PeerResponse> BlockingLoop::Http(std::string_view base_url, const PeerRequest& request,
                                                HttpCallOptions options,
                                                std::shared_ptr<const TlsContext> tls) {
  std::optional<absl::StatusOr<PeerResponse>> result;
  auto answered = [&result] { return result.has_value(); };
  HttpClient client(impl_->io, std::move(tls));
  client.Call(base_url, request, options,
              [&result](absl::StatusOr<PeerResponse> response) { result = std::move(response); });
  // The client keeps the time limits itself.
  absl::Status run = RunUntil(answered, options.connect_timeout + options.timeout + std::chrono::seconds(1));
  client.Stop();
  impl_->io.restart();
  while (!answered()) impl_->io.run_one();
  if (!run.ok()) return run;
  return *std::move(result);
}

}  // namespace kvd::net
