// The space quota: above it the NOSPACE alarm stops what grows the database; once its use is back under it,
// the alarm goes by itself.

#include "base/log.h"
#include "server/node/node.h"
#include "storage/store.h"

namespace kvd::server {
namespace {

// How far below the quota the alarm ends, so that the next write does not raise it again: a twentieth.
constexpr uint64_t kSparePart = 20;
constexpr base::Nanos kProposeEvery = std::chrono::seconds(1);
constexpr base::Nanos kReclaimEvery = std::chrono::seconds(5);

}  // namespace

bool Node::WouldExceedQuota(uint64_t cost) const {
  return options_.quota_bytes > 0 && db_size() + cost > static_cast<uint64_t>(options_.quota_bytes);
}

void Node::RaiseNoSpace() {
  ProposeNoSpace(true);
}

void Node::ProposeNoSpace(bool raise) {
  int64_t now = Now().count();
  int64_t last = no_space_proposed_.load(std::memory_order_acquire);
  if (now - last < kProposeEvery.count()) return;
  if (!no_space_proposed_.compare_exchange_strong(last, now)) return;
  std::string request;
  AppendUint64Field(request, 1, raise ? 1 : 2);  // ACTIVATE, DEACTIVATE
  AppendUint64Field(request, 2, member_id_);
  AppendUint64Field(request, 3, static_cast<uint64_t>(AlarmType::kNoSpace));
  ProposeOwn(RequestField::kAlarm, request, std::nullopt, [](ApplyOutcome&&) {});
}

// Background executor, a few times a second.
void Node::WatchQuota() {
  if (options_.quota_bytes <= 0 || !has_leader()) return;
  const auto quota = static_cast<uint64_t>(options_.quota_bytes);
  bool raised = false;
  for (const Alarms::Alarm& alarm : alarms_.List(AlarmType::kNoSpace)) raised |= alarm.member == member_id_;
  if (!raised) {
    if (db_size() > quota) RaiseNoSpace();
    return;
  }
  if (db_size() <= quota - quota / kSparePart) {
    if (!options_.no_space_clears_itself) return;
    KVD_LOG(kInfo, "the database is below its quota again", {"size", db_size()}, {"quota", quota});
    ProposeNoSpace(false);
    return;
  }
  // What was deleted and compacted still takes space on the disk: it is reclaimed as soon as there is any.
  int64_t compacted = store_->compact_revision();
  if (compacted == reclaimed_at_ || Now() < next_reclaim_) return;
  reclaimed_at_ = compacted;
  next_reclaim_ = Now() + kReclaimEvery;
  store_->HintCompaction();
}

}  // namespace kvd::server
