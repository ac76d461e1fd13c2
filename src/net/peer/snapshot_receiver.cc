#include "net/peer/snapshot_receiver.h"

#include <utility>

#include "base/bytes.h"
#include "base/log.h"
#include "base/strings.h"
#include "net/peer/peer.h"
#include "net/peer/peer_session.h"
#include "raftpb/raft.pb.h"

namespace kvd::net {

SnapshotReceiver::SnapshotReceiver(std::shared_ptr<PeerSession> session) : session_(std::move(session)) {}
SnapshotReceiver::~SnapshotReceiver() = default;

void SnapshotReceiver::Fail(int status, std::string_view text) {
  if (std::exchange(failed_, true)) return;
  sink_.reset();
  KVD_LOG(kWarn, "failed to save incoming database snapshot",
          {"remote-snapshot-sender-id", base::HexId(from_)}, {"incoming-snapshot-index", index_},
          {"error", text});
  session_->ReplyText(status, text);
}

void SnapshotReceiver::OnBody(std::string_view bytes, bool last) {
  auto keep = shared_from_this();
  pending_.append(bytes);
  last_ = last_ || last;
  received_ += bytes.size();
  if (!have_message_) {
    OnMessage();
    if (failed_) return;
    if (!have_message_) {
      if (last_) return Fail(400, "failed to decode raft message (unexpected EOF)");
      return session_->ReadBody();
    }
  }
  Pass();
}

void SnapshotReceiver::OnMessage() {
  if (pending_.size() < 8) return;
  uint64_t length = base::LoadBigEndian64(pending_.data());
  if (length > std::min(session_->core().options.max_message_bytes, size_t{1} << 30)) {
    return Fail(400, "failed to decode raft message (error limit exceeded)");
  }
  if (pending_.size() - 8 < length) return;
  raftpb::Message message;
  if (!message.ParseFromArray(pending_.data() + 8, static_cast<int>(length))) {
    return Fail(400, "failed to decode raft message (malformed)");
  }
  from_ = message.from();
  index_ = message.snapshot().metadata().index();
  if (message.type() != raftpb::MsgSnap) return Fail(400, "wrong raft message type");
  PeerCore& core = session_->core();
  if (core.handler.IsIdRemoved(from_)) return Fail(403, "cannot process message from removed member");
  if (message.to() != core.options.member_id) return Fail(403, "cannot process message to mismatch member");
  KVD_LOG(kInfo, "receiving database snapshot", {"local-member-id", core.member_hex},
          {"remote-snapshot-sender-id", base::HexId(from_)}, {"incoming-snapshot-index", index_});
  absl::StatusOr<std::unique_ptr<SnapshotSink>> sink = core.handler.OnSnapshot(std::move(message));
  if (!sink.ok())
    return Fail(500, base::StrCat("failed to save KV snapshot (", sink.status().message(), ")"));
  sink_ = *std::move(sink);
  pending_.erase(0, 8 + length);
  have_message_ = true;
}

void SnapshotReceiver::Pass() {
  auto done = [self = shared_from_this()](absl::Status status) mutable {
    IoThread& thread = self->session_->core().thread;
    thread.Post([self = std::move(self), status = std::move(status)] { self->OnPassed(status); });
  };
  if (!pending_.empty()) {
    sink_->Write(std::exchange(pending_, {}), std::move(done));
  } else if (last_) {
    finishing_ = true;
    sink_->Finish(std::move(done));
  } else {
    session_->ReadBody();
  }
}

void SnapshotReceiver::OnPassed(const absl::Status& status) {
  if (session_->closed()) {
    sink_.reset();
    return;
  }
  IoThread::Batch batch(session_->core().thread);
  if (!status.ok()) return Fail(500, base::StrCat("failed to save KV snapshot (", status.message(), ")"));
  if (!finishing_) return Pass();
  sink_.reset();
  KVD_LOG(kInfo, "received and saved database snapshot", {"remote-snapshot-sender-id", base::HexId(from_)},
          {"incoming-snapshot-index", index_}, {"incoming-snapshot-size-bytes", received_});
  if (std::shared_ptr<Peer> peer = session_->core().FindAny(from_)) peer->CountReceived(received_);
  PeerResponse response;
  response.status = 204;
  response.headers.Add("X-Etcd-Cluster-ID", session_->core().cluster_hex);
  session_->Reply(response);
}

}  // namespace kvd::net
