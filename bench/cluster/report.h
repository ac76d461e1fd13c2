// What a subcommand prints: one JSON object on one line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "histogram.h"

namespace kvd::bench {

class Report {
 public:
  Report& Number(std::string_view name, double value);
  Report& Text(std::string_view name, std::string_view value);
  // An array or object that is JSON already.
  Report& Raw(std::string_view name, std::string_view json);
  // p50_us, p90_us, p99_us, p999_us, max_us and mean_us, each with `prefix` before it.
  Report& Latencies(std::string_view prefix, const Histogram& nanoseconds);

  std::string Line() const { return "{" + fields_ + "}"; }

 private:
  void Name(std::string_view name);
  std::string fields_;
};

}  // namespace kvd::bench
