// Runs programs on two servers and finds where they differ.
//
// Thread-safety: one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "program.h"
#include "rules.h"
#include "side.h"

namespace kvd::diff {

struct Difference {
  size_t step = 0;  // the program's size: at its end
  std::string what;
};

class Runner {
 public:
  Runner(const std::string& left, const std::string& right);

  // Brings both servers to one and the same state and runs the program on both.
  std::optional<Difference> Run(const Program& program);
  // A program, smaller if possible, that still makes a difference. Takes at most `limit`.
  Program Shrink(Program program, std::chrono::seconds limit);

  const Rules& rules() const { return rules_; }
  uint64_t calls() const { return calls_; }
  uint64_t errors() const { return errors_; }
  uint64_t events() const { return events_; }

 private:
  struct WatchState {
    etcdserverpb::WatchCreateRequest request;
    int64_t start = 0;          // the first revision that it is to see
    bool is_compacted = false;  // it began below what was kept
    int64_t compacted_at = 0;   // what was kept when it began
    std::chrono::steady_clock::time_point created;
  };
  using Maybe = std::optional<std::string>;  // what differs

  Maybe Reset();
  Maybe OnEach(const Step& step);
  Maybe RunStep(const Step& step);
  Maybe Compare(const Step& step, Outcome outcomes[2]);
  bool NothingLivesAt(int64_t revision);
  Maybe Create(const etcdserverpb::WatchCreateRequest& request);
  Maybe Cancel(const etcdserverpb::WatchCancelRequest& request);
  Maybe Progress();
  std::optional<etcdserverpb::WatchResponse> AskProgress(Side& side,
                                                         const etcdserverpb::WatchRequest& message);
  Maybe Settle();
  void AwaitCatchUp(int64_t compaction);
  Maybe CompareWatch(int64_t id, const WatchState& watch);
  std::vector<mvccpb::Event> Expected(const WatchState& watch, const Watched& all) const;
  void Learn(const Step& step, Outcome& outcome);
  bool either_old() const { return sides_[0].is_old() || sides_[1].is_old(); }
  bool one_old() const { return sides_[0].is_old() != sides_[1].is_old(); }

  Side sides_[2];
  Rules rules_;
  uint64_t calls_ = 0;
  uint64_t errors_ = 0;
  uint64_t events_ = 0;

  // Of the program that runs.
  int64_t base_ = 0;
  int64_t revision_ = 0;
  int64_t compacted_ = 0;
  std::set<int64_t> deleted_at_;  // revisions that deleted something
  std::map<int64_t, WatchState> watches_;
  static constexpr int64_t kObserver = 0;  // the watch that sees everything
};

}  // namespace kvd::diff
