// Named places in the code that a simulation takes part in.
//
// KVD_BUGGIFY("name") may, in a simulated run, be true: the code then does what is allowed but unusual (sends
// a single entry, syncs for one job, reads one event at a time), so that the rare paths behind it are walked
// often. A run enables some of the sites only, and an enabled one answers true now and then.
//
// KVD_PROBE("name") says that a rare place was reached, so that a series of runs can tell what it never
// tried.
//
// Without a simulation a site is one load and one branch that is never taken; put them beside rare decisions
// and at whole batches, not into loops over records.
//
// Thread-safety: InstallSites before the code that holds sites runs, and on its only thread; never in a
// process that has threads. Then immutable.
#pragma once

#include <string_view>

namespace kvd::base {

class Sites {
 public:
  virtual ~Sites() = default;
  virtual bool Buggify(std::string_view name) = 0;
  virtual void Probe(std::string_view name) = 0;
};

namespace internal {
inline constinit Sites* installed_sites = nullptr;
}  // namespace internal

// Borrowed until the next call; null: none.
inline void InstallSites(Sites* sites) {
  internal::installed_sites = sites;
}
inline bool Buggify(std::string_view name) {
  return __builtin_expect(internal::installed_sites != nullptr, 0) &&
         internal::installed_sites->Buggify(name);
}
inline void Probe(std::string_view name) {
  if (__builtin_expect(internal::installed_sites != nullptr, 0)) internal::installed_sites->Probe(name);
}

}  // namespace kvd::base

#define KVD_BUGGIFY(name) (::kvd::base::Buggify(name))
#define KVD_PROBE(name) ::kvd::base::Probe(name)
