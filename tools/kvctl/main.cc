// kvctl: the command-line client.
#include <cstdlib>
#include <iostream>

#include "command.h"

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  const std::vector<std::string> args(argv + 1, argv + argc);
  const auto env = [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  };
  // gRPC's own log lines are not part of what a command shows.
  setenv("GRPC_VERBOSITY", "NONE", 0);
  return kvd::ctl::RunCommandLine(args, env, {std::cin, std::cout, std::cerr});
}
