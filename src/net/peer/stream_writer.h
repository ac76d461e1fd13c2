// The answer to a peer's GET /raft/stream/…: messages for that peer, without end. What waits when a write
// ends goes out together in the next one, as one chunk.
//
// Threads: the I/O thread, except SendHere. On a plain connection that has nothing under way, any thread may
// hand a chunk to the socket; what the socket does not take at once, and every error, is the I/O thread's.
// The descriptor is closed with the lock held that a write holds, so nobody writes to one that is gone.
#pragma once

#include <array>
#include <memory>
#include <mutex>

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
  // The same from any thread, without blocking it. False: something is left for Pump.
  bool SendHere();
  void Close(const absl::Status& why) override;
  void OnTick(base::Nanos now) override;

 private:
  enum class State {
    kIdle,     // nothing to be written
    kLeft,     // the I/O thread is to write what is left of buffer_, or to find the error
    kWriting,  // it does
    kClosed,
  };

  // All of these: REQUIRES mutex_ held.
  bool FillChunk();  // false: no message waits
  void BeginChunk();
  void EndChunk();
  void Send();
  void Write();

  void OnWritten(boost::system::error_code ec, size_t n);
  void WatchForClose();
  std::shared_ptr<StreamWriter> self() { return std::static_pointer_cast<StreamWriter>(shared_from_this()); }

  const std::shared_ptr<PeerCore> core_;
  const std::shared_ptr<Peer> peer_;
  const StreamKind kind_;
  Socket socket_;
  const bool plain_;
  bool closed_ = false;  // I/O thread only; state_ tells the others

  std::mutex mutex_;                 // taken before the peer's
  State state_ = State::kWriting;    // guarded by mutex_; the head comes first
  boost::system::error_code error_;  // guarded by mutex_; of a write on another thread
  StreamEncoder encoder_;            // guarded by mutex_
  SendBuffer buffer_;                // guarded by mutex_, the I/O thread's while kWriting
  size_t begin_ = 0;                 // what of buffer_ is to be written; likewise
  bool has_messages_ = false;        // guarded by mutex_; buffer_ holds messages, not all of them written
  bool more_ = false;                // guarded by mutex_; more messages wait than fit into the chunk
  base::Nanos progress_{0};          // guarded by mutex_; the last time bytes went out
  std::array<char, 256> unexpected_;
};

}  // namespace kvd::net
