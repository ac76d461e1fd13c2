// The answer to a peer's GET /raft/stream/…: messages for that peer, without end. What waits when a write
// ends goes out together in the next one, as one chunk.
//
// Thread: the I/O thread.
#pragma once

#include <array>
#include <memory>

#include "net/peer/message_codec.h"
#include "net/peer/peer_core.h"
#include "net/peer/send_buffer.h"
#include "net/peer/socket.h"

namespace kvd::net {

class Peer;

class StreamWriter final : public PeerConnection {
 public:
  StreamWriter(std::shared_ptr<PeerCore> core, std::shared_ptr<Peer> peer, StreamKind kind, Socket socket);
  ~StreamWriter() override;

  // Writes the head of the answer; messages follow. REQUIRES: attached to the peer.
  void Start();
  // Sends what waits, unless a write is under way already.
  void Pump();
  void Close(const absl::Status& why) override;
  void OnTick(base::Nanos now) override;

 private:
  void BeginChunk();
  void EndChunkAndWrite();
  void Write();
  void WatchForClose();
  std::shared_ptr<StreamWriter> self() { return std::static_pointer_cast<StreamWriter>(shared_from_this()); }

  const std::shared_ptr<PeerCore> core_;
  const std::shared_ptr<Peer> peer_;
  const StreamKind kind_;
  Socket socket_;
  StreamEncoder encoder_;
  SendBuffer buffer_;
  size_t begin_ = 0;  // what of buffer_ is to be written
  bool writing_ = false;
  bool closed_ = false;
  bool has_messages_ = false;  // the write under way carries messages
  base::Nanos progress_{0};    // the last time bytes went out
  std::array<char, 256> unexpected_;
};

}  // namespace kvd::net
