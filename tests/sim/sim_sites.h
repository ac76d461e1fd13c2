// The places of base/sites.h in a simulated run: which of them do the unusual, and how often each was
// reached. The lists of names are here, so that a series of runs can tell what it never came to.
//
// Thread-compatible; counters may lie in memory that several processes share.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string_view>

#include "absl/types/span.h"
#include "base/random.h"
#include "base/sites.h"

namespace kvd::sim {

// All names, those of BUGGIFY sites included.
absl::Span<const std::string_view> SiteNames();

// One counter for each name, in the order of SiteNames().
class SiteCounters {
 public:
  // Shared with the processes that are forked later. Never given back.
  static SiteCounters& Shared();
  void Add(size_t position) { counts_[position].fetch_add(1, std::memory_order_relaxed); }
  uint64_t Get(size_t position) const { return counts_[position].load(std::memory_order_relaxed); }

 private:
  static constexpr size_t kMost = 256;
  std::array<std::atomic<uint64_t>, kMost> counts_;
};

// Installs itself while it lives.
class SimSites final : public base::Sites {
 public:
  // Without `active`, no site does the unusual. Each is enabled in a quarter of the runs, and then answers
  // true with a chance of its own.
  SimSites(base::Random random, bool active, SiteCounters& counters);
  ~SimSites() override;
  SimSites(const SimSites&) = delete;
  SimSites& operator=(const SimSites&) = delete;

  bool Buggify(std::string_view name) override;
  void Probe(std::string_view name) override;
  // From now on nothing unusual.
  void Quieten() { active_ = false; }

 private:
  struct Site {
    size_t position;
    double chance;  // 0: not enabled
    base::Random random;
  };
  const base::Random random_;
  bool active_;
  SiteCounters& counters_;
  std::map<std::string_view, Site> sites_;
};

}  // namespace kvd::sim
