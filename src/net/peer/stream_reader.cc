#include "net/peer/stream_reader.h"

#include <boost/asio/buffer.hpp>
#include <utility>

#include "base/log.h"
#include "base/strings.h"
#include "net/peer/peer.h"
#include "raftpb/raft.pb.h"

namespace kvd::net {
namespace asio = boost::asio;
using boost::system::error_code;

namespace {
constexpr size_t kReadBytes = size_t{128} << 10;
constexpr size_t kMaxRefusalBytes = 4096;
}  // namespace

StreamReader::StreamReader(std::shared_ptr<PeerCore> core, std::shared_ptr<Peer> peer, StreamKind kind)
    : core_(std::move(core)),
      peer_(std::move(peer)),
      kind_(kind),
      buffer_(std::make_unique_for_overwrite<char[]>(kReadBytes)) {}

StreamReader::~StreamReader() = default;

void StreamReader::Start() {
  core_->Track(shared_from_this());
  StartDial();
}

void StreamReader::Stop() {
  if (std::exchange(stopped_, true)) return;
  auto keep = shared_from_this();
  core_->Untrack(this);
  DropConnection();
  peer_.reset();
}

void StreamReader::DropConnection() {
  ++attempt_;
  deadline_ = base::Nanos::max();
  if (dial_) dial_->Cancel();
  dial_.reset();
  error_code ignored;
  if (socket_) socket_->close(ignored);
  socket_.reset();
}

void StreamReader::StartDial() {
  have_head_ = false;
  head_bytes_.clear();
  refusal_.clear();
  decoder_ = std::make_unique<StreamDecoder>(kind_, core_->options.member_id, peer_->id(),
                                             core_->options.max_message_bytes);
  url_ = peer_->Url();
  absl::StatusOr<HttpUrl> url = ParseHttpUrl(url_);
  if (!url.ok()) return Fail("dial", url.status());
  PeerRequest request;
  request.path = base::StrCat("/raft/stream/", kind_ == StreamKind::kMsgApp ? "msgapp" : "message", "/",
                              core_->member_hex);
  core_->AddRequestFields(request.headers);
  request.headers.Add("X-Raft-To", peer_->hex_id());
  request_ = EncodeHttpRequest(request, url->Authority(), /*keep_alive=*/true);
  dial_ = Dial::Start(core_->thread.context(), *url, {core_->options.tls}, core_->options.dial_timeout,
                      [self = self(), attempt = attempt_](absl::StatusOr<Socket> socket) {
                        if (self->attempt_ != attempt) return;
                        self->dial_.reset();
                        IoThread::Batch batch(self->core_->thread);
                        if (!socket.ok()) return self->Fail("dial", socket.status());
                        self->socket_ = std::make_shared<Socket>(*std::move(socket));
                        self->Write();
                      });
}

void StreamReader::Write() {
  deadline_ = core_->Now() + core_->options.read_timeout;
  socket_->AsyncWriteAll(asio::buffer(request_),
                         [self = self(), socket = socket_, attempt = attempt_](error_code ec, size_t) {
                           if (self->attempt_ != attempt) return;
                           IoThread::Batch batch(self->core_->thread);
                           if (ec) return self->Fail("dial", SocketError("write", ec));
                           self->Read();
                         });
}

void StreamReader::Read() {
  socket_->async_read_some(
      asio::buffer(buffer_.get(), kReadBytes),
      [self = self(), socket = socket_, attempt = attempt_](error_code ec, size_t n) {
        if (self->attempt_ != attempt) return;
        IoThread::Batch batch(self->core_->thread);
        if (!ec) return self->OnRead(std::string_view(self->buffer_.get(), n));
        if (self->have_head_ && self->head_.status != 200) return self->OnRefused();
        self->Fail("read", ec == asio::error::eof ? absl::UnavailableError("EOF") : SocketError("read", ec));
      });
}

void StreamReader::OnRead(std::string_view bytes) {
  deadline_ = core_->Now() + core_->options.read_timeout;
  if (have_head_) return OnBody(bytes);
  head_bytes_.append(bytes);
  absl::StatusOr<size_t> size = FindHttpHead(head_bytes_);
  if (!size.ok()) return Fail("dial", size.status());
  if (*size == 0) return Read();
  absl::StatusOr<HttpHead> head = ParseHttpResponseHead(std::string_view(head_bytes_).substr(0, *size));
  if (!head.ok()) return Fail("dial", head.status());
  head_ = *std::move(head);
  have_head_ = true;
  body_ = BodyOfResponse(head_, "GET");
  if (head_.status == 200) OnHead();
  std::string rest = head_bytes_.substr(*size);
  head_bytes_.clear();
  OnBody(rest);
}

void StreamReader::OnHead() {
  last_failure_ = absl::OkStatus();
  peer_->Activate();
  KVD_LOG(kInfo, "established TCP streaming connection with remote peer",
          {"stream-reader-type", kind_ == StreamKind::kMsgApp ? "stream MsgApp v2" : "stream Message"},
          {"local-member-id", core_->member_hex}, {"remote-peer-id", peer_->hex_id()});
}

void StreamReader::OnBody(std::string_view bytes) {
  std::vector<raftpb::Message> messages;
  absl::Status failure;
  size_t received = 0;
  while (!body_.done() && failure.ok()) {
    absl::StatusOr<std::string_view> piece = body_.Next(&bytes);
    if (!piece.ok()) failure = piece.status();
    if (!piece.ok() || piece->empty()) break;
    received += piece->size();
    if (head_.status == 200) {
      failure = decoder_->Feed(*piece, &messages);
    } else if (refusal_.size() < kMaxRefusalBytes) {
      refusal_.append(piece->substr(0, kMaxRefusalBytes));
    }
  }
  peer_->CountReceived(received);
  uint64_t attempt = attempt_;
  if (!messages.empty()) core_->Deliver(std::move(messages));
  if (attempt != attempt_) return;  // the node stopped the peer meanwhile
  if (head_.status != 200 && (body_.done() || !failure.ok() || refusal_.size() >= kMaxRefusalBytes)) {
    return OnRefused();
  }
  if (!failure.ok()) {
    peer_->CountReceiveFailure();
    return Fail("read", failure);
  }
  if (body_.done()) return Fail("read", absl::UnavailableError("EOF"));
  Read();
}

void StreamReader::OnRefused() {
  std::string_view text = refusal_;
  if (text.ends_with('\n')) text.remove_suffix(1);
  absl::Status why = absl::FailedPreconditionError(base::StrCat("HTTP status ", head_.status, ": ", text));
  if (head_.status == 404) {
    why = absl::NotFoundError(
        base::StrCat("peer ", peer_->hex_id(), " failed to find local node ", core_->member_hex));
  } else if (head_.status == 412) {
    why = absl::FailedPreconditionError(base::ToAbsl(text));
  }
  uint64_t attempt = attempt_;
  if (head_.status == 412 && text.find("cluster ID mismatch") != std::string_view::npos) {
    core_->NotifyClusterMismatch(peer_->id());
  }
  if (head_.status == 410) {
    why = absl::FailedPreconditionError("the member has been permanently removed from the cluster");
    core_->NotifyRemoved(peer_->id());
  }
  if (attempt == attempt_) Fail("dial", why);
}

void StreamReader::Fail(std::string_view action, const absl::Status& why) {
  if (stopped_) return;
  DropConnection();
  if (why != last_failure_) {
    last_failure_ = why;
    KVD_LOG(kWarn,
            action == "dial" ? "failed to dial stream of remote peer"
                             : "lost TCP streaming connection with remote peer",
            {"stream-reader-type", kind_ == StreamKind::kMsgApp ? "stream MsgApp v2" : "stream Message"},
            {"local-member-id", core_->member_hex}, {"remote-peer-id", peer_->hex_id()}, {"error", why});
  }
  peer_->UrlFailed(url_);
  peer_->Deactivate(action, why);
  core_->thread.PostAfter(core_->options.reconnect_backoff, [self = self(), attempt = attempt_] {
    if (self->attempt_ == attempt) self->StartDial();
  });
}

void StreamReader::Close(const absl::Status& why) {
  Fail("read", why);
}

void StreamReader::OnTick(base::Nanos now) {
  if (now > deadline_) Fail("read", absl::DeadlineExceededError("i/o timeout"));
}

}  // namespace kvd::net
