// A connection that came in on the peer port: one HTTP/1.1 request after the other, until one of them turns
// it into a stream or it ends.
//
// Thread: the I/O thread. Memory: one head, and one message or one body at a time.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "net/peer/message_codec.h"
#include "net/peer/peer_core.h"
#include "net/peer/socket.h"

namespace kvd::net {

class PeerSession final : public PeerConnection {
 public:
  PeerSession(std::shared_ptr<PeerCore> core, Socket socket);
  ~PeerSession() override;

  void Start();
  void Close(const absl::Status& why) override;
  void OnTick(base::Nanos now) override;

  // For the pieces that handle one request.
  const HttpHead& head() const { return head_; }
  // Answers the request and goes on with the next one, or ends the connection where its body was not read.
  void Reply(const PeerResponse& response);
  // The same with a plain text, as Go's http.Error writes it.
  void ReplyText(int status, std::string_view text);
  // Reads on in the body.
  void ReadBody();
  bool closed() const { return closed_; }
  PeerCore& core() { return *core_; }
  std::shared_ptr<PeerSession> self() { return std::static_pointer_cast<PeerSession>(shared_from_this()); }

 private:
  // Takes body bytes as they come; called with `last` once, at the end. It calls ReadBody for more, or
  // replies.
  using OnBody = std::function<void(std::string_view piece, bool last)>;

  void ShakeHands();
  void CheckAddress();
  void Reject(const absl::Status& why);
  void NextRequest();
  void Read();
  void OnRead(std::string_view bytes);
  void OnHeadBytes();
  void RefuseHead(const absl::Status& why);
  void Dispatch();
  void RaftMessage();
  void RaftSnapshot();
  void RaftStream(std::string_view path);
  void Probing();
  void Custom(PeerTransport::PathHandler& handler, std::string path, std::string query);
  bool RequireMethod(std::string_view method);
  bool RequireCompatible();
  // Collects the body and calls `done` with it; answers 413 if it is longer than max_bytes.
  void CollectBody(size_t max_bytes, std::function<void()> done);
  void OnMessageBody();
  void ConsumeBody();
  void WriteOut(bool then_close);
  void Linger();

  const std::shared_ptr<PeerCore> core_;
  Socket socket_;
  std::unique_ptr<char[]> buffer_;
  size_t buffer_bytes_;
  std::string in_;   // read and not consumed yet
  std::string out_;  // being written
  size_t written_ = 0;
  enum class State { kHead, kBody, kHandling, kWriting, kLinger } state_ = State::kHead;
  base::Nanos deadline_;
  HttpHead head_;
  HttpBodyReader body_;
  OnBody on_body_;
  std::string collected_;
  bool closed_ = false;
};

}  // namespace kvd::net
