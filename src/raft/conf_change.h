// The encoding of membership changes in log entries: the bytes of raftpb.ConfChange and raftpb.ConfChangeV2.
// The core reads them to hold its rules (one change at a time); the driver uses the same functions.
//
// Errors: nullopt for bytes that are not such a message.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "raft/types.h"

namespace kvd::raft {

std::string EncodeConfChange(const ConfChange& change);
std::string EncodeConfChange(const ConfChangeV2& change);
std::optional<ConfChange> DecodeConfChange(std::string_view bytes);
std::optional<ConfChangeV2> DecodeConfChangeV2(std::string_view bytes);

ConfChangeV2 AsV2(const ConfChange& change);
// The change in an entry of either kind. REQUIRES: entry.type != EntryType::kNormal.
std::optional<ConfChangeV2> ConfChangeOf(const Entry& entry);

}  // namespace kvd::raft
