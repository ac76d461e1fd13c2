// kvd-check-history FILE: checks the history of a drill; one line of summary, exit code 0, or 1 with what is
// wrong.

#include <cinttypes>
#include <cstdio>
#include <fstream>

#include "check_history.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: kvd-check-history FILE\n");
    return 2;
  }
  std::ifstream in(argv[1]);
  if (!in) {
    std::fprintf(stderr, "kvd-check-history: %s cannot be read\n", argv[1]);
    return 2;
  }
  kvd::sim::Verdict verdict;
  const kvd::drill::Checked checked = kvd::drill::CheckRecorded(in, verdict);
  if (verdict.failed()) {
    std::printf("WRONG (%s): %s\n", verdict.checker().c_str(), verdict.what().c_str());
    return 1;
  }
  std::printf("right: %zu operations (%zu answered, %zu refused, %zu of unknown outcome) over %" PRId64
              " revisions, %zu watch events, %zu operations checked generally\n",
              checked.operations, checked.answered, checked.refused, checked.unanswered, checked.revision,
              checked.watch_events, checked.general);
  return 0;
}
