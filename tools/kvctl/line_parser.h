// The small grammars that are read from stdin.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace etcdserverpb {
class Compare;
}

namespace kvd::ctl {

// Splits a line into words; "double" quoted words take Go's escapes, 'single' quoted ones are taken as they
// are.
std::vector<std::string> SplitWords(std::string_view line);

// One comparison of a transaction: TARGET("key") OP "value", with TARGET one of version (ver), create (c),
// mod (m), value (val), lease, and OP one of = != < >. Errors: kInvalidArgument with the text to show.
absl::StatusOr<etcdserverpb::Compare> ParseCompare(std::string_view line);

}  // namespace kvd::ctl
