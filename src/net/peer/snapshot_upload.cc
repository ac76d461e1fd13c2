#include "net/peer/snapshot_upload.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <utility>

#include "base/log.h"
#include "base/strings.h"
#include "net/peer/peer.h"

namespace kvd::net {
namespace asio = boost::asio;
using boost::system::error_code;

namespace {
constexpr size_t kPieceBytes = size_t{256} << 10;
constexpr size_t kMaxAnswerBytes = size_t{64} << 10;
}  // namespace

SnapshotUpload::SnapshotUpload(std::shared_ptr<PeerCore> core, std::shared_ptr<Peer> peer, uint64_t to,
                               std::string framed_message, std::unique_ptr<SnapshotSource> source,
                               uint64_t size_bytes)
    : core_(std::move(core)),
      peer_(std::move(peer)),
      to_(to),
      out_(std::move(framed_message)),
      source_(std::move(source)),
      left_(size_bytes) {}

SnapshotUpload::~SnapshotUpload() = default;

void SnapshotUpload::Start() {
  core_->Track(shared_from_this());
  if (!peer_) return Finish(absl::NotFoundError("member not found"));
  KVD_LOG(kInfo, "sending database snapshot", {"remote-peer-id", peer_->hex_id()}, {"bytes", left_});
  url_ = peer_->Url();
  absl::StatusOr<HttpUrl> url = ParseHttpUrl(url_);
  if (!url.ok()) return Finish(url.status());
  std::string head = "POST /raft/snapshot HTTP/1.1\r\n";
  HttpFields fields;
  fields.Add("Host", url->Authority());
  fields.Add("Content-Type", "application/octet-stream");
  fields.Add("Content-Length", base::StrCat(out_.size() + left_));
  fields.Add("Connection", "close");
  core_->AddRequestFields(fields);
  fields.Add("X-Raft-To", peer_->hex_id());
  for (const auto& [name, value] : fields.fields()) AppendHttpField(head, name, value);
  head += "\r\n";
  out_.insert(0, head);
  dial_ = Dial::Start(core_->thread.context(), *url, {core_->options.tls}, core_->options.dial_timeout,
                      [self = self()](absl::StatusOr<Socket> socket) {
                        if (self->finished_) return;
                        self->dial_.reset();
                        IoThread::Batch batch(self->core_->thread);
                        if (!socket.ok()) return self->Finish(socket.status());
                        self->socket_ = std::make_unique<Socket>(*std::move(socket));
                        self->OnConnected();
                      });
}

void SnapshotUpload::OnConnected() {
  ReadAnswer();  // a receiver that refuses answers before it has read everything
  Write();
}

void SnapshotUpload::ReadSource() {
  deadline_ = base::Nanos::max();  // the disk takes the time it takes
  reading_source_ = true;
  source_->Read(static_cast<size_t>(std::min<uint64_t>(left_, kPieceBytes)),
                [self = self()](absl::StatusOr<std::string> bytes) mutable {
                  PeerCore& core = *self->core_;
                  core.thread.Post([self = std::move(self), bytes = std::move(bytes)]() mutable {
                    self->reading_source_ = false;
                    if (self->finished_) {
                      self->source_.reset();
                    } else {
                      self->OnSource(std::move(bytes));
                    }
                  });
                });
}

void SnapshotUpload::OnSource(absl::StatusOr<std::string> bytes) {
  if (!bytes.ok()) return Finish(bytes.status());
  if (bytes->empty() || bytes->size() > left_) {
    return Finish(absl::DataLossError("the snapshot's size is not what was announced"));
  }
  left_ -= bytes->size();
  out_ = *std::move(bytes);
  written_ = 0;
  Write();
}

void SnapshotUpload::Write() {
  deadline_ = core_->Now() + core_->options.write_timeout;
  socket_->async_write_some(
      asio::buffer(out_.data() + written_, out_.size() - written_), [self = self()](error_code ec, size_t n) {
        if (self->finished_) return;
        IoThread::Batch batch(self->core_->thread);
        if (ec) {
          // Leave a moment for a refusal that is on its way in.
          self->deadline_ = self->core_->Now() + self->core_->options.write_timeout;
          return;
        }
        self->peer_->CountSent(n);
        self->written_ += n;
        if (self->written_ < self->out_.size()) return self->Write();
        if (self->left_ > 0) return self->ReadSource();
        self->out_ = std::string();
        self->source_.reset();
        self->deadline_ = self->core_->Now() + self->core_->options.snapshot_answer_timeout;
      });
}

void SnapshotUpload::ReadAnswer() {
  socket_->async_read_some(asio::buffer(buffer_), [self = self()](error_code ec, size_t n) {
    if (self->finished_) return;
    IoThread::Batch batch(self->core_->thread);
    if (ec) return self->Finish(SocketError("snapshot answer", ec));
    self->OnAnswer(std::string_view(self->buffer_.data(), n));
  });
}

void SnapshotUpload::OnAnswer(std::string_view bytes) {
  answer_.append(bytes);
  if (answer_.size() > kMaxAnswerBytes)
    return Finish(absl::ResourceExhaustedError("the answer is too large"));
  absl::StatusOr<size_t> size = FindHttpHead(answer_);
  if (!size.ok()) return Finish(size.status());
  if (*size == 0) return ReadAnswer();
  absl::StatusOr<HttpHead> head = ParseHttpResponseHead(std::string_view(answer_).substr(0, *size));
  if (!head.ok()) return Finish(head.status());
  if (head->status / 100 == 1) {
    answer_.erase(0, *size);
    return answer_.empty() ? ReadAnswer() : OnAnswer({});
  }
  if (head->status == 204) {
    bool complete = left_ == 0 && !source_;
    return Finish(complete ? absl::OkStatus() : absl::DataLossError("the receiver stopped before the end"));
  }
  std::string text = answer_.substr(*size, 512);
  if (head->status == 410 || (head->status == 403 && text.find("remove") != std::string::npos)) {
    core_->NotifyRemoved(to_);
    if (finished_) return;
  }
  Finish(absl::UnavailableError(base::StrCat("HTTP status ", head->status, " for a snapshot: ", text)));
}

void SnapshotUpload::Finish(const absl::Status& status) {
  if (std::exchange(finished_, true)) return;
  auto keep = shared_from_this();
  core_->Untrack(this);
  if (dial_) dial_->Cancel();
  dial_.reset();
  error_code ignored;
  if (socket_) socket_->close(ignored);
  if (!reading_source_) source_.reset();
  if (!core_->running()) return;
  if (peer_ && !peer_->stopped()) {
    peer_->CountSnapshot(status.ok());
    if (status.ok()) {
      peer_->Activate();
      KVD_LOG(kInfo, "sent database snapshot", {"remote-peer-id", peer_->hex_id()});
    } else {
      peer_->UrlFailed(url_);
      peer_->Deactivate("post", status);
      KVD_LOG(kWarn, "failed to send database snapshot", {"remote-peer-id", peer_->hex_id()},
              {"error", status});
      core_->NotifyUnreachable(to_);
    }
  }
  if (core_->running()) core_->handler.OnSnapshotSent(to_, status.ok());
}

void SnapshotUpload::Close(const absl::Status& why) {
  Finish(why);
}

void SnapshotUpload::OnTick(base::Nanos now) {
  if (now > deadline_) Finish(absl::DeadlineExceededError("snapshot transfer: timed out"));
  if (!finished_ && peer_->stopped()) Finish(absl::CancelledError("peer removed"));
}

}  // namespace kvd::net
