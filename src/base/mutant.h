// Planted bugs, to see whether the tests would find such a bug: a build with KVD_MUTANTS can turn one on by
// its name (tests/sim/mutants.txt lists them); in any other build they are constant false and leave no trace.
//
// Thread-safety: ActivateMutant before anything else runs; then immutable.
#pragma once

#ifdef KVD_MUTANTS
#include <string_view>

namespace kvd::base {
void ActivateMutant(std::string_view name);
bool MutantIsActive(std::string_view name);
}  // namespace kvd::base
#define KVD_MUTANT(name) (::kvd::base::MutantIsActive(name))
#else
#define KVD_MUTANT(name) false
#endif
