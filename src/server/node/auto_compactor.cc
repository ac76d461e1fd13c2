#include "server/node/auto_compactor.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace kvd::server {
namespace {

constexpr base::Nanos kLongestSpacing = std::chrono::hours(1);
constexpr base::Nanos kRevisionInterval = std::chrono::minutes(5);
// Looks at the revision in one spacing.
constexpr int kSamplesPerSpacing = 10;

}  // namespace

AutoCompactor::AutoCompactor(Options options, base::Executor& executor, Hooks hooks)
    : options_(options), executor_(executor), hooks_(std::move(hooks)) {}

base::Nanos AutoCompactor::Spacing() const {
  return std::min(options_.keep_time, kLongestSpacing);
}

base::Nanos AutoCompactor::Interval() const {
  return options_.keep_time > base::Nanos(0) ? Spacing() / kSamplesPerSpacing : kRevisionInterval;
}

void AutoCompactor::Start() {
  executor_.Post([self = shared_from_this()] {
    self->last_success_ = self->executor_.clock().Monotonic();
    self->spacing_ = self->options_.keep_time;  // the first comes after the whole time, later ones more often
    self->Schedule();
  });
}

void AutoCompactor::Stop() {
  executor_.Post([self = shared_from_this()] { self->stopped_ = true; });
}

// A sample belongs to the moment in which the wait for the next look begins.
void AutoCompactor::Schedule() {
  if (options_.keep_time > base::Nanos(0)) {
    samples_.push_back(hooks_.revision());
    if (samples_.size() > static_cast<size_t>(options_.keep_time / Interval())) samples_.pop_front();
  }
  executor_.PostAfter(Interval(), [self = shared_from_this()] { self->Tick(); });
}

void AutoCompactor::Tick() {
  if (stopped_) return;
  if (!under_way_ && hooks_.is_leader()) {
    if (std::optional<int64_t> target = Target()) Compact(*target);
  }
  Schedule();
}

std::optional<int64_t> AutoCompactor::Target() {
  int64_t target = 0;
  if (options_.keep_time > base::Nanos(0)) {
    if (executor_.clock().Monotonic() - last_success_ < spacing_) return std::nullopt;
    target = samples_.front();
  } else {
    target = hooks_.revision() - options_.keep_revisions;
  }
  if (target <= 0 || target == compacted_) return std::nullopt;
  return target;
}

void AutoCompactor::Compact(int64_t revision) {
  KVD_LOG(kInfo, "starting auto compaction", {"revision", revision});
  spacing_ = Spacing();
  under_way_ = true;
  hooks_.compact(revision, [self = shared_from_this(), revision](Error error) {
    self->executor_.Post([self, revision, error] {
      self->under_way_ = false;
      // Somebody else may have compacted further.
      if (error == Error::kOk || error == Error::kCompacted) {
        self->last_success_ = self->executor_.clock().Monotonic();
        self->compacted_ = revision;
        KVD_LOG(kInfo, "completed auto compaction", {"revision", revision});
      } else {
        KVD_LOG(kWarn, "failed auto compaction", {"revision", revision}, {"error", ErrorText(error)});
      }
    });
  });
}

}  // namespace kvd::server
