// A general check of linearizability, after Wing and Gong with Lowe's cache: searches for an order of the
// operations that respects real time and that a sequential model accepts. Exponential at worst, so for small
// histories; it knows nothing of how revisions come about and so stands beside the check that trusts them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "history.h"

namespace kvd::sim {

// One operation on one key. What the answer did not say, or if there was no answer, is not set.
struct RegisterOp {
  enum class Kind { kGet, kPut, kDelete, kCompareAndPut };
  Kind kind = Kind::kGet;
  base::Nanos invoked{0};
  std::optional<base::Nanos> returned;  // nothing: no answer; it may have taken effect, any time after
  std::string key;
  std::string value;         // to put
  int64_t expected_mod = 0;  // of a compare-and-put; 0: the key is not there
  // The answer.
  int64_t revision = 0;
  bool found = false;  // get: lives; delete: was there; compare-and-put: succeeded
  std::string got;
  int64_t got_mod = 0;
};

enum class WglResult { kLinearizable, kNotLinearizable, kGaveUp };
// Gives up after `max_steps` tries.
WglResult CheckLinearizable(const std::vector<RegisterOp>& ops, uint64_t max_steps = 2'000'000);

// The history in these terms; nothing if it holds operations that have none.
std::optional<std::vector<RegisterOp>> AsRegisterOps(const Ops& ops);

}  // namespace kvd::sim
