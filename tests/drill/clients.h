// The clients of a drill: threads that send requests to a cluster through gRPC and record what they are told.
//
// Thread-safety: each object belongs to the thread that runs it, except where it says otherwise.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "history.pb.h"
#include "recorder.h"
#include "support/silence.h"

namespace kvd::drill {

struct World {
  std::vector<std::string> endpoints;
  std::vector<std::shared_ptr<grpc::Channel>> channels;  // by member
  Recorder* recorder = nullptr;
  support::Silence silence;
  std::atomic<bool> running{false};
  std::atomic<bool> watching{true};
};

// Sends one request after the other: first those of a few registers, which a general check of linearizability
// can take, then everything.
class Client {
 public:
  Client(World& world, uint32_t number, uint64_t seed);
  // Until world.running is false.
  void Run();

 private:
  static constexpr int kRegisterOperations = 25;

  uint64_t Below(uint64_t n) { return random_() % n; }
  std::string Value() { return "c" + std::to_string(number_) + "-" + std::to_string(next_); }
  void Fill(Operation& op);
  void FillRegister(Operation& op, const std::string& key);
  void FillLease(Operation& op);
  void CompareAndPut(Operation& op, const std::string& key, bool else_read);
  // Sends it; the answer, or the error, goes into it.
  void Send(Operation& op);
  grpc::Status Call(Operation& op);
  grpc::Status KeepAlive(grpc::ClientContext& context, Operation& op);
  void Learn(const Operation& op);

  World& world_;
  const uint32_t number_;
  std::mt19937_64 random_;
  uint64_t next_ = 0;
  uint32_t member_;
  std::map<std::string, int64_t> seen_;  // modification revisions
  std::vector<int64_t> leases_;
};

// Watches, and goes on at another member where the stream has ended or fallen silent.
class Watcher {
 public:
  Watcher(World& world, uint32_t number, etcdserverpb::WatchCreateRequest create);
  // Until world.watching is false.
  void Run();
  // The first revision not seen. Any thread.
  int64_t next() const { return next_.load(); }
  // Any thread: ends the present stream if it has brought nothing for `silence`.
  void Review(std::chrono::milliseconds silence);

 private:
  void Stream(uint32_t member);
  bool Take(const etcdserverpb::WatchResponse& response);

  World& world_;
  const uint32_t number_;
  etcdserverpb::WatchCreateRequest create_;
  std::atomic<int64_t> next_;
  std::atomic<int64_t> heard_ns_{0};
  std::mutex mutex_;
  grpc::ClientContext* context_ = nullptr;  // guarded by mutex_
};

}  // namespace kvd::drill
