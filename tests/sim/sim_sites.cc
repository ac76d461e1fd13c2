#include "sim_sites.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>
#include <string>

#include "base/check.h"

namespace kvd::sim {
namespace {

// Sorted.
constexpr std::string_view kNames[] = {
    "apply/batch at the end of an interval",
    "apply/one entry",
    "fault/bad network",
    "fault/bit rot",
    "fault/clock change",
    "fault/damaged disk found at the start",
    "fault/disk stall",
    "fault/full disk",
    "fault/kill",
    "fault/leadership transfer",
    "fault/link cut",
    "fault/lying sync",
    "fault/member with a lost disk replaced",
    "fault/partition",
    "fault/pause",
    "fault/power loss",
    "fault/power loss in an operation",
    "fault/sync failure",
    "fault/unreadable file",
    "lease/expire one",
    "lease/expired",
    "lease/question finds no leader",
    "lease/renewal waits for the checkpoint",
    "lease/renewal waits for the revocation",
    "lease/revocation answers renewals",
    "lease/scan late",
    "log/full disk",
    "log/one job",
    "log/sync failed",
    "node/ask again for a read",
    "node/checkpoint early",
    "node/commit told later",
    "node/log replayed",
    "node/loss of committed entries found",
    "node/reads outlive their leader",
    "node/refuse early",
    "node/revocation of an older term dropped",
    "node/snapshot installed",
    "node/snapshot point early",
    "node/snapshot taken up at the start",
    "node/too many requests",
    "node/trim hard",
    "raft/a quorum has an entry of an older term",
    "raft/acknowledgement while a snapshot is on its way",
    "raft/append one entry",
    "raft/append rejected",
    "raft/campaign early",
    "raft/commit learned from a refused vote",
    "raft/entries replaced while they are written",
    "raft/leader without a quorum steps down",
    "raft/log truncated",
    "raft/message of a leader of the past",
    "raft/no campaign before a change is applied",
    "raft/no snapshot for who is silent",
    "raft/probe again",
    "raft/reads wait for the first commit of a term",
    "raft/removed leader steps down",
    "raft/second configuration change refused",
    "raft/second configuration change replaced",
    "raft/snapshot did not arrive",
    "raft/snapshot early",
    "raft/snapshot of what the log holds",
    "raft/snapshot restored",
    "raft/stale snapshot",
    "raft/too much uncommitted",
    "raft/transfer aborted",
    "raft/vote refused because somebody leads",
    "storage/flush",
    "storage/interrupted compaction taken up",
    "storage/large record",
    "storage/large record in an image",
    "storage/latest due",
    "storage/latest records made up from the history",
    "storage/sweep one key",
    "wal/cut early",
    "wal/disk full in the middle of a write",
    "wal/end written anew",
    "wal/end written anew on a full disk",
    "wal/mark lags",
    "wal/no room for a segment",
    "wal/rot found",
    "wal/segment no longer needed",
    "wal/snapshot from elsewhere found in the log",
    "wal/torn end repaired",
    "watch/backlog full",
    "watch/blocked while it catches up",
    "watch/cancelled by a compaction",
    "watch/compaction overtakes a read",
    "watch/fragment",
    "watch/fragment early",
    "watch/left to history",
    "watch/long turn",
    "watch/one event at a time",
    "watch/progress of who is behind",
    "watch/progress waits for the hub",
    "watch/slow stream falls behind",
    "watch/store replaced",
};

size_t PositionOf(std::string_view name) {
  const auto* found = std::lower_bound(std::begin(kNames), std::end(kNames), name);
  KVD_CHECK(found != std::end(kNames) && *found == name,
            ("not in the list of sites: " + std::string(name)).c_str());
  return static_cast<size_t>(found - std::begin(kNames));
}

}  // namespace

absl::Span<const std::string_view> SiteNames() {
  return kNames;
}

SiteCounters& SiteCounters::Shared() {
  static_assert(std::size(kNames) <= kMost);
  static SiteCounters* shared = [] {
    void* memory =
        mmap(nullptr, sizeof(SiteCounters), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    KVD_CHECK(memory != MAP_FAILED, "shared memory for the counters");
    return new (memory) SiteCounters();
  }();
  return *shared;
}

SimSites::SimSites(base::Random random, bool active, SiteCounters& counters)
    : random_(random), active_(active), counters_(counters) {
  base::InstallSites(this);
}

SimSites::~SimSites() {
  base::InstallSites(nullptr);
}

bool SimSites::Buggify(std::string_view name) {
  if (!active_) return false;
  auto site = sites_.find(name);
  if (site == sites_.end()) {
    constexpr double kChances[] = {0.01, 0.05, 0.2};
    base::Random random = random_.Split(name);
    const double chance = random.Chance(0.25) ? kChances[random.Below(std::size(kChances))] : 0;
    site = sites_.emplace(name, Site{PositionOf(name), chance, random}).first;
  }
  if (site->second.chance == 0 || !site->second.random.Chance(site->second.chance)) return false;
  counters_.Add(site->second.position);
  return true;
}

void SimSites::Probe(std::string_view name) {
  counters_.Add(PositionOf(name));
}

}  // namespace kvd::sim
