// What a request that went through the log comes back with on the member that proposed it.
#pragma once

#include <cstdint>
#include <string>

#include "absl/functional/any_invocable.h"
#include "server/node/error_table.h"

namespace kvd::server {

struct ApplyOutcome {
  Error error = Error::kOk;
  // The store's revision after the request, for the response header.
  int64_t revision = 0;
  // The encoded fields of the response message behind its header (field 1), which the service puts in front:
  // protobuf reads the two as one message.
  std::string body;
};

using ApplyCallback = absl::AnyInvocable<void(ApplyOutcome&&)>;

}  // namespace kvd::server
