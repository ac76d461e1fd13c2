// Text forms as Go's standard library and the packages etcdctl prints with give them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace kvd::ctl {

// strconv.Quote, the %q verb.
std::string Quote(std::string_view text);
// strconv.Unquote of a double-quoted, back-quoted or single-quoted string. Errors: kInvalidArgument.
absl::StatusOr<std::string> Unquote(std::string_view quoted);
// A string as encoding/json writes it, quotes included.
std::string JsonString(std::string_view text);
// time.Duration's text: "1.5ms", "2m0s".
std::string GoDuration(absl::Duration duration);
// A size in bytes with SI units: "25 kB".
std::string HumanBytes(uint64_t bytes);
// Each byte as \xNN.
std::string HexBytes(std::string_view bytes);

}  // namespace kvd::ctl
