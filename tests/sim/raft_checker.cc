#include "raft_checker.h"

#include <algorithm>
#include <tuple>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/crc32c.h"

namespace kvd::sim {

using raft::Index;
using raft::NodeId;
using raft::Term;
namespace trace = raft::trace;

RaftChecker::Mark RaftChecker::MarkOf(const raft::Entry& entry) {
  return {entry.term, base::Crc32c(static_cast<uint32_t>(entry.type), entry.data.view()),
          entry.type != raft::EntryType::kNormal};
}

std::pair<bool, Term> RaftChecker::Member::TermAt(Index index) const {
  if (index == before) return {true, before_term};
  if (!Holds(index)) return {false, 0};
  return {true, At(index).term};
}

void RaftChecker::Member::Keep(Index last_kept) {
  log.resize(std::min<size_t>(log.size(), last_kept > before ? last_kept - before : 0));
}

void RaftChecker::Fail(const std::string& checker, NodeId id, const std::string& what) {
  verdict_.Fail(checker, absl::StrCat("member ", absl::Hex(id), ": ", what));
}

bool RaftChecker::KeepsPromises(const Member& before, const raft::HardState& hard, const raft::LogView& log,
                                bool disk_has_lied, std::string* why_not) {
  if (hard.term < before.promised_term) {
    *why_not =
        absl::StrCat("it is back in term ", hard.term, " and has answered in term ", before.promised_term);
    return false;
  }
  auto vote = before.votes.find(hard.term);
  if (vote != before.votes.end() && hard.vote != vote->second) {
    *why_not = absl::StrCat("it has forgotten its vote of term ", hard.term);
    return false;
  }
  auto [index, term] = before.acknowledged;
  // Whether a leader's own part was needed for what it has committed is not seen here; a disk that has lied
  // gets no benefit of the doubt.
  if (disk_has_lied && before.led_commit.first > index) std::tie(index, term) = before.led_commit;
  if (index >= log.FirstIndex() && log.TermAt(index) != std::optional<Term>(term)) {
    *why_not = absl::StrCat("its log ends at ", log.LastIndex(), " and it has acknowledged entry ", index,
                            " of term ", term);
    return false;
  }
  return true;
}

bool RaftChecker::OnStart(NodeId node, const raft::HardState& hard, const raft::LogView& log,
                          bool disk_has_lied) {
  Member& m = members_[node];
  std::string why_not;
  if (!KeepsPromises(m, hard, log, disk_has_lied, &why_not)) {
    if (!disk_has_lied) Fail("promises", node, why_not);
    return false;
  }
  m.term = hard.term;
  m.role = raft::Role::kFollower;
  m.before = log.FirstIndex() - 1;
  m.before_term = log.TermAt(m.before).value_or(0);
  m.log.clear();
  std::vector<raft::Entry> entries;
  log.Entries(log.FirstIndex(), log.LastIndex() + 1, raft::kNoLimit, &entries);
  for (const raft::Entry& entry : entries) {
    m.log.push_back(MarkOf(entry));
    See(node, m, entry.index);
  }
  m.commit = m.before;
  Commit(node, m, hard.commit, hard.term);
  return true;
}

void RaftChecker::OnEvent(NodeId node, const trace::Event& event) {
  auto m = members_.find(node);
  if (m == members_.end()) return;
  std::visit([&](const auto& e) { Handle(node, m->second, e); }, event);
}

void RaftChecker::SeeTerm(NodeId id, Member& m, Term term) {
  if (term < m.term) Fail("terms", id, absl::StrCat("goes from term ", m.term, " back to ", term));
  m.term = std::max(m.term, term);
}

void RaftChecker::Lead(NodeId id, Term term) {
  auto [leader, first] = leaders_.try_emplace(term, id);
  if (!first && leader->second != id) {
    Fail("one leader", id, absl::StrFormat("leads in term %d, as %x does", term, leader->second));
  }
}

void RaftChecker::Handle(NodeId id, Member& m, const trace::RoleChanged& e) {
  SeeTerm(id, m, e.term);
  m.role = e.to;
  if (e.to != raft::Role::kLeader) return;
  Lead(id, e.term);
  m.votes[e.term] = id;
  m.promised_term = std::max(m.promised_term, e.term);
  // What it follows from is that every committed entry is in the log of every later leader. Logs that share
  // an entry are equal up to there, so the last one speaks for all.
  auto last = std::find_if(committed_.rbegin(), committed_.rend(),
                           [&](const auto& c) { return c.second.in_term < e.term; });
  if (last == committed_.rend() || last->first <= m.before) return;
  auto [known, term] = m.TermAt(last->first);
  if (!known || term != last->second.mark.term) {
    Fail("leader completeness", id,
         absl::StrCat("leads in term ", e.term, " without entry ", last->first, " of term ",
                      last->second.mark.term, ", committed in term ", last->second.in_term));
  }
}

// Notes an entry of the log, and holds it to what others have there.
void RaftChecker::See(NodeId id, const Member& m, Index index) {
  const Mark& mark = m.At(index);
  auto [known, before] = m.TermAt(index - 1);
  if (!known) return;
  auto [seen, first] = entries_.try_emplace({index, mark.term}, mark, before);
  if (!first && (seen->second.first != mark || seen->second.second != before)) {
    Fail("log matching", id,
         absl::StrCat("entry ", index, " of term ", mark.term, " is not the one that others hold"));
  }
  if (before > mark.term) {
    Fail("log matching", id,
         absl::StrCat("entry ", index, " of term ", mark.term, " follows one of term ", before));
  }
}

void RaftChecker::Handle(NodeId id, Member& m, const trace::EntriesAppended& e) {
  SeeTerm(id, m, e.term);
  if (e.first > m.last() + 1 || e.first <= m.before) {
    return Fail("log matching", id,
                absl::StrCat("appends at ", e.first, " to a log that ends at ", m.last()));
  }
  m.Keep(e.first - 1);
  bool pending = false;
  for (Index i = m.commit + 1; i <= m.last(); ++i)
    pending = pending || (m.Holds(i) && m.At(i).changes_members);
  for (const raft::Entry& entry : e.entries) {
    Mark mark = MarkOf(entry);
    if (m.role == raft::Role::kLeader && mark.changes_members) {
      if (pending)
        Fail("one change", id, absl::StrCat("proposes a second change of the members at ", entry.index));
      pending = true;
    }
    m.log.push_back(mark);
    See(id, m, entry.index);
  }
}

void RaftChecker::Handle(NodeId id, Member& m, const trace::LogTruncated& e) {
  if (m.role == raft::Role::kLeader) Fail("leader's log", id, absl::StrCat("drops its own entry ", e.from));
  if (e.from <= m.commit) Fail("commit", id, absl::StrCat("drops entry ", e.from, ", which is committed"));
  m.Keep(e.from - 1);
  // Its leader may replace what an older one got acknowledged.
  if (m.acknowledged.first >= e.from) {
    auto [known, term] = m.TermAt(e.from - 1);
    m.acknowledged = known ? std::make_pair(e.from - 1, term) : std::make_pair(Index{0}, Term{0});
  }
}

void RaftChecker::Commit(NodeId id, Member& m, Index index, Term in_term) {
  if (index < m.commit) return Fail("commit", id, absl::StrCat("goes back from ", m.commit, " to ", index));
  for (Index i = m.commit + 1; i <= index; ++i) {
    if (i <= m.before) continue;
    if (!m.Holds(i)) return Fail("commit", id, absl::StrCat("commits entry ", i, ", which it does not hold"));
    auto [known, first] = committed_.try_emplace(i, Committed{m.At(i), in_term});
    if (!first && known->second.mark != m.At(i)) {
      return Fail("commit", id,
                  absl::StrCat("commits entry ", i, " of term ", m.At(i).term,
                               ", another member has committed one of term ", known->second.mark.term));
    }
    known->second.in_term = std::min(known->second.in_term, in_term);
  }
  m.commit = index;
  // It may have counted itself.
  if (m.role == raft::Role::kLeader) m.led_commit = {index, m.TermAt(index).second};
}

void RaftChecker::Handle(NodeId id, Member& m, const trace::CommitAdvanced& e) {
  SeeTerm(id, m, e.term);
  if (m.role == raft::Role::kLeader && m.TermAt(e.commit) != std::make_pair(true, e.term)) {
    Fail("own term", id,
         absl::StrCat("leads in term ", e.term, " and commits entry ", e.commit, " of another by counting"));
  }
  Commit(id, m, e.commit, e.term);
}

void RaftChecker::Handle(NodeId id, Member& m, const trace::SnapshotReceived& e) {
  if (e.verdict != trace::SnapshotVerdict::kRestored) return;
  if (e.index < m.commit)
    Fail("commit", id, absl::StrCat("takes a snapshot of ", e.index, " behind its commit index"));
  auto known = committed_.find(e.index);
  if (known == committed_.end() || known->second.mark.term != e.term) {
    Fail("commit", id,
         absl::StrCat("takes a snapshot of entry ", e.index, " of term ", e.term,
                      ", which nobody has committed"));
  }
  m.log.clear();
  m.before = m.commit = e.index;
  m.before_term = e.term;
}

void RaftChecker::OnSend(const raft::Message& message) {
  auto found = members_.find(message.from);
  if (found == members_.end()) return;
  Member& m = found->second;
  if (message.type == raft::MessageType::kVoteResp && !message.reject) {
    m.promised_term = std::max(m.promised_term, message.term);
    auto [vote, first] = m.votes.try_emplace(message.term, message.to);
    if (!first && vote->second != message.to) {
      Fail("promises", message.from, absl::StrCat("votes twice in term ", message.term));
    }
  }
  if (message.type != raft::MessageType::kAppResp || message.reject || message.index == 0) return;
  // An answer to a leader of the past binds nobody: its entries may have been replaced since.
  if (message.term != m.term || message.index <= m.acknowledged.first) return;
  m.promised_term = std::max(m.promised_term, message.term);
  auto [known, term] = m.TermAt(message.index);
  if (known) m.acknowledged = {message.index, term};
}

}  // namespace kvd::sim
