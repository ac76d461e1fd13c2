#include "watch_checker.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace kvd::sim {

WatchChecker::WatchChecker(const Truth& truth, Options options, std::function<void(const std::string&)> fail,
                           std::function<int64_t()> compacted)
    : truth_(truth), options_(std::move(options)), fail_(std::move(fail)), compacted_(std::move(compacted)) {}

void WatchChecker::BeginStream() {
  fragments_.clear();
}

bool WatchChecker::CaughtUp(int64_t revision) const {
  return next_ > 0 &&
         (next_ > revision || !truth_.Touched(options_.key, options_.range_end, next_, revision));
}

WatchChecker::After WatchChecker::OnResponse(const etcdserverpb::WatchResponse& response) {
  if (response.created()) {
    if (response.canceled()) {
      fail_(absl::StrCat("refused: ", response.cancel_reason()));
    } else if (next_ == 0) {
      next_ = response.header().revision() + 1;
    }
    return After::kGoOn;
  }
  if (response.canceled()) {
    if (response.compact_revision() <= next_) {
      fail_(absl::StrCat("cancelled as compacted at ", response.compact_revision()));
      return After::kGoOn;
    }
    next_ = response.compact_revision();
    return After::kCompacted;
  }
  if (response.events_size() > 0) {
    OnEvents(response);
    return After::kGoOn;
  }
  if (response.fragment()) {
    fail_("an empty fragment");
    return After::kGoOn;
  }
  // Progress: nothing up to this revision is still to come.
  int64_t revision = response.header().revision();
  if (revision < next_) return After::kGoOn;
  if (truth_.Touched(options_.key, options_.range_end, next_, revision)) {
    fail_(absl::StrCat("progress to ", revision, " ahead of events"));
    return After::kGoOn;
  }
  next_ = revision + 1;
  return After::kGoOn;
}

void WatchChecker::OnEvents(const etcdserverpb::WatchResponse& response) {
  for (const mvccpb::Event& event : response.events()) fragments_.push_back(event);
  if (response.fragment()) {
    if (!options_.fragment) fail_("a fragment that was not asked for");
    return;
  }
  std::vector<mvccpb::Event> events = std::move(fragments_);
  fragments_.clear();
  // What must be told from where the watch stands up to the last revision of this response, all of it.
  int64_t last = events.back().kv().mod_revision();
  if (response.header().revision() < last) return fail_("a header older than its events");
  size_t at = 0;
  for (int64_t revision = next_; revision <= last; ++revision) {
    const auto* changes = truth_.At(revision);
    if (changes == nullptr) return fail_(absl::StrCat("an event of revision ", last, ", which nobody wrote"));
    for (const Truth::Change& change : *changes) {
      if (!InRange(change.kv.key(), options_.key, options_.range_end)) continue;
      if (at == events.size()) {
        return fail_(absl::StrCat("misses ", change.is_delete ? "delete {" : "put {",
                                  change.kv.ShortDebugString(), "}"));
      }
      if (!CheckEvent(events[at++], change, revision)) return;
    }
  }
  if (at != events.size()) {
    return fail_(
        absl::StrCat("repeats or reorders, or tells what is not its: {", events[at].ShortDebugString(), "}"));
  }
  events_ += events.size();
  next_ = last + 1;
}

bool WatchChecker::CheckEvent(const mvccpb::Event& event, const Truth::Change& change, int64_t revision) {
  std::string wanted =
      absl::StrCat(change.is_delete ? "delete {" : "put {", change.kv.ShortDebugString(), "}");
  auto wrong = [&](const std::string& what) {
    fail_(what);
    return false;
  };
  if ((event.type() == mvccpb::Event::DELETE) != change.is_delete ||
      event.kv().SerializeAsString() != change.kv.SerializeAsString()) {
    return wrong(absl::StrCat("should say ", wanted, ", says {", event.ShortDebugString(), "}"));
  }
  if (!options_.prev_kv) {
    return event.has_prev_kv() ? wrong("a previous value that was not asked for") : true;
  }
  const mvccpb::KeyValue* previous = truth_.KeyAt(change.kv.key(), revision - 1);
  bool expected = previous != nullptr && (change.is_delete || change.kv.version() > 1);
  // A compaction may have taken it; then there is none.
  if (event.has_prev_kv() &&
      (!expected || event.prev_kv().SerializeAsString() != previous->SerializeAsString())) {
    return wrong(
        absl::StrCat("wrong previous value of ", wanted, ": {", event.prev_kv().ShortDebugString(), "}"));
  }
  if (expected && !event.has_prev_kv() && revision - 1 >= compacted_()) {
    return wrong(absl::StrCat("no previous value of ", wanted));
  }
  return true;
}

}  // namespace kvd::sim
