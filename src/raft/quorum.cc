#include "raft/quorum.h"

namespace kvd::raft {

Index MajorityCommitted(absl::Span<Index> acked) {
  const size_t n = acked.size();
  if (n == 0) return kNoLimit;
  // The majority's smallest member is, counted from the largest, number n/2 + 1.
  if (n == 1) return acked[0];
  if (n == 3) {
    Index low = std::min(acked[0], acked[1]);
    Index high = std::max(acked[0], acked[1]);
    return std::max(low, std::min(high, acked[2]));
  }
  auto middle = acked.begin() + static_cast<ptrdiff_t>(n / 2);
  std::nth_element(acked.begin(), middle, acked.end(), std::greater<Index>());
  return *middle;
}

VoteResult MajorityVote(size_t voters, size_t yes, size_t no) {
  if (voters == 0) return VoteResult::kWon;
  const size_t needed = voters / 2 + 1;
  if (yes >= needed) return VoteResult::kWon;
  if (voters - no >= needed) return VoteResult::kPending;
  return VoteResult::kLost;
}

VoteResult JointVote(VoteResult incoming, VoteResult outgoing) {
  if (incoming == outgoing) return incoming;
  if (incoming == VoteResult::kLost || outgoing == VoteResult::kLost) return VoteResult::kLost;
  return VoteResult::kPending;
}

}  // namespace kvd::raft
