// What the cluster has really done: every change that any member's state machine has written, seen at its
// engine. Whatever is committed is committed for good, so the first member to write a revision decides what
// it is, and any other that writes something else is found out at once (checker "agreement").
//
// Thread-compatible.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "kv_model.h"
#include "storage/engine.h"
#include "verdict.h"

namespace kvd::sim {

class Truth {
 public:
  struct Change {
    bool is_delete = false;
    mvccpb::KeyValue kv;  // of a delete: key and mod_revision
  };
  struct LeaseEnd {
    base::Nanos at{0};
  };

  Truth(base::Clock& clock, Verdict& verdict) : clock_(clock), verdict_(verdict) {}

  // Puts an eye on the engine of a member.
  std::unique_ptr<storage::Engine> Watch(size_t member, std::unique_ptr<storage::Engine> engine);

  // For a history that was recorded elsewhere: a revision whole, and the end of a lease. False if it was
  // given otherwise before.
  bool Record(int64_t revision, const std::vector<Change>& changes, base::Nanos at);
  void RecordLeaseEnd(int64_t lease, base::Nanos at) { ended_leases_.emplace(lease, at); }

  // The latest revision that somebody has written; 1: none.
  int64_t revision() const { return changes_.empty() ? 1 : changes_.rbegin()->first; }
  // In order; null if nobody has written it.
  const std::vector<Change>* At(int64_t revision) const;
  // When it was written first; max if never.
  base::Nanos WrittenAt(int64_t revision) const;
  LiveKeys StateAt(int64_t revision) const;
  // Null if the key did not live then.
  const mvccpb::KeyValue* KeyAt(const std::string& key, int64_t revision) const;
  const std::map<int64_t, base::Nanos>& ended_leases() const { return ended_leases_; }
  // True if a change of [from, to] lies in the range.
  bool Touched(const std::string& key, const std::string& range_end, int64_t from, int64_t to) const;
  // HashKV at a revision under a compaction, as a member says: all must say the same ("hash").
  void Hash(size_t member, int64_t revision, int64_t compact_revision, uint32_t hash);
  uint64_t Digest() const;

 private:
  friend class WatchedEngine;
  struct Batch {
    std::vector<std::pair<std::string, std::string>> puts;
    std::vector<std::string> deletes;
  };
  void OnWrite(size_t member, const Batch& batch);
  void OnRevision(size_t member, std::string_view key, const std::string& record);
  void OnState(size_t member, const std::string& state);

  base::Clock& clock_;
  Verdict& verdict_;
  std::map<int64_t, std::vector<Change>> changes_;
  std::map<int64_t, std::vector<std::string>> records_;  // raw, by sub revision
  std::map<int64_t, base::Nanos> written_;
  struct Version {
    int64_t revision;
    bool is_delete;
    mvccpb::KeyValue kv;
  };
  std::map<std::string, std::vector<Version>> keys_;
  struct IndexState {
    uint64_t term;
    int64_t revision;
    size_t member;
  };
  std::map<uint64_t, IndexState> by_index_;
  std::map<int64_t, base::Nanos> ended_leases_;
  std::map<std::pair<int64_t, int64_t>, std::pair<uint32_t, size_t>> hashes_;
};

}  // namespace kvd::sim
