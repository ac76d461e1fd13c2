// Reads the messages that a peer has for this member: dials GET /raft/stream/… there, decodes the answer, and
// dials again a little later whenever that fails or ends.
//
// Thread: the I/O thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "net/peer/dial.h"
#include "net/peer/message_codec.h"
#include "net/peer/peer_core.h"

namespace kvd::net {

class Peer;

class StreamReader final : public PeerConnection {
 public:
  StreamReader(std::shared_ptr<PeerCore> core, std::shared_ptr<Peer> peer, StreamKind kind);
  ~StreamReader() override;

  void Start();
  // For good.
  void Stop();
  // Drops the present connection; a new one follows.
  void Close(const absl::Status& why) override;
  void OnTick(base::Nanos now) override;

 private:
  void StartDial();
  void DropConnection();
  void Write();
  void Read();
  void OnRead(std::string_view bytes);
  void OnHead();
  void OnRefused();
  void OnBody(std::string_view bytes);
  void Fail(std::string_view action, const absl::Status& why);
  std::shared_ptr<StreamReader> self() { return std::static_pointer_cast<StreamReader>(shared_from_this()); }

  const std::shared_ptr<PeerCore> core_;
  std::shared_ptr<Peer> peer_;
  const StreamKind kind_;
  bool stopped_ = false;
  uint64_t attempt_ = 0;  // completions of earlier attempts are told by it
  base::Nanos deadline_ = base::Nanos::max();
  std::string url_;
  std::shared_ptr<Dial> dial_;
  std::shared_ptr<Socket> socket_;  // held by the operations on it, too
  std::string request_;
  std::unique_ptr<char[]> buffer_;
  bool have_head_ = false;
  std::string head_bytes_;
  HttpHead head_;
  HttpBodyReader body_;
  std::string refusal_;  // the body of an answer that is not 200
  std::unique_ptr<StreamDecoder> decoder_;
  absl::Status last_failure_;  // logged once while it stays the same
};

}  // namespace kvd::net
