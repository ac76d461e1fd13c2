// Takes the body of a POST /raft/snapshot apart: 8 bytes length, the MsgSnap, the database, which goes to the
// node's sink piece by piece; the socket is read only while the sink has nothing to do.
//
// Thread: the I/O thread; the sink's answers come from any thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "net/peer/peer_transport.h"

namespace kvd::net {

class PeerSession;

class SnapshotReceiver : public std::enable_shared_from_this<SnapshotReceiver> {
 public:
  explicit SnapshotReceiver(std::shared_ptr<PeerSession> session);
  ~SnapshotReceiver();

  // All body bytes of one read, then `last`.
  void OnBody(std::string_view bytes, bool last);

 private:
  void OnMessage();
  void Pass();
  void OnPassed(const absl::Status& status);
  void Fail(int status, std::string_view text);

  const std::shared_ptr<PeerSession> session_;
  std::unique_ptr<SnapshotSink> sink_;
  std::string pending_;  // of the frame, later of the database
  bool have_message_ = false;
  bool last_ = false;
  bool finishing_ = false;
  bool failed_ = false;
  uint64_t from_ = 0;
  uint64_t index_ = 0;
  uint64_t received_ = 0;
};

}  // namespace kvd::net
