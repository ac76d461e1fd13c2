// Majorities and joint majorities: what is committed, and how a vote stands. Pure functions of sorted voter
// lists.
//
// Thread-safety: no state.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "raft/types.h"

namespace kvd::raft {

enum class VoteResult : uint8_t { kPending, kLost, kWon };

// The greatest index that a majority has acknowledged. `acked` holds one index per voter (0 for none) and is
// reordered. An empty majority has acknowledged everything (kNoLimit), so that it never holds back a joint
// one.
Index MajorityCommitted(absl::Span<Index> acked);

// `yes` and `no` of `voters` have answered. An empty majority is won.
VoteResult MajorityVote(size_t voters, size_t yes, size_t no);

// A joint decision needs both: won if both are won, lost if either is lost.
VoteResult JointVote(VoteResult incoming, VoteResult outgoing);

// `acked(id)` gives an Index.
template <class Acked>
Index MajorityCommittedOf(absl::Span<const NodeId> voters, Acked&& acked) {
  constexpr size_t kInline = 16;
  std::array<Index, kInline> small;
  std::vector<Index> large;
  if (voters.size() > kInline) large.resize(voters.size());
  Index* out = voters.size() > kInline ? large.data() : small.data();
  for (size_t i = 0; i < voters.size(); ++i) out[i] = acked(voters[i]);
  return MajorityCommitted(absl::MakeSpan(out, voters.size()));
}

template <class Acked>
Index JointCommittedOf(const ConfState& conf, Acked&& acked) {
  return std::min(MajorityCommittedOf(conf.voters, acked), MajorityCommittedOf(conf.voters_outgoing, acked));
}

// `answer(id)` gives a std::optional<bool>: the vote, or nullopt while there is none.
template <class Answer>
VoteResult MajorityVoteOf(absl::Span<const NodeId> voters, Answer&& answer) {
  size_t yes = 0;
  size_t no = 0;
  for (NodeId id : voters) {
    std::optional<bool> vote = answer(id);
    if (vote.has_value()) ++(*vote ? yes : no);
  }
  return MajorityVote(voters.size(), yes, no);
}

template <class Answer>
VoteResult JointVoteOf(const ConfState& conf, Answer&& answer) {
  return JointVote(MajorityVoteOf(conf.voters, answer), MajorityVoteOf(conf.voters_outgoing, answer));
}

}  // namespace kvd::raft
