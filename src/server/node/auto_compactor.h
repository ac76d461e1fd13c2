// Automatic compaction (ETCD: server/etcdserver/api/v3compactor): the leader compacts what is older than a
// time, or more than a number of revisions back.
//
// Thread-safety: Start and Stop from any thread, once each; the rest happens on the executor. Ownership:
// shared, as its timers keep it; the hooks are not called once Stop has returned on the executor or the
// executor has stopped.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "absl/functional/any_invocable.h"
#include "base/executor.h"
#include "server/node/error_table.h"

namespace kvd::server {

class AutoCompactor : public std::enable_shared_from_this<AutoCompactor> {
 public:
  struct Options {
    // One of the two.
    base::Nanos keep_time{0};    // periodic
    int64_t keep_revisions = 0;  // revision
  };
  struct Hooks {
    std::function<bool()> is_leader;
    std::function<int64_t()> revision;  // the current one
    // Answers on any thread.
    std::function<void(int64_t revision, absl::AnyInvocable<void(Error)> done)> compact;
  };

  AutoCompactor(Options options, base::Executor& executor, Hooks hooks);

  void Start();
  void Stop();

 private:
  // Between two looks, and between two compactions.
  base::Nanos Interval() const;
  base::Nanos Spacing() const;
  void Schedule();
  void Tick();
  std::optional<int64_t> Target();
  void Compact(int64_t revision);

  const Options options_;
  base::Executor& executor_;
  const Hooks hooks_;

  // Executor only.
  bool stopped_ = false;
  bool under_way_ = false;
  std::deque<int64_t> samples_;  // periodic: the revision at each look back to keep_time
  base::Nanos last_success_{0};
  base::Nanos spacing_{0};
  int64_t compacted_ = 0;
};

}  // namespace kvd::server
