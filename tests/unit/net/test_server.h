// A front door with the few methods that the tests call.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/executor.h"
#include "net/grpc_server.h"

namespace kvd::net {

// Events that a test waits for, with a generous bound.
class Events {
 public:
  void Add(std::string event) {
    std::lock_guard<std::mutex> lock(mutex_);
    events_.push_back(std::move(event));
    changed_.notify_all();
  }
  bool Await(const std::string& event) { return AwaitCount(event, 1); }
  bool AwaitCount(const std::string& event, size_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return CountLocked(event) >= count; });
  }
  size_t Count(const std::string& event) {
    std::lock_guard<std::mutex> lock(mutex_);
    return CountLocked(event);
  }

 private:
  size_t CountLocked(const std::string& event) {
    size_t n = 0;
    for (const std::string& e : events_) n += e == event ? 1 : 0;
    return n;
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> events_;
};

// /test.Echo/...: Unary (answered at once), Later (answered on another thread), Fail, Hang (never answered),
// Drop, Meta (the metadata "token"), Pieces (the request three times, in pieces), Count (server stream: as
// many messages as the request is long), Made (as many bytes as the request says, made as they are sent),
// MadeShort and MadeLong (one byte less or more than was promised), Numbers (server stream of as many
// messages as the request says, in thousands that are made as they are sent, an empty one and "0", "1" behind
// each thousand), Chat (bidi echo), Flood (server stream that writes until its high mark), Slow (bidi that
// pauses after each message until "resume" is called). HTTP: /hello, /post, /stream, /later.
class TestServer {
 public:
  explicit TestServer(FrontDoorOptions options = {}, int threads = 2, ListenOptions listen = {});
  ~TestServer();

  uint16_t port() const { return port_; }
  FrontDoor& door() { return *door_; }
  Events& events() { return events_; }
  IoThreads& threads() { return *threads_; }
  // The last stream of Flood, Slow or Numbers.
  std::shared_ptr<StreamCall> last_stream();
  // Lets the Hang calls go.
  void ReleaseHanging();

 private:
  struct ChatHandler;
  struct MadeReply;
  class NumberSource;
  struct FloodHandler;
  struct SlowHandler;
  void RegisterGrpc();
  void RegisterHttp();

  Events events_;
  base::ThreadExecutor worker_{"worker"};
  std::unique_ptr<IoThreads> threads_;
  std::unique_ptr<FrontDoor> door_;
  uint16_t port_ = 0;
  std::mutex mutex_;
  std::shared_ptr<StreamCall> last_stream_;
  std::vector<UnaryCall> hanging_;
};

}  // namespace kvd::net
