// gRPC's framing: taking messages out of the data of a stream, and putting answers into what a connection
// sends.
#include <benchmark/benchmark.h>

#include <string>

#include "base/check.h"
#include "instructions.h"
#include "net/grpc_wire.h"
#include "net/message.h"
#include "net/out_buffer.h"

namespace kvd::net {
namespace {

std::string Framed(size_t bytes) {
  std::string frame(kGrpcPrefixBytes + bytes, 'm');
  StoreGrpcPrefix(frame.data(), static_cast<uint32_t>(bytes));
  return frame;
}

void BM_FrameDecode(benchmark::State& state) {
  const auto bytes = static_cast<size_t>(state.range(0));
  const std::string frame = Framed(bytes);
  MessageAssembler assembler;
  assembler.Reset(16 << 20);
  const bench::InstructionCounter instructions;
  for (auto _ : state) {
    std::string_view data = frame;
    KVD_CHECK(assembler.Feed(&data) == MessageAssembler::Next::kMessage, "one whole message");
    benchmark::DoNotOptimize(assembler.message().data());
  }
  instructions.Report(state, state.iterations());
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes));
}
BENCHMARK(BM_FrameDecode)->Arg(40)->Arg(300)->Arg(65536);

// As answers go: prefix and message into the buffer, ranges for the socket, taken.
void BM_FrameEncode(benchmark::State& state) {
  const auto bytes = static_cast<size_t>(state.range(0));
  const std::string body(bytes, 'm');
  OutBuffer out;
  const bench::InstructionCounter instructions;
  for (auto _ : state) {
    char prefix[kGrpcPrefixBytes];
    StoreGrpcPrefix(prefix, static_cast<uint32_t>(bytes));
    out.AppendCopy(std::string_view(prefix, sizeof prefix));
    out.Append(Message(std::string(body)));
    iovec ranges[8];
    benchmark::DoNotOptimize(out.Ranges(ranges, 8));
    out.Take(out.size());
  }
  instructions.Report(state, state.iterations());
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes));
}
BENCHMARK(BM_FrameEncode)->Arg(40)->Arg(300)->Arg(65536);

}  // namespace
}  // namespace kvd::net
