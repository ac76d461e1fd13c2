// One POST /raft/snapshot: the MsgSnap, then the database read piece by piece from its source.
//
// Thread: the I/O thread; the source's answers come from any thread.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "net/peer/dial.h"
#include "net/peer/peer_core.h"

namespace kvd::net {

class Peer;

class SnapshotUpload final : public PeerConnection {
 public:
  // `framed_message`: 8 bytes length and the encoded MsgSnap. `peer` may be null: the transfer then fails.
  SnapshotUpload(std::shared_ptr<PeerCore> core, std::shared_ptr<Peer> peer, uint64_t to,
                 std::string framed_message, std::unique_ptr<SnapshotSource> source, uint64_t size_bytes);
  ~SnapshotUpload() override;

  void Start();
  void Close(const absl::Status& why) override;
  void OnTick(base::Nanos now) override;

 private:
  void OnConnected();
  void ReadSource();
  void OnSource(absl::StatusOr<std::string> bytes);
  void Write();
  void ReadAnswer();
  void OnAnswer(std::string_view bytes);
  void Finish(const absl::Status& status);
  std::shared_ptr<SnapshotUpload> self() {
    return std::static_pointer_cast<SnapshotUpload>(shared_from_this());
  }

  const std::shared_ptr<PeerCore> core_;
  const std::shared_ptr<Peer> peer_;
  const uint64_t to_;
  std::string out_;     // what is being written
  size_t written_ = 0;  // of out_
  std::unique_ptr<SnapshotSource> source_;
  uint64_t left_;  // database bytes still to come from the source
  std::string url_;
  std::shared_ptr<Dial> dial_;
  std::unique_ptr<Socket> socket_;
  base::Nanos deadline_ = base::Nanos::max();
  bool reading_source_ = false;  // the source lives until its Read has answered
  bool finished_ = false;
  std::array<char, 4096> buffer_;
  std::string answer_;
};

}  // namespace kvd::net
