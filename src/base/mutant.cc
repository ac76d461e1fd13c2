#include "base/mutant.h"

#ifdef KVD_MUTANTS
#include <string>

namespace kvd::base {
namespace {
std::string& Active() {
  static std::string* name = new std::string;
  return *name;
}
}  // namespace

void ActivateMutant(std::string_view name) {
  Active() = std::string(name);
}
bool MutantIsActive(std::string_view name) {
  return Active() == name;
}

}  // namespace kvd::base
#endif
