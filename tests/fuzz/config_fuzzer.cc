// Any text as arguments, as variables and as a configuration file: an answer comes back, and a configuration
// that is accepted is a valid one.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "server/config/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > 4096) return 0;
  std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  kvd::server::Surroundings surroundings;
  surroundings.read_file = [&](const std::string&) { return absl::StatusOr<std::string>(text); };
  surroundings.default_host = [] { return std::string(); };
  std::vector<std::string> args, env;
  switch (data[0] % 3) {
    case 0:
      args = absl::StrSplit(text, '\n');
      break;
    case 1:
      env = absl::StrSplit(text, '\n');
      break;
    default:
      args = {"--config-file=fuzz.yml"};
      break;
  }
  kvd::server::ParseResult parsed = kvd::server::ParseCommandLine(args, env, surroundings);
  if (parsed.action == kvd::server::ParseResult::Action::kRun && !kvd::server::Validate(parsed.config).ok()) {
    std::abort();
  }
  return 0;
}
