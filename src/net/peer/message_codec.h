// The two framings in which peers send raftpb messages on a stream.
//
//   message stream: 8 bytes length, big-endian; the message. A link heartbeat is a MsgHeartbeat from and to
//   nobody. msgapp stream, version 2 (integers are 8 bytes, big-endian):
//     0                                             link heartbeat
//     1 | entries | (length | entry)* | commit      the append that follows from the one before: same term,
//     and the
//                                                   entries start right behind the last one
//     2 | length | message                          any other append; sets term and index for type 1
//
// Thread-safety: thread-compatible; one encoder or decoder per connection, since type 1 depends on what went
// before.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "net/peer/peer_transport.h"
#include "net/peer/send_buffer.h"

namespace kvd::net {

enum class StreamKind { kMsgApp, kMessage };

// raftpb.Message on the wire. Bytes are at most copied once, into `out`.
size_t EncodedSize(const OutgoingMessage& message);
void AppendEncoded(const OutgoingMessage& message, SendBuffer& out);

class StreamEncoder {
 public:
  explicit StreamEncoder(StreamKind kind) : kind_(kind) {}
  // REQUIRES on kMsgApp: the message is a MsgApp.
  void Append(const OutgoingMessage& message, SendBuffer& out);
  void AppendHeartbeat(SendBuffer& out) const;

 private:
  void AppendMsgApp(const OutgoingMessage& message, SendBuffer& out);

  StreamKind kind_;
  uint64_t term_ = 0;
  uint64_t index_ = 0;
};

// Takes a stream in pieces of any size. Holds at most one incomplete frame (kMessage, type 2) or entry (type
// 1), and grows only by what has come, never by what a length field announces.
class StreamDecoder {
 public:
  // Messages of type 1 say neither from nor to: they are `remote` and `local`.
  StreamDecoder(StreamKind kind, uint64_t local, uint64_t remote, size_t max_message_bytes);
  ~StreamDecoder();

  // Appends the messages that are complete to `out`; link heartbeats are swallowed. After an error
  // (kInvalidArgument, kResourceExhausted) the stream is of no more use.
  absl::Status Feed(std::string_view bytes, std::vector<raftpb::Message>* out);

 private:
  enum class Step { kType, kMessageLength, kMessage, kCount, kEntryLength, kEntry, kCommit };

  absl::Status Consume(std::string_view* bytes, std::vector<raftpb::Message>* out);
  // Bytes the current step needs before it can be taken.
  size_t Need() const;
  absl::Status Take(std::string_view bytes, std::vector<raftpb::Message>* out);
  absl::Status TakeMessage(std::string_view bytes, std::vector<raftpb::Message>* out);
  absl::Status TakeEntry(std::string_view bytes);
  absl::Status SetLength(uint64_t length, Step next);
  Step Start() const { return kind_ == StreamKind::kMsgApp ? Step::kType : Step::kMessageLength; }

  const StreamKind kind_;
  const uint64_t local_;
  const uint64_t remote_;
  const size_t max_message_bytes_;
  Step step_;
  size_t length_ = 0;
  uint64_t entries_left_ = 0;
  size_t entries_bytes_ = 0;
  uint64_t term_ = 0;
  uint64_t index_ = 0;
  std::unique_ptr<raftpb::Message> append_;  // of type 1, while its entries come in
  std::string partial_;
};

}  // namespace kvd::net
