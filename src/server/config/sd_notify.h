// Tells the service manager about the state of the process (sd_notify(3)): one datagram to $NOTIFY_SOCKET.
#pragma once

#include <string_view>

#include "absl/status/status.h"

namespace kvd::server {

// Sends `state` ("READY=1", "STOPPING=1") to the socket named `socket_path` (a path, or an abstract name that
// begins with '@'). An empty path means that nobody listens: OK, nothing sent. Errors: kUnavailable.
absl::Status SdNotify(std::string_view socket_path, std::string_view state);

// The same to the socket that the process was started with, if any. Thread-safe as long as nobody changes the
// environment.
absl::Status SdNotify(std::string_view state);

}  // namespace kvd::server
