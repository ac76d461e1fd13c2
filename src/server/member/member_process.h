// A member as a process: everything that the settings ask for, started, until a signal or its removal ends
// it.
//
// Thread-safety: RunMember once, from the process's first thread, before any other is started.
#pragma once

#include "server/config/config.h"

namespace kvd::server {

// Runs the member that `parsed` describes. Returns the exit code: 0 after an orderly stop or the member's
// removal, 1 if it could not start (one line of the log says why). `signal_out` gets the signal that stopped
// it, or 0.
int RunMember(const ParseResult& parsed, int* signal_out);

}  // namespace kvd::server
