// Clients that write to a cluster and remember what was acknowledged, driven by lines on stdin, each answered
// by one line on stdout:
//
//   run               the clients start to write            -> "running"
//   mark              the longest silence is counted from now -> "marked"
//   silence           the longest time without any acknowledgement since mark -> "MILLISECONDS"
//   stop              the clients stop                      -> "stopped ACKNOWLEDGED"
//   verify ENDPOINT   reads all keys there, compares        -> "equal COUNT" or "lost KEY ..."
//   count N           N writes, then stop                   -> "stopped ACKNOWLEDGED"
//   quit
//
//   killload ENDPOINTS CLIENTS VALUE_BYTES
//
// A key is written once, so a write whose outcome is unknown harms nothing.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "etcdserverpb/rpc.grpc.pb.h"
#include "etcdserverpb/rpc.pb.h"
#include "support/channel.h"
#include "support/silence.h"

namespace {

// A proposal that was sent to a leader who died is lost, and only the client's patience ends it.
constexpr auto kWriteTimeout = std::chrono::milliseconds(400);
constexpr auto kReadTimeout = std::chrono::seconds(30);
constexpr int kPage = 10'000;

std::shared_ptr<grpc::Channel> ConnectTo(const std::string& endpoint) {
  return kvd::support::Connect(endpoint, kvd::support::ReconnectSoon(std::chrono::milliseconds(50)));
}

class Load {
 public:
  Load(std::vector<std::string> endpoints, int clients, size_t value_bytes)
      : endpoints_(std::move(endpoints)),
        value_bytes_(value_bytes),
        acknowledged_(clients),
        next_(clients, 0) {
    for (const std::string& endpoint : endpoints_) channels_.push_back(ConnectTo(endpoint));
  }

  kvd::support::Silence& silence() { return silence_; }

  // Writes until Stop, or until `limit` writes are acknowledged.
  void Start(int64_t limit) {
    running_ = true;
    left_ = limit;
    for (size_t i = 0; i < acknowledged_.size(); ++i) threads_.emplace_back([this, i] { Client(i); });
  }

  void Stop() {
    running_ = false;
    Join();
  }

  void Join() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  size_t Count() const {
    size_t count = 0;
    for (const auto& keys : acknowledged_) count += keys.size();
    return count;
  }

  std::string Verify(const std::string& endpoint) const {
    const auto stub = etcdserverpb::KV::NewStub(ConnectTo(endpoint));
    for (size_t i = 0; i < acknowledged_.size(); ++i) {
      std::string error = VerifyClient(*stub, i);
      if (!error.empty()) return error;
    }
    return "equal " + std::to_string(Count());
  }

 private:
  static std::string Prefix(size_t client) { return "load/" + std::to_string(client) + "/"; }

  static std::string Key(size_t client, int64_t number) {
    char text[16];
    std::snprintf(text, sizeof(text), "%010lld", static_cast<long long>(number));
    return Prefix(client) + text;
  }

  std::string Value(size_t client, int64_t number) const {
    std::string value = std::to_string(client) + ":" + std::to_string(number) + ":";
    // Nothing that compresses: drills fill disks with them.
    std::mt19937_64 random(static_cast<uint64_t>(number) * 1000 + client);
    while (value.size() < value_bytes_) {
      const uint64_t bytes = random();
      value.append(reinterpret_cast<const char*>(&bytes),
                   std::min(sizeof bytes, value_bytes_ - value.size()));
    }
    return value;
  }

  void Client(size_t client) {
    size_t endpoint = client % endpoints_.size();
    while (running_) {
      if (left_.fetch_sub(1) <= 0) return;
      const int64_t number = next_[client]++;
      etcdserverpb::PutRequest request;
      request.set_key(Key(client, number));
      request.set_value(Value(client, number));
      etcdserverpb::PutResponse response;
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + kWriteTimeout);
      const grpc::Status status =
          etcdserverpb::KV::Stub(channels_[endpoint]).Put(&context, request, &response);
      if (status.ok()) {
        silence_.Acknowledged();
        acknowledged_[client].push_back(number);
        continue;
      }
      left_.fetch_add(1);
      endpoint = (endpoint + 1) % endpoints_.size();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  std::string VerifyClient(etcdserverpb::KV::Stub& stub, size_t client) const {
    const std::vector<int64_t>& expected = acknowledged_[client];
    size_t at = 0;
    etcdserverpb::RangeRequest request;
    request.set_key(Prefix(client));
    request.set_range_end("load/" + std::to_string(client) + "0");
    request.set_limit(kPage);
    while (true) {
      etcdserverpb::RangeResponse response;
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + kReadTimeout);
      context.set_wait_for_ready(true);
      const grpc::Status status = stub.Range(&context, request, &response);
      if (!status.ok()) return "failed " + status.error_message();
      for (const mvccpb::KeyValue& kv : response.kvs()) {
        // What was never acknowledged may be there all the same.
        if (at == expected.size() || kv.key() != Key(client, expected[at])) continue;
        if (kv.value() != Value(client, expected[at]) || kv.version() != 1) return "changed " + kv.key();
        ++at;
      }
      if (!response.more()) break;
      request.set_key(response.kvs(response.kvs_size() - 1).key() + '\0');
    }
    return at == expected.size() ? "" : "lost " + Key(client, expected[at]);
  }

  const std::vector<std::string> endpoints_;
  const size_t value_bytes_;
  std::vector<std::shared_ptr<grpc::Channel>> channels_;
  std::vector<std::vector<int64_t>> acknowledged_;  // by client, ascending; touched by its thread alone
  std::vector<int64_t> next_;
  std::vector<std::thread> threads_;
  std::atomic<bool> running_ = false;
  std::atomic<int64_t> left_ = 0;
  kvd::support::Silence silence_;
};

// Answers one line; empty to end.
std::string Obey(Load& load, const std::string& line) {
  std::istringstream words(line);
  std::string command, argument;
  words >> command >> argument;
  if (command == "run") {
    load.Start(INT64_MAX);
    return "running";
  }
  if (command == "count") {
    load.Start(std::atoll(argument.c_str()));
    load.Join();
    return "stopped " + std::to_string(load.Count());
  }
  if (command == "mark") {
    load.silence().Mark();
    return "marked";
  }
  if (command == "silence") return std::to_string(load.silence().LongestMs());
  if (command == "stop") {
    load.Stop();
    return "stopped " + std::to_string(load.Count());
  }
  if (command == "verify") return load.Verify(argument);
  return "";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: killload ENDPOINTS CLIENTS VALUE_BYTES\n");
    return 2;
  }
  std::vector<std::string> endpoints;
  std::istringstream list(argv[1]);
  for (std::string endpoint; std::getline(list, endpoint, ',');) endpoints.push_back(endpoint);
  Load load(endpoints, std::atoi(argv[2]), static_cast<size_t>(std::atoi(argv[3])));
  for (std::string line; std::getline(std::cin, line);) {
    const std::string answer = Obey(load, line);
    if (answer.empty()) break;
    std::cout << answer << std::endl;
  }
  load.Stop();
  return 0;
}
