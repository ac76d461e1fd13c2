// What the programs of kvd-scale have in common: command lines, clocks, memory of the member, and a client
// that puts at a given rate.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "etcdserverpb/rpc.pb.h"
#include "support/channel.h"

namespace kvd::scale {

using support::Connect;

using Clock = std::chrono::steady_clock;

// "name=value" arguments after the mode.
class Arguments {
 public:
  Arguments(int argc, char** argv);
  std::string Text(const std::string& name) const;
  int64_t Number(const std::string& name) const;

 private:
  std::vector<std::pair<std::string, std::string>> values_;
};

// Ends the program with 1.
[[noreturn]] void Fail(const std::string& why);
void Check(bool condition, const std::string& why);
// A line of results, at once.
__attribute__((format(printf, 1, 2))) void Say(const char* format, ...);

double SecondsSince(Clock::time_point start);
// Resident bytes of a process of this machine.
uint64_t MemoryOf(int64_t pid);
double Mib(int64_t bytes);
// `share` between 0 and 1; sorts.
double Percentile(std::vector<double>& values, double share);

std::string Key(std::string_view prefix, int64_t number);
// The end of the keys that begin with `prefix`, which must not end in 0xff.
std::string PrefixEnd(std::string prefix);

// Puts from one thread, many at a time.
class Putter {
 public:
  struct Options {
    double per_second = 0;  // 0: as fast as they are answered
    int in_flight = 256;
  };
  using Make = std::function<void(uint64_t number, etcdserverpb::PutRequest* request)>;
  using Done = std::function<void(uint64_t number, int64_t revision, double seconds)>;

  Putter(const std::string& endpoint, Options options) : endpoint_(endpoint), options_(options) {}
  // Until `more` says no and everything is answered. Any error ends the program.
  void Run(const std::function<bool(uint64_t number)>& more, const Make& make, const Done& done);

 private:
  const std::string endpoint_;
  const Options options_;
};

// The modes.
void RunWatchers(const Arguments& arguments);
void RunSlowReader(const Arguments& arguments);
void RunList(const Arguments& arguments);
void RunLeases(const Arguments& arguments);

}  // namespace kvd::scale
