#include "report.h"

#include <array>
#include <cstdio>

namespace kvd::bench {

void Report::Name(std::string_view name) {
  if (!fields_.empty()) fields_ += ", ";
  fields_.append("\"").append(name).append("\": ");
}

Report& Report::Number(std::string_view name, double value) {
  Name(name);
  std::array<char, 40> text;
  std::snprintf(text.data(), text.size(), "%.10g", value);
  fields_ += text.data();
  return *this;
}

Report& Report::Text(std::string_view name, std::string_view value) {
  Name(name);
  fields_ += '"';
  for (const char c : value) {
    if (c == '"' || c == '\\') fields_ += '\\';
    fields_ += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  fields_ += '"';
  return *this;
}

Report& Report::Raw(std::string_view name, std::string_view json) {
  Name(name);
  fields_ += json;
  return *this;
}

Report& Report::Latencies(std::string_view prefix, const Histogram& nanoseconds) {
  const std::string before(prefix);
  const auto micros = [&](double percent) {
    return static_cast<double>(nanoseconds.Percentile(percent)) / 1e3;
  };
  Number(before + "p50_us", micros(50)).Number(before + "p90_us", micros(90));
  Number(before + "p99_us", micros(99)).Number(before + "p999_us", micros(99.9));
  Number(before + "max_us", static_cast<double>(nanoseconds.max()) / 1e3);
  return Number(before + "mean_us", nanoseconds.Mean() / 1e3);
}

}  // namespace kvd::bench
