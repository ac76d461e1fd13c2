// Messages as Go's encoding/json prints the generated structs: fields under their proto names in order of
// declaration, zero values left out, 64-bit integers as numbers, bytes as base64, enums as numbers, a oneof
// as an object of its own under the oneof's capitalised name.
#pragma once

#include <string>

namespace google::protobuf {
class Message;
}

namespace kvd::ctl {

std::string GoJson(const google::protobuf::Message& message);
// The same without the braces; empty if every field is zero.
std::string GoJsonFields(const google::protobuf::Message& message);

}  // namespace kvd::ctl
