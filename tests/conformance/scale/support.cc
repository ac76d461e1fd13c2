#include "support.h"

#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>

#include "etcdserverpb/rpc.grpc.pb.h"

namespace kvd::scale {

Arguments::Arguments(int argc, char** argv) {
  for (int i = 2; i < argc; ++i) {
    std::string text = argv[i];
    size_t equals = text.find('=');
    Check(equals != std::string::npos, "not name=value: " + text);
    values_.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
}

std::string Arguments::Text(const std::string& name) const {
  for (const auto& [key, value] : values_) {
    if (key == name) return value;
  }
  Fail("missing argument " + name);
}

int64_t Arguments::Number(const std::string& name) const {
  return std::strtoll(Text(name).c_str(), nullptr, 10);
}

void Fail(const std::string& why) {
  std::fprintf(stderr, "kvd-scale: %s\n", why.c_str());
  std::fflush(nullptr);
  std::_Exit(1);
}

void Check(bool condition, const std::string& why) {
  if (!condition) Fail(why);
}

void Say(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::printf("\n");
  std::fflush(stdout);
}

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

uint64_t MemoryOf(int64_t pid) {
  std::ifstream statm("/proc/" + std::to_string(pid) + "/statm");
  uint64_t pages = 0, resident = 0;
  statm >> pages >> resident;
  Check(resident > 0, "there is no process " + std::to_string(pid));
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

double Mib(int64_t bytes) {
  return static_cast<double>(bytes) / (1 << 20);
}

double Percentile(std::vector<double>& values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

std::string Key(std::string_view prefix, int64_t number) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%08lld", static_cast<long long>(number));
  return std::string(prefix) + digits;
}

std::string PrefixEnd(std::string prefix) {
  ++prefix.back();
  return prefix;
}

namespace {

struct PutCall {
  uint64_t number = 0;
  Clock::time_point sent;
  grpc::ClientContext context;
  etcdserverpb::PutResponse response;
  grpc::Status status;
  std::unique_ptr<grpc::ClientAsyncResponseReader<etcdserverpb::PutResponse>> reader;
};

}  // namespace

void Putter::Run(const std::function<bool(uint64_t number)>& more, const Make& make, const Done& done) {
  std::unique_ptr<etcdserverpb::KV::Stub> stub = etcdserverpb::KV::NewStub(Connect(endpoint_));
  grpc::CompletionQueue queue;
  const Clock::time_point start = Clock::now();
  uint64_t next = 0;
  int in_flight = 0;
  bool going = true;
  while (going || in_flight > 0) {
    while (
        going && in_flight < options_.in_flight &&
        (options_.per_second == 0 || static_cast<double>(next) < SecondsSince(start) * options_.per_second)) {
      if (!(going = more(next))) break;
      auto call = std::make_unique<PutCall>();
      etcdserverpb::PutRequest request;
      make(next, &request);
      call->number = next++;
      call->sent = Clock::now();
      call->reader = stub->AsyncPut(&call->context, request, &queue);
      ++in_flight;
      PutCall* raw = call.release();
      raw->reader->Finish(&raw->response, &raw->status, raw);
    }
    void* tag = nullptr;
    bool ok = false;
    auto wait = std::chrono::system_clock::now() + std::chrono::milliseconds(1);
    if (queue.AsyncNext(&tag, &ok, wait) != grpc::CompletionQueue::GOT_EVENT) continue;
    std::unique_ptr<PutCall> call(static_cast<PutCall*>(tag));
    --in_flight;
    Check(call->status.ok(), "a put failed: " + call->status.error_message());
    done(call->number, call->response.header().revision(), SecondsSince(call->sent));
  }
  queue.Shutdown();
}

}  // namespace kvd::scale
