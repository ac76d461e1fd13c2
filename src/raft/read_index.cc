// Linearizable reads without a log entry: the leader notes its commit index, makes sure by a round of
// heartbeats that nobody else has led since, and answers with that index.
//
// Every read that was asked for since the last Ready shares one round. A round's heartbeats carry its number,
// which the followers echo; a quorum for one round is a quorum for all older ones.
#include <algorithm>

#include "base/bytes.h"
#include "base/mutant.h"
#include "base/sites.h"
#include "raft/impl.h"

namespace kvd::raft {

using Impl = RaftCore::Impl;

namespace {
std::string RoundContext(uint64_t round) {
  std::string out;
  base::AppendBigEndian64(out, round);
  return out;
}
}  // namespace

bool Impl::ReadIndex(std::string token) {
  if (role_ == Role::kLeader) {
    AskReadIndex(id_, std::move(token));
    return true;
  }
  if (leader_ == kNoNode) return false;
  std::vector<Entry> entries(1);
  entries[0].data = base::SharedBytes(std::move(token));
  Send({.type = MessageType::kReadIndex, .to = leader_, .entries = std::move(entries)});
  return true;
}

void Impl::AskReadIndex(NodeId from, std::string token) {
  new_reads_.push_back({from == kNoNode ? id_ : from, std::move(token)});
}

// Before that, the commit index of a new leader may lag behind what its predecessor has acknowledged.
bool Impl::CommittedInTerm() const {
  return log_.Matches(log_.commit(), term_);
}

void Impl::StartReadRound() {
  if (!new_reads_.empty() && !CommittedInTerm()) KVD_PROBE("raft/reads wait for the first commit of a term");
  if (new_reads_.empty() || (!CommittedInTerm() && !KVD_MUTANT("read_before_own_term"))) return;
  if (KVD_MUTANT("lease_read_after_pause") && HeardOfQuorum())
    return AnswerReads(log_.commit(), std::exchange(new_reads_, {}));
  if (KVD_MUTANT("read_without_quorum")) return AnswerReads(log_.commit(), std::exchange(new_reads_, {}));
  ReadRound round{.id = ++next_round_, .index = log_.commit(), .reads = std::move(new_reads_), .acks = {id_}};
  new_reads_.clear();
  Trace(trace::ReadRound{round.id, round.reads.size(), round.index});
  rounds_.push_back(std::move(round));
  ConfirmReads(id_, RoundContext(next_round_));
  if (!rounds_.empty()) BroadcastHeartbeat(RoundContext(next_round_));
}

void Impl::RetryReadRound() {
  BroadcastHeartbeat(rounds_.empty() ? std::string() : RoundContext(rounds_.back().id));
}

void Impl::ConfirmReads(NodeId from, const std::string& context) {
  if (context.size() != sizeof(uint64_t)) return;
  const uint64_t id = base::LoadBigEndian64(context.data());
  if (rounds_.empty() || id < rounds_.front().id || id > rounds_.back().id) return;
  const size_t at = id - rounds_.front().id;
  ReadRound& round = rounds_[at];
  if (std::find(round.acks.begin(), round.acks.end(), from) == round.acks.end()) round.acks.push_back(from);
  auto acked = [&round](NodeId node) -> std::optional<bool> {
    if (std::find(round.acks.begin(), round.acks.end(), node) == round.acks.end()) return std::nullopt;
    return true;
  };
  if (JointVoteOf(conf_, acked) != VoteResult::kWon) return;
  for (size_t i = 0; i <= at; ++i) {
    ReadRound done = std::move(rounds_.front());
    rounds_.pop_front();
    AnswerReads(done.index, std::move(done.reads));
  }
}

void Impl::AnswerReads(Index index, std::vector<PendingRead> reads) {
  Trace(trace::ReadReleased{index, reads.size()});
  for (PendingRead& read : reads) {
    if (read.from == id_) {
      reads_.push_back({index, std::move(read.token)});
      continue;
    }
    // The read waits there until what is committed here is known.
    if (Progress* p = Find(read.from); p != nullptr) p->patient = false;
    std::vector<Entry> entries(1);
    entries[0].data = base::SharedBytes(std::move(read.token));
    Send({.type = MessageType::kReadIndexResp,
          .to = read.from,
          .index = index,
          .entries = std::move(entries)});
  }
}

}  // namespace kvd::raft
