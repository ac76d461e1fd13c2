// gRPC's framing of any bytes: what comes out does not depend on how the bytes were cut, no message is larger
// than allowed, and what is written into headers is printable.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz_input.h"
#include "net/grpc_wire.h"

namespace {

using kvd::fuzz::Must;
using kvd::net::MessageAssembler;

constexpr uint32_t kMaxMessageBytes = 4096;

struct Outcome {
  std::vector<std::string> messages;
  bool failed = false;
  std::string error;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

Outcome Assemble(std::string_view bytes, bool gzip, size_t piece) {
  MessageAssembler assembler;
  assembler.Reset(kMaxMessageBytes);
  assembler.set_gzip(gzip);
  Outcome outcome;
  while (!bytes.empty()) {
    std::string_view data = bytes.substr(0, piece);
    bytes.remove_prefix(data.size());
    while (!data.empty()) {
      const MessageAssembler::Next next = assembler.Feed(&data);
      if (next == MessageAssembler::Next::kError) {
        outcome.failed = true;
        outcome.error = assembler.error();
        return outcome;
      }
      if (next == MessageAssembler::Next::kNeedMore) continue;
      Must(assembler.message().size() <= kMaxMessageBytes);
      outcome.messages.push_back(assembler.message());
    }
  }
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  kvd::fuzz::Input input(data, size);
  const bool gzip = (input.Byte() & 1) != 0;
  const size_t piece = 1 + input.Byte() % 64u;
  const std::string_view bytes = input.TakeRest();
  Must(Assemble(bytes, gzip, piece) == Assemble(bytes, gzip, bytes.size() + 1));

  if (std::optional<kvd::base::Nanos> timeout = kvd::net::ParseGrpcTimeout(bytes))
    Must(timeout->count() >= 0);
  (void)kvd::net::IsGrpcContentType(bytes);
  for (char c : kvd::net::PercentEncode(bytes)) Must(c >= ' ' && c <= '~');
  return 0;
}
