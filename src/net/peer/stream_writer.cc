#include "net/peer/stream_writer.h"

#include <boost/asio/buffer.hpp>
#include <utility>

#include "base/log.h"
#include "net/peer/dial.h"
#include "net/peer/peer.h"

namespace kvd::net {
namespace asio = boost::asio;
using boost::system::error_code;

namespace {

// Messages are encoded up to about this many bytes a write; the buffer is given back beyond four times that.
constexpr size_t kWriteBytes = 1 << 20;
// A chunk's length in hex and the line's end, put in front of the payload once the length is known.
constexpr size_t kChunkHead = 18;

}  // namespace

StreamWriter::StreamWriter(std::shared_ptr<PeerCore> core, std::shared_ptr<Peer> peer, StreamKind kind,
                           Socket socket)
    : core_(std::move(core)),
      peer_(std::move(peer)),
      kind_(kind),
      socket_(std::move(socket)),
      encoder_(kind),
      progress_(core_->Now()) {
  LimitUnacknowledged(socket_.base(), core_->options.write_timeout);
}

StreamWriter::~StreamWriter() = default;

void StreamWriter::Start() {
  core_->Track(shared_from_this());
  std::string head = HttpStatusLine(200);
  AppendHttpField(head, "X-Server-Version", core_->options.server_version);
  AppendHttpField(head, "X-Etcd-Cluster-ID", core_->cluster_hex);
  AppendHttpField(head, "Transfer-Encoding", "chunked");
  head += "\r\n";
  buffer_.Append(head);
  begin_ = 0;
  writing_ = true;
  WatchForClose();
  Write();
}

void StreamWriter::BeginChunk() {
  buffer_.Clear(4 * kWriteBytes);
  buffer_.Grow(kChunkHead);
}

void StreamWriter::EndChunkAndWrite() {
  size_t payload = buffer_.size() - kChunkHead;
  buffer_.Append("\r\n");
  char* p = buffer_.mutable_data() + kChunkHead;
  *--p = '\n';
  *--p = '\r';
  for (size_t rest = payload; rest > 0; rest >>= 4) *--p = "0123456789abcdef"[rest & 15];
  begin_ = static_cast<size_t>(p - buffer_.data());
  writing_ = true;
  progress_ = core_->Now();
  peer_->CountSent(payload);
  Write();
}

void StreamWriter::Pump() {
  if (writing_ || closed_) return;
  std::vector<OutgoingMessage> messages = peer_->Take(kind_, kWriteBytes);
  if (messages.empty()) return;
  has_messages_ = true;
  BeginChunk();
  for (const OutgoingMessage& m : messages) encoder_.Append(m, buffer_);
  EndChunkAndWrite();
}

void StreamWriter::Write() {
  socket_.async_write_some(asio::buffer(buffer_.data() + begin_, buffer_.size() - begin_),
                           [self = self()](error_code ec, size_t n) {
                             if (self->closed_) return;
                             IoThread::Batch batch(self->core_->thread);
                             if (ec) return self->Close(SocketError("write", ec));
                             self->begin_ += n;
                             self->progress_ = self->core_->Now();
                             if (self->begin_ < self->buffer_.size()) return self->Write();
                             self->writing_ = false;
                             self->has_messages_ = false;
                             self->Pump();
                           });
}

void StreamWriter::WatchForClose() {
  socket_.async_read_some(asio::buffer(unexpected_), [self = self()](error_code ec, size_t) {
    if (self->closed_) return;
    IoThread::Batch batch(self->core_->thread);
    if (!ec) return self->Close(absl::InvalidArgumentError("the peer speaks on a stream that it only reads"));
    self->Close(ec == asio::error::eof ? absl::UnavailableError("closed by the peer")
                                       : SocketError("stream", ec));
  });
}

void StreamWriter::OnTick(base::Nanos now) {
  if (writing_) {
    if (now - progress_ > core_->options.write_timeout)
      Close(absl::DeadlineExceededError("write: no progress"));
    return;
  }
  if (now - progress_ < core_->options.heartbeat_interval) return;
  BeginChunk();
  encoder_.AppendHeartbeat(buffer_);
  EndChunkAndWrite();
}

void StreamWriter::Close(const absl::Status& why) {
  if (std::exchange(closed_, true)) return;
  auto keep = shared_from_this();
  core_->Untrack(this);
  error_code ignored;
  socket_.close(ignored);
  if (core_->running() && !peer_->stopped()) {
    KVD_LOG(kWarn, "lost TCP streaming connection with remote peer",
            {"stream-writer-type", kind_ == StreamKind::kMsgApp ? "stream MsgApp v2" : "stream Message"},
            {"local-member-id", core_->member_hex}, {"remote-peer-id", peer_->hex_id()}, {"error", why});
  }
  peer_->Detach(kind_, this, has_messages_);
}

}  // namespace kvd::net
