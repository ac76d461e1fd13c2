// What a peer may send, below its sockets: the two framings of raft messages and HTTP heads and bodies. What
// comes out does not depend on how the bytes were cut; messages read the same when they are written again.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz_input.h"
#include "net/peer/http_wire.h"
#include "net/peer/message_codec.h"
#include "raftpb/raft.pb.h"
#include "server/node/raft_convert.h"

namespace {

using kvd::fuzz::Must;
namespace net = kvd::net;

constexpr uint64_t kLocal = 1;
constexpr uint64_t kRemote = 2;
constexpr size_t kMaxMessageBytes = size_t{64} * 1024;

struct Decoded {
  std::vector<std::string> messages;
  bool failed = false;
  friend bool operator==(const Decoded&, const Decoded&) = default;
};

Decoded Decode(net::StreamKind kind, std::string_view bytes, size_t piece,
               std::vector<raftpb::Message>* parsed = nullptr, size_t limit = kMaxMessageBytes) {
  net::StreamDecoder decoder(kind, kLocal, kRemote, limit);
  Decoded out;
  while (!bytes.empty() && !out.failed) {
    std::vector<raftpb::Message> messages;
    const std::string_view data = bytes.substr(0, piece);
    bytes.remove_prefix(data.size());
    out.failed = !decoder.Feed(data, &messages).ok();
    for (raftpb::Message& message : messages) {
      out.messages.push_back(message.SerializeAsString());
      if (parsed != nullptr) parsed->push_back(std::move(message));
    }
  }
  return out;
}

std::string Flat(const net::SendBuffer& buffer) {
  return std::string(buffer.data(), buffer.size());
}

void FuzzStream(net::StreamKind kind, std::string_view bytes, size_t piece) {
  std::vector<raftpb::Message> messages;
  const Decoded whole = Decode(kind, bytes, bytes.size() + 1, &messages);
  Must(Decode(kind, bytes, piece) == whole);

  net::StreamEncoder encoder(kind);
  net::SendBuffer buffer;
  size_t expected = 0;
  for (raftpb::Message& message : messages) {
    (void)kvd::server::FromWire(raftpb::Message(message));
    if (message.type() == raftpb::MsgSnap) continue;  // goes by POST
    if (kind == net::StreamKind::kMsgApp && message.type() != raftpb::MsgApp) continue;
    net::OutgoingMessage outgoing = net::ToOutgoing(std::move(message));
    encoder.Append(outgoing, buffer);
    ++expected;
  }
  // Our own form may be longer: it writes fields of an entry that are zero.
  const std::string again = Flat(buffer);
  const Decoded reread = Decode(kind, again, again.size() + 1, nullptr, 16 * kMaxMessageBytes);
  Must(!reread.failed && reread.messages.size() == expected);
}

struct Body {
  bool failed = false;
  bool done = false;
  std::string bytes;
};

Body ReadBody(net::HttpBodyReader reader, std::string_view bytes, size_t piece) {
  Body out;
  std::string pending;
  while (!reader.done() && !out.failed) {
    if (bytes.empty()) break;
    pending.append(bytes.substr(0, piece));
    bytes.remove_prefix(std::min(piece, bytes.size()));
    std::string_view rest = pending;
    for (;;) {
      auto part = reader.Next(&rest);
      if (!part.ok()) {
        out.failed = true;
        break;
      }
      if (part->empty()) break;
      out.bytes.append(*part);
    }
    pending.erase(0, pending.size() - rest.size());
  }
  out.done = reader.done();
  return out;
}

void FuzzHttp(std::string_view bytes, size_t piece, bool request) {
  auto length = net::FindHttpHead(bytes);
  if (!length.ok() || *length == 0) return;
  auto head = request ? net::ParseHttpRequestHead(bytes.substr(0, *length))
                      : net::ParseHttpResponseHead(bytes.substr(0, *length));
  if (!head.ok()) return;
  std::string decoded;
  (void)net::PercentDecode(head->target, &decoded);
  auto reader = [&] { return request ? net::BodyOfRequest(*head) : net::BodyOfResponse(*head, "GET"); };
  const std::string_view body = bytes.substr(*length);
  const Body whole = ReadBody(reader(), body, body.size() + 1);
  const Body cut = ReadBody(reader(), body, piece);
  // What was read before the damage may differ: pieces are handed out before the rest is seen.
  Must(whole.failed == cut.failed && whole.done == cut.done);
  if (!whole.failed) Must(whole.bytes == cut.bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  kvd::fuzz::Input input(data, size);
  const uint8_t kind = input.Byte();
  const size_t piece = 1 + input.Byte();
  const std::string_view bytes = input.TakeRest();
  switch (kind % 4) {
    case 0:
      FuzzStream(net::StreamKind::kMsgApp, bytes, piece);
      break;
    case 1:
      FuzzStream(net::StreamKind::kMessage, bytes, piece);
      break;
    default:
      FuzzHttp(bytes, piece, kind % 4 == 2);
      break;
  }
  return 0;
}
