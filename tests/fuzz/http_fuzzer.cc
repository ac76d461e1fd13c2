// Any bytes on a client connection: HTTP/1.1, HTTP/2 and gRPC calls, up to the handlers. The connection ends
// once the client has gone, and every call has ended with it.

#include <sys/uio.h>

#include <atomic>
#include <boost/asio/post.hpp>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "fuzz_input.h"
#include "net/connection.h"
#include "net/io_threads.h"

namespace {

using kvd::fuzz::Must;
namespace net = kvd::net;

std::atomic<int> open_streams{0};

// Answers each message with itself; pauses for a while if it starts with 'p'.
class Echo final : public net::StreamHandler {
 public:
  explicit Echo(std::shared_ptr<net::StreamCall> call) : call_(std::move(call)) { ++open_streams; }
  void OnMessage(std::string_view message) override {
    if (message.starts_with('p')) {
      call_->PauseReading();
      call_->executor().Post([call = call_] { call->ResumeReading(); });
    }
    if (message.starts_with('f')) return call_->Finish(net::StatusCode::kAborted, std::string(message));
    call_->Write(std::string(message));
  }
  void OnHalfClose() override { call_->Finish(net::StatusCode::kOk, ""); }
  void OnClosed() override {
    call_.reset();
    --open_streams;
  }

 private:
  std::shared_ptr<net::StreamCall> call_;
};

void AddHandlers(net::Router& router) {
  using Kind = net::GrpcMethod::Kind;
  router.AddGrpc({Kind::kUnary, "/t.T/U",
                  [](net::UnaryCall call) {
                    if (call.request().starts_with('f')) {
                      return call.Fail(net::StatusCode::kInternal, std::string(call.request()));
                    }
                    if (call.request().starts_with('l')) {
                      call.executor().Post([call] { call.Reply(std::string(call.request())); });
                      return;
                    }
                    call.Reply(std::string(call.request()));
                  },
                  nullptr, nullptr});
  router.AddGrpc({Kind::kServerStream, "/t.T/S", nullptr,
                  [](std::string_view request, const std::shared_ptr<net::StreamCall>& call) {
                    for (char c : request)
                      call->Write(std::string(size_t{64} * static_cast<unsigned char>(c), c));
                    call->Finish(net::StatusCode::kOk, "");
                    return std::shared_ptr<net::StreamHandler>();
                  },
                  nullptr});
  router.AddGrpc({Kind::kBidi, "/t.T/B", nullptr, nullptr, [](std::shared_ptr<net::StreamCall> call) {
                    return std::make_shared<Echo>(std::move(call));
                  }});
  router.AddHttp("POST", "/echo", [](const std::shared_ptr<net::HttpCall>& call) {
    net::HttpResponse response;
    response.body = call->request().body;
    response.headers.emplace_back("X-Query", std::to_string(call->request().Query("q").size()));
    call->Reply(std::move(response));
  });
  router.AddHttp("GET", "/parts/", [](const std::shared_ptr<net::HttpCall>& call) {
    net::HttpResponse response;
    response.body = call->request().path;
    call->StartBody(std::move(response));
    call->WriteBody(call->request().query);
    call->EndBody();
  });
}

// A client that sends these bytes in pieces, takes what it is sent unless its turn to stall has come, and
// goes.
class Client final : public net::Transport {
 public:
  Client(net::IoThread& thread, std::string bytes, size_t piece, uint8_t stalls)
      : thread_(thread), bytes_(std::move(bytes)), piece_(piece), stalls_(stalls) {}

  net::IoResult Read(char* data, size_t size) override {
    if (closed_ || at_ == bytes_.size()) return {net::IoResult::kEnd};
    if (!std::exchange(readable_, false)) return {net::IoResult::kWouldBlock};
    const size_t n = std::min({piece_, size, bytes_.size() - at_});
    std::memcpy(data, bytes_.data() + at_, n);
    at_ += n;
    return {net::IoResult::kDone, n};
  }
  net::IoResult Write(const iovec* ranges, int count) override {
    if (closed_) return {net::IoResult::kEnd};
    if (stalls_ > 0 && !std::exchange(writable_, false)) {
      --stalls_;
      return {net::IoResult::kWouldBlock};
    }
    size_t n = 0;
    for (int i = 0; i < count; ++i) n += ranges[i].iov_len;
    return {net::IoResult::kDone, stalls_ > 0 ? std::min<size_t>(n, 100) : n};
  }
  void WaitReadable(std::function<void()> done) override {
    readable_ = true;
    boost::asio::post(thread_.context(), std::move(done));
  }
  void WaitWritable(std::function<void()> done) override {
    writable_ = true;
    boost::asio::post(thread_.context(), std::move(done));
  }
  void ShutdownWrite() override {}
  void Close() override { closed_ = true; }

 private:
  net::IoThread& thread_;
  const std::string bytes_;
  const size_t piece_;
  uint8_t stalls_;
  size_t at_ = 0;
  bool readable_ = false;
  bool writable_ = false;
  bool closed_ = false;
};

// HTTP/2 frames made of the input, so that lengths are right unless they are to be wrong.
std::string Frames(kvd::fuzz::Input& input) {
  std::string out = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  out.append("\0\0\0\4\0\0\0\0\0", 9);  // empty SETTINGS
  while (!input.empty()) {
    const uint8_t type = input.Byte();
    const uint8_t flags = input.Byte();
    const uint8_t stream = input.Byte();
    const uint8_t length = input.Byte();
    std::string payload;
    if (type >= 0x80) {  // a gRPC message in DATA
      const std::string_view message = input.Take(length);
      payload = std::string("\0\0\0\0", 4) + static_cast<char>(message.size()) + std::string(message);
    } else {
      payload = std::string(input.Take(length));
    }
    out += '\0';
    out += '\0';
    out += static_cast<char>(payload.size() > 255 ? 255 : payload.size());
    out += static_cast<char>(type >= 0x80 ? 0 : type % 12);
    out += static_cast<char>(flags);
    out.append("\0\0\0", 3);
    out += static_cast<char>(stream % 16);
    out += payload;
  }
  return out;
}

class World {
 public:
  World() : io_(1, "fuzz") {
    auto config = std::make_shared<net::ServerConfig>();
    config->options.max_http_body_bytes = 4096;
    config->options.max_receive_message_bytes = 4096;
    config->options.max_header_list_bytes = 4096;
    config->options.stream_window_bytes = 8192;
    config->options.stream_high_bytes = 4096;
    config->options.stream_low_bytes = 1024;
    AddHandlers(config->router);
    config_ = std::move(config);
  }

  void Serve(std::string bytes, size_t piece, uint8_t stalls, net::ListenOptions listen) {
    net::IoThread& thread = io_.thread(0);
    closed_ = false;
    thread.Post([&] {
      auto connection = std::make_shared<net::Connection>(
          config_, listen, thread, std::make_unique<Client>(thread, std::move(bytes), piece, stalls),
          "fuzz:1", [this](net::Connection& gone) { OnClosed(gone); });
      connection->Start();
    });
    std::unique_lock lock(mutex_);
    Must(gone_.wait_for(lock, std::chrono::seconds(15), [&] { return closed_; }));
    Must(open_streams == 0);
  }

 private:
  // Two turns later nothing is left that the connection has posted.
  void OnClosed(net::Connection& gone) {
    std::shared_ptr<net::Connection> hold = gone.shared_from_this();
    net::IoThread& thread = io_.thread(0);
    thread.Post([this, &thread, hold]() mutable {
      hold.reset();
      thread.Post([this] {
        std::lock_guard lock(mutex_);
        closed_ = true;
        gone_.notify_one();
      });
    });
  }

  net::IoThreads io_;
  std::shared_ptr<const net::ServerConfig> config_;
  std::mutex mutex_;
  std::condition_variable gone_;
  bool closed_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto* const world = new World;
  if (size > 16384) return 0;
  kvd::fuzz::Input input(data, size);
  const uint8_t kind = input.Byte();
  const size_t piece = 1 + input.Word();
  const uint8_t stalls = input.Byte() % 8;
  net::ListenOptions listen;
  listen.http = kind % 8 != 7;
  std::string bytes = kind % 2 == 0 ? std::string(input.TakeRest()) : Frames(input);
  world->Serve(std::move(bytes), piece, stalls, listen);
  return 0;
}
