// kvd-scale: loads a member with more than ordinary clients do, checks what comes back and prints figures.
//
//   kvd-scale MODE endpoint=ADDRESS pid=PROCESS NAME=VALUE...
//
// Exit code 0: everything that was checked holds.
#include <string>

#include "support.h"

int main(int argc, char** argv) {
  if (argc < 2) kvd::scale::Fail("usage: kvd-scale watchers|slow-reader|list|leases name=value...");
  const std::string mode = argv[1];
  const kvd::scale::Arguments arguments(argc, argv);
  if (mode == "watchers") {
    kvd::scale::RunWatchers(arguments);
  } else if (mode == "slow-reader") {
    kvd::scale::RunSlowReader(arguments);
  } else if (mode == "list") {
    kvd::scale::RunList(arguments);
  } else if (mode == "leases") {
    kvd::scale::RunLeases(arguments);
  } else {
    kvd::scale::Fail("there is no mode " + mode);
  }
  return 0;
}
