// The membership as the state machine keeps it beside its data: etcd's JSON of raftpb.ConfState.
#pragma once

#include <string>
#include <string_view>

#include "raft/types.h"

namespace kvd::server {

std::string ConfStateToJson(const raft::ConfState& state);
// False for text that is not such an object. Unknown keys are skipped.
bool ConfStateFromJson(std::string_view json, raft::ConfState* state);

}  // namespace kvd::server
