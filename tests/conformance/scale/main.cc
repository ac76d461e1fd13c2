// kvd-scale: loads a member with more than ordinary clients do, checks what comes back and prints figures.
//
//   kvd-scale MODE endpoint=ADDRESS pid=PROCESS NAME=VALUE...
//
// Exit code 0: everything that was checked holds.
#include <string>

#include "support.h"

int main(int argc, char** argv) {
  using namespace kvd::scale;
  if (argc < 2) Fail("usage: kvd-scale watchers|slow-reader|list|leases name=value...");
  const std::string mode = argv[1];
  const Arguments arguments(argc, argv);
  if (mode == "watchers") {
    RunWatchers(arguments);
  } else if (mode == "slow-reader") {
    RunSlowReader(arguments);
  } else if (mode == "list") {
    RunList(arguments);
  } else if (mode == "leases") {
    RunLeases(arguments);
  } else {
    Fail("there is no mode " + mode);
  }
  return 0;
}
