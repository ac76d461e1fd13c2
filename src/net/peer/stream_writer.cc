#include "net/peer/stream_writer.h"

#include <sys/socket.h>

#include <boost/asio/buffer.hpp>
#include <cerrno>
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
      plain_(socket_.tls() == nullptr),
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
  WatchForClose();
  std::lock_guard lock(mutex_);
  buffer_.Append(head);
  begin_ = 0;
  Write();
}

void StreamWriter::BeginChunk() {
  buffer_.Clear(4 * kWriteBytes);
  buffer_.Grow(kChunkHead);
}

void StreamWriter::EndChunk() {
  size_t payload = buffer_.size() - kChunkHead;
  buffer_.Append("\r\n");
  char* p = buffer_.mutable_data() + kChunkHead;
  *--p = '\n';
  *--p = '\r';
  for (size_t rest = payload; rest > 0; rest >>= 4) *--p = "0123456789abcdef"[rest & 15];
  begin_ = static_cast<size_t>(p - buffer_.data());
  progress_ = core_->Now();
  peer_->CountSent(payload);
}

bool StreamWriter::FillChunk() {
  std::vector<OutgoingMessage> messages = peer_->Take(kind_, kWriteBytes, &more_);
  if (messages.empty()) return false;
  has_messages_ = true;
  BeginChunk();
  for (const OutgoingMessage& m : messages) encoder_.Append(m, buffer_);
  EndChunk();
  return true;
}

// Gives the chunk to the socket as far as it takes it at once.
void StreamWriter::Send() {
  state_ = State::kLeft;
  if (!plain_) return;
  const size_t size = buffer_.size() - begin_;
  const ssize_t n =
      ::send(socket_.base().native_handle(), buffer_.data() + begin_, size, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n < 0) {
    if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
      error_ = error_code(errno, boost::system::system_category());
    }
    return;
  }
  begin_ += static_cast<size_t>(n);
  if (begin_ < buffer_.size()) return;
  has_messages_ = false;
  state_ = State::kIdle;
}

bool StreamWriter::SendHere() {
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock || state_ != State::kIdle || !plain_) return false;
  if (!FillChunk()) return true;
  Send();
  return state_ == State::kIdle && !more_;
}

void StreamWriter::Pump() {
  absl::Status failed;
  {
    std::lock_guard lock(mutex_);
    if (state_ == State::kIdle && FillChunk()) Send();
    // One chunk in a row: the thread has others to serve.
    if (state_ == State::kIdle && more_ && FillChunk()) state_ = State::kLeft;
    if (state_ != State::kLeft) return;  // kWriting goes on by itself
    if (!error_) return Write();
    failed = SocketError("write", error_);
  }
  Close(failed);
}

void StreamWriter::Write() {
  state_ = State::kWriting;
  socket_.async_write_some(asio::buffer(buffer_.data() + begin_, buffer_.size() - begin_),
                           [self = self()](error_code ec, size_t n) {
                             if (self->closed_) return;
                             IoThread::Batch batch(self->core_->thread);
                             self->OnWritten(ec, n);
                           });
}

void StreamWriter::OnWritten(error_code ec, size_t n) {
  if (ec) return Close(SocketError("write", ec));
  {
    std::lock_guard lock(mutex_);
    begin_ += n;
    progress_ = core_->Now();
    if (begin_ < buffer_.size()) return Write();
    has_messages_ = false;
    state_ = State::kIdle;
  }
  Pump();
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
  bool stuck = false;
  {
    std::lock_guard lock(mutex_);
    if (state_ == State::kIdle) {
      if (now - progress_ < core_->options.heartbeat_interval) return;
      BeginChunk();
      encoder_.AppendHeartbeat(buffer_);
      EndChunk();
      return Write();
    }
    stuck = now - progress_ > core_->options.write_timeout;
  }
  if (stuck) Close(absl::DeadlineExceededError("write: no progress"));
}

void StreamWriter::Close(const absl::Status& why) {
  if (std::exchange(closed_, true)) return;
  auto keep = shared_from_this();
  bool unsent;
  {
    std::lock_guard lock(mutex_);
    state_ = State::kClosed;
    unsent = has_messages_;
    error_code ignored;
    socket_.close(ignored);
  }
  core_->Untrack(this);
  if (core_->running() && !peer_->stopped()) {
    KVD_LOG(kWarn, "lost TCP streaming connection with remote peer",
            {"stream-writer-type", kind_ == StreamKind::kMsgApp ? "stream MsgApp v2" : "stream Message"},
            {"local-member-id", core_->member_hex}, {"remote-peer-id", peer_->hex_id()}, {"error", why});
  }
  peer_->Detach(kind_, this, unsent);
}

}  // namespace kvd::net
