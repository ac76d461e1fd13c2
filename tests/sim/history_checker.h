// Checks a whole history of clients against what the cluster has done: every answer is that of etcd's
// semantics at its revision, in an order that respects real time; every change has exactly one cause; what
// was acknowledged is there. Linearizability by the revisions: the order of the writes is given, so no search
// is needed, and a million operations take seconds.
#pragma once

#include "history.h"
#include "truth.h"
#include "verdict.h"

namespace kvd::sim {

// Checkers: "linearizable" (order in real time), "answers" (content), "durability" (an acknowledged write is
// not there), "causes" (a change that nobody asked for, or one request applied twice).
void CheckHistory(const Ops& ops, const Truth& truth, Verdict& verdict);

// Checkers "lease early" and "lease keys". `max_drift`: how far a clock may be off, as a share.
void CheckLeases(const Ops& ops, const Truth& truth, double max_drift, Verdict& verdict);

}  // namespace kvd::sim
