// Checks the recorded history of a drill (history.proto, one JSON object a line) with the checkers of
// simulated histories. Not thread-safe.
#pragma once

#include <istream>
#include <string>

#include "verdict.h"

namespace kvd::drill {

// What was checked, for a line of summary.
struct Checked {
  size_t operations = 0;
  size_t answered = 0;
  size_t refused = 0;
  size_t unanswered = 0;
  int64_t revision = 0;
  size_t watch_events = 0;
  size_t general = 0;  // operations that the general check of linearizability took
};

// Checkers: those of history_checker.h and watch_checker.h; "format" (a line that is none), "agreement" (two
// watches, or two members, were told different things), "hash", "durability".
Checked CheckRecorded(std::istream& lines, sim::Verdict& verdict);

}  // namespace kvd::drill
