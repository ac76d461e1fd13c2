// What an operator does about a member that cannot start: the commands, with their arguments filled in.
//
// Thread-safety: functions of their arguments.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "server/config/config.h"
#include "server/membership/member.h"

namespace kvd::server {

// "kvctl --endpoints=… member recover m1 --data-dir=…". `members` are those of the cluster as far as they are
// known; `local_id` is this one's, 0 if that is not known.
std::string RecoverCommand(const Config& config, const std::vector<Member>& members, uint64_t local_id);

// What follows after the description of the damage: how to get this member back where the others serve, and
// what is left where there are none. `has_state`: the database is there and can be opened.
std::string HowToRecover(const Config& config, const std::vector<Member>& members, uint64_t local_id,
                         bool has_state);

}  // namespace kvd::server
