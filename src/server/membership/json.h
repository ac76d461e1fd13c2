// The little JSON that members write about themselves, byte for byte as Go's encoder writes it, and a reader
// for what other members, services and tools send. For this room only.
//
// Thread-safety: functions of their arguments.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "boost/property_tree/ptree_fwd.hpp"

namespace kvd::server::json_internal {

// A string with its quotes. Bytes that are not UTF-8 become U+FFFD; <, > and & are escaped.
void AppendString(std::string* out, std::string_view text);
// ["a","b"]; null for none, as a nil slice of Go.
void AppendStrings(std::string* out, const std::vector<std::string>& texts);

// A document: values are texts, an object's members are children by name, an array's by "". Errors:
// kInvalidArgument; also for a document that nests deeper than any of ours.
absl::StatusOr<boost::property_tree::ptree> Parse(std::string_view text);

}  // namespace kvd::server::json_internal
