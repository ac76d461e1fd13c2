#include "raft/raft_log.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/mutant.h"
#include "base/sites.h"

namespace kvd::raft {

RaftLog::RaftLog(const LogView* view, Index applied, Index commit)
    : view_(view),
      offset_(view->LastIndex() + 1),
      handed_(offset_),
      commit_(commit),
      applying_(applied),
      applied_(applied) {
  KVD_CHECK(applied + 1 >= view->FirstIndex(), "the log must reach back to what is applied");
  KVD_CHECK(commit <= view->LastIndex(), "the log must hold everything that is known to be committed");
  KVD_CHECK(applied <= commit, "only what is committed can be applied");
}

Index RaftLog::FirstIndex() const {
  return snapshot_ != nullptr ? snapshot_->meta.index + 1 : view_->FirstIndex();
}

std::optional<Term> RaftLog::TermAt(Index index) const {
  if (index >= offset_) {
    if (index > LastIndex()) return std::nullopt;
    return unstable_[index - offset_].term;
  }
  if (snapshot_ != nullptr) {
    if (index == snapshot_->meta.index) return snapshot_->meta.term;
    return std::nullopt;
  }
  return view_->TermAt(index);
}

Term RaftLog::LastTerm() const {
  std::optional<Term> term = TermAt(LastIndex());
  KVD_CHECK(term.has_value(), "the term of the last entry is always known");
  return *term;
}

bool RaftLog::IsUpToDate(Index index, Term term) const {
  const Term last_term = LastTerm();
  return term > last_term || (term == last_term && index >= LastIndex());
}

RaftLog::Position RaftLog::FindConflictByTerm(Index index, Term term) const {
  for (; index > 0; --index) {
    std::optional<Term> here = TermAt(index);
    if (!here.has_value()) return {index, 0};
    if (*here <= term) return {index, *here};
  }
  return {0, 0};
}

void RaftLog::Entries(Index low, Index high, uint64_t max_bytes, std::vector<Entry>* out) const {
  KVD_CHECK(low >= FirstIndex() && high <= LastIndex() + 1, "the entries asked for must be there");
  if (low >= high) return;
  uint64_t bytes = 0;
  const size_t before = out->size();
  if (low < offset_) {
    const Index end = std::min(high, offset_);
    view_->Entries(low, end, max_bytes, out);
    if (out->size() - before < end - low) return;
    low = end;
    if (low == high) return;
    for (size_t i = before; i < out->size(); ++i) bytes += EntryBytes((*out)[i]);
  }
  size_t n = 0;
  const size_t first = low - offset_;
  for (; n < high - low; ++n) {
    bytes += EntryBytes(unstable_[first + n]);
    if (bytes > max_bytes && (n > 0 || out->size() > before)) break;
  }
  auto slice = unstable_.Slice(first, first + n);
  out->insert(out->end(), slice.begin(), slice.end());
}

Index RaftLog::AppendFrom(std::vector<Entry> entries) {
  size_t skip = 0;
  while (skip < entries.size() && entries[skip].index <= LastIndex() &&
         Matches(entries[skip].index, entries[skip].term)) {
    ++skip;
  }
  if (skip == entries.size()) return 0;
  const Index from = entries[skip].index;
  KVD_CHECK(from > commit_, "a committed entry cannot be replaced");
  Index dropped = 0;
  if (from <= LastIndex()) {
    dropped = from;
    InvalidateWritesFrom(from);
    if (from <= offset_) {
      unstable_.Clear();
      offset_ = from;
    } else {
      unstable_.TruncateTo(from - offset_);
    }
    handed_ = std::min(handed_, from);
  }
  KVD_CHECK(from == LastIndex() + 1, "entries must follow one another");
  for (size_t i = skip; i < entries.size(); ++i) unstable_.PushBack(std::move(entries[i]));
  return dropped;
}

void RaftLog::CommitTo(Index index) {
  if (index <= commit_) return;
  KVD_CHECK(index <= LastIndex(),
            "the log is shorter than what it once acknowledged: was it truncated or lost?");
  commit_ = index;
}

void RaftLog::AppliedTo(Index index, bool by_snapshot) {
  if (index <= applied_) return;
  KVD_CHECK(index <= commit_ && (by_snapshot || index <= applying_),
            "only what was handed out can be applied");
  applied_ = index;
  applying_ = std::max(applying_, index);
  while (!batches_.empty() && batches_.front().last <= index) {
    applying_bytes_ -= batches_.front().bytes;
    batches_.pop_front();
  }
}

void RaftLog::Restore(std::shared_ptr<const Snapshot> snapshot) {
  const Index index = snapshot->meta.index;
  KVD_CHECK(index > commit_, "a snapshot cannot take back what is committed");
  InvalidateWritesFrom(0);
  unstable_.Clear();
  offset_ = handed_ = index + 1;
  commit_ = index;
  snapshot_ = std::move(snapshot);
  snapshot_handed_ = false;
}

void RaftLog::TakeUnwritten(Ready* ready) {
  if (snapshot_ != nullptr && !snapshot_handed_) {
    ready->snapshot = snapshot_;
    snapshot_handed_ = true;
  }
  if (handed_ <= LastIndex()) {
    auto slice = unstable_.Slice(handed_ - offset_, unstable_.size());
    ready->append.assign(slice.begin(), slice.end());
    handed_ = LastIndex() + 1;
  }
  ready->ack = {.number = ready->number,
                .term = LastTerm(),
                .last_index = LastIndex(),
                .snapshot_index = ready->snapshot != nullptr ? ready->snapshot->meta.index : 0};
  writes_.push_back({ready->ack, ready->ack.last_index});
}

void RaftLog::Persisted(const ::kvd::raft::Persisted& ack) {
  while (!writes_.empty() && writes_.front().ack.number <= ack.number) {
    const Write w = writes_.front();
    writes_.pop_front();
    if (w.ack.number == ack.number) {
      KVD_CHECK(w.ack.last_index == ack.last_index && w.ack.term == ack.term,
                "an acknowledgement must name what its Ready wrote");
    }
    if (w.ack.snapshot_index != 0) {
      if (snapshot_ != nullptr && snapshot_->meta.index == w.ack.snapshot_index) {
        KVD_CHECK(view_->FirstIndex() > w.ack.snapshot_index, "a persisted snapshot is in the view");
        snapshot_ = nullptr;
      }
      AppliedTo(w.ack.snapshot_index, /*by_snapshot=*/true);
    }
    StableTo(w.valid_to);
  }
}

void RaftLog::InvalidateWritesFrom(Index index) {
  if (KVD_MUTANT("ack_of_overwritten_entries")) return;
  const Index keep = index == 0 ? 0 : index - 1;
  for (Write& w : writes_) {
    if (w.valid_to > keep) KVD_PROBE("raft/entries replaced while they are written");
    w.valid_to = std::min(w.valid_to, keep);
  }
}

void RaftLog::StableTo(Index index) {
  if (index < offset_) return;
  KVD_CHECK(index < handed_ && view_->LastIndex() >= index, "a persisted entry is in the view");
  unstable_.PopFront(index - offset_ + 1);
  offset_ = index + 1;
}

bool RaftLog::HasCommitted(uint64_t max_apply_bytes) const {
  return snapshot_ == nullptr && applying_ < std::min(commit_, StableIndex()) &&
         (applying_bytes_ < max_apply_bytes || batches_.empty());
}

void RaftLog::TakeCommitted(uint64_t max_bytes, std::vector<Entry>* out) {
  Entries(applying_ + 1, std::min(commit_, StableIndex()) + 1, max_bytes, out);
  uint64_t bytes = 0;
  for (const Entry& e : *out) bytes += EntryBytes(e);
  applying_ = out->back().index;
  batches_.push_back({applying_, bytes});
  applying_bytes_ += bytes;
}

}  // namespace kvd::raft
