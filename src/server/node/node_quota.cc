// The space quota: above it the NOSPACE alarm stops what grows the database; once its use is back under it,
// the alarm goes by itself. And the disk: before it is full, this member refuses what would grow the
// database, and keeps the rest for deletes, compaction and the log.

#include "base/log.h"
#include "server/node/node.h"
#include "storage/store.h"

namespace kvd::server {
namespace {

// How far below the quota the alarm ends, so that the next write does not raise it again: a twentieth.
constexpr uint64_t kSparePart = 20;
// What must be free beyond the reserve for writes to be taken again, as a part of the reserve.
constexpr uint64_t kRoomPart = 4;
// What a flush takes beyond what is in memory, amply.
constexpr uint64_t kFlushSpareBytes = 8 << 20;
constexpr base::Nanos kProposeEvery = std::chrono::seconds(1);
constexpr base::Nanos kReclaimEvery = std::chrono::seconds(5);

}  // namespace

bool Node::WouldExceedQuota(uint64_t cost) const {
  if (disk_nearly_full()) return true;
  return options_.quota_bytes > 0 && db_size() + cost > static_cast<uint64_t>(options_.quota_bytes);
}

void Node::RaiseNoSpace() {
  if (!disk_nearly_full()) ProposeNoSpace(true);
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
    if (db_size() > quota) ProposeNoSpace(true);
    return;
  }
  if (db_size() <= quota - quota / kSparePart) {
    if (!options_.no_space_clears_itself) return;
    KVD_LOG(kInfo, "the database is below its quota again", {"size", db_size()}, {"quota", quota});
    ProposeNoSpace(false);
    return;
  }
  Reclaim();
}

// Background executor, a few times a second.
void Node::WatchDisk() {
  absl::StatusOr<uint64_t> free = disk_.FreeBytes();
  if (!free.ok()) return;
  // What is in memory will be on the disk before long, whether writes are taken or not.
  const uint64_t unflushed = store_->unflushed_bytes();
  const uint64_t reserve = disk_.ReserveBytes() + unflushed;
  // A flush that found no room would stop the state machine until there is some.
  const bool can_flush = *free >= unflushed + kFlushSpareBytes;
  if (!disk_nearly_full()) {
    if (*free >= reserve) return;
    KVD_LOG(kError, "the disk is nearly full: writes are refused; delete and compact, or give it room",
            {"free-bytes", *free}, {"needed-bytes", reserve});
    disk_nearly_full_.store(true, std::memory_order_release);
    // While there is room for it, so that there is for what is deleted later, whoever takes the rest.
    if (can_flush) FlushForRoom();
  } else if (*free >= reserve + disk_.ReserveBytes() / kRoomPart) {
    KVD_LOG(kInfo, "the disk has room again: writes are taken", {"free-bytes", *free});
    disk_nearly_full_.store(false, std::memory_order_release);
  } else if (can_flush) {
    Reclaim();
  }
}

void Node::FlushForRoom() {
  executors_.bulk.Post([this] {
    if (store_->TryFlush()) executors_.background.Post([this] { TakeCheckpoint(); });
  });
}

// What was deleted and compacted still takes space on the disk: it is reclaimed once it has been swept, and
// not before, since the engine would find nothing then.
void Node::Reclaim() {
  const uint64_t sweeps = store_->sweeps();
  if (store_->compact_revision() <= 0 || sweeps == reclaimed_sweeps_ || Now() < next_reclaim_) return;
  reclaimed_sweeps_ = sweeps;
  next_reclaim_ = Now() + kReclaimEvery;
  store_->HintCompaction(executors_.bulk);
  // It flushes first; behind it the log can be cut.
  executors_.bulk.Post([this] { executors_.background.Post([this] { TakeCheckpoint(); }); });
}

}  // namespace kvd::server
