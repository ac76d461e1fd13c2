#include "net/peer/peer_session.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "base/log.h"
#include "base/strings.h"
#include "net/peer/address_check.h"
#include "net/peer/dial.h"
#include "net/peer/peer.h"
#include "net/peer/snapshot_receiver.h"
#include "net/peer/stream_writer.h"
#include "raftpb/raft.pb.h"

namespace kvd::net {
namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr size_t kReadBytes = size_t{16} << 10;
// For a snapshot's bytes: each read is one write to the disk.
constexpr size_t kSnapshotReadBytes = size_t{256} << 10;
// After an answer that left part of the request unread: closing at once would reset the connection and could
// take the answer with it.
constexpr base::Nanos kLinger = std::chrono::seconds(1);

PeerResponse TextResponse(int status, std::string_view text) {
  PeerResponse response;
  response.status = status;
  response.headers.Add("Content-Type", "text/plain; charset=utf-8");
  response.headers.Add("X-Content-Type-Options", "nosniff");
  response.body = base::StrCat(text, "\n");
  return response;
}

}  // namespace

PeerSession::PeerSession(std::shared_ptr<PeerCore> core, Socket socket)
    : core_(std::move(core)),
      socket_(std::move(socket)),
      buffer_(std::make_unique_for_overwrite<char[]>(kReadBytes)),
      buffer_bytes_(kReadBytes),
      deadline_(base::Nanos::max()) {}

PeerSession::~PeerSession() = default;

void PeerSession::Start() {
  core_->Track(shared_from_this());
  ++core_->accepted;
  TuneSocket(socket_.base());
  if (socket_.tls() == nullptr) return NextRequest();
  ShakeHands();
}

void PeerSession::ShakeHands() {
  deadline_ = core_->Now() + core_->options.read_timeout;
  socket_.AsyncHandshake([self = self()](const absl::Status& status) {
    if (self->closed_) return;
    IoThread::Batch batch(self->core_->thread);
    if (!status.ok()) return self->Reject(status);
    self->CheckAddress();
  });
}

// A certificate that is for hosts is good from their addresses only.
void PeerSession::CheckAddress() {
  const TlsSession::Hosts hosts = socket_.tls()->PeerHosts();
  if (!core_->options.check_client_address || (hosts.addresses.empty() && hosts.names.empty())) {
    return NextRequest();
  }
  error_code ec;
  const auto remote = socket_.base().remote_endpoint(ec).address();
  if (ec) return Close(SocketError("peer", ec));
  AddressCheck::Start(core_->thread.context(), hosts, remote, [self = self()](const absl::Status& status) {
    if (self->closed_) return;
    IoThread::Batch batch(self->core_->thread);
    if (!status.ok()) return self->Reject(status);
    self->NextRequest();
  });
}

void PeerSession::Reject(const absl::Status& why) {
  error_code ignored;
  const auto remote = socket_.base().remote_endpoint(ignored);
  socket_.tls()->Reject("peer", base::StrCat(remote.address().to_string(), ":", remote.port()), why);
  Close(why);
}

void PeerSession::Close(const absl::Status&) {
  if (std::exchange(closed_, true)) return;
  auto keep = shared_from_this();
  core_->Untrack(this);
  --core_->accepted;
  error_code ignored;
  socket_.close(ignored);
  on_body_ = nullptr;
}

void PeerSession::OnTick(base::Nanos now) {
  if (now > deadline_) Close(absl::DeadlineExceededError("i/o timeout"));
}

void PeerSession::NextRequest() {
  state_ = State::kHead;
  on_body_ = nullptr;
  collected_ = std::string();
  deadline_ = core_->Now() + core_->options.read_timeout;  // for the whole head
  if (in_.empty()) {
    Read();
  } else {
    OnHeadBytes();
  }
}

void PeerSession::Read() {
  socket_.async_read_some(asio::buffer(buffer_.get(), buffer_bytes_),
                          [self = self()](error_code ec, size_t n) {
                            if (self->closed_) return;
                            IoThread::Batch batch(self->core_->thread);
                            if (ec) return self->Close(SocketError("read", ec));
                            self->OnRead(std::string_view(self->buffer_.get(), n));
                          });
}

void PeerSession::OnRead(std::string_view bytes) {
  if (state_ == State::kLinger) return Read();
  in_.append(bytes);
  if (state_ == State::kHead) return OnHeadBytes();
  deadline_ = core_->Now() + core_->options.read_timeout;
  ConsumeBody();
}

void PeerSession::OnHeadBytes() {
  absl::StatusOr<size_t> size = FindHttpHead(in_);
  if (!size.ok()) return RefuseHead(size.status());
  if (*size == 0) return Read();
  absl::StatusOr<HttpHead> head = ParseHttpRequestHead(std::string_view(in_).substr(0, *size));
  if (!head.ok()) return RefuseHead(head.status());
  in_.erase(0, *size);
  head_ = *std::move(head);
  body_ = BodyOfRequest(head_);
  state_ = State::kHandling;
  Dispatch();
}

void PeerSession::RefuseHead(const absl::Status& why) {
  head_ = HttpHead();
  body_ = HttpBodyReader();
  bool too_long = why.code() == absl::StatusCode::kResourceExhausted;
  ReplyText(too_long ? 431 : 400, too_long ? "431 Request Header Fields Too Large" : "400 Bad Request");
}

void PeerSession::Dispatch() {
  size_t question = head_.target.find('?');
  std::string query = question == std::string::npos ? std::string() : head_.target.substr(question + 1);
  std::string path;
  if (!PercentDecode(std::string_view(head_.target).substr(0, question), &path)) {
    return ReplyText(400, "400 Bad Request");
  }
  if (path == "/raft") return RaftMessage();
  if (path == "/raft/snapshot") return RaftSnapshot();
  if (path == "/raft/probing") return Probing();
  if (path.starts_with("/raft/stream/")) return RaftStream(path);
  auto at = core_->paths.find(path);
  if (at == core_->paths.end()) {
    // The longest registered "…/" that the path is below.
    for (size_t slash = path.rfind('/'); slash != std::string::npos && at == core_->paths.end();) {
      at = core_->paths.find(path.substr(0, slash + 1));
      slash = slash == 0 ? std::string::npos : path.rfind('/', slash - 1);
    }
  }
  if (at == core_->paths.end()) return ReplyText(404, "404 page not found");
  Custom(at->second, std::move(path), std::move(query));
}

bool PeerSession::RequireMethod(std::string_view method) {
  if (head_.method == method) return true;
  PeerResponse response = TextResponse(405, "Method Not Allowed");
  response.headers.Add("Allow", method);
  Reply(response);
  return false;
}

bool PeerSession::RequireCompatible() {
  std::string_view refusal = core_->CheckCompatible(head_.fields);
  if (refusal.empty()) return true;
  ReplyText(412, refusal);
  return false;
}

void PeerSession::RaftMessage() {
  if (!RequireMethod("POST") || !RequireCompatible()) return;
  uint64_t from = 0;
  if (ParseHexId(head_.fields.Get("X-Server-From"), &from)) core_->LearnRemote(from, head_.fields);
  CollectBody(core_->options.max_message_bytes, [this] { OnMessageBody(); });
}

void PeerSession::OnMessageBody() {
  std::vector<raftpb::Message> messages(1);
  raftpb::Message& m = messages.front();
  if (collected_.size() > (size_t{1} << 30) ||
      !m.ParseFromArray(collected_.data(), static_cast<int>(collected_.size()))) {
    return ReplyText(400, "error unmarshalling raft message");
  }
  if (core_->handler.IsIdRemoved(m.from()))
    return ReplyText(403, "cannot process message from removed member");
  if (m.to() != core_->options.member_id) return ReplyText(403, "cannot process message to mismatch member");
  if (m.type() == raftpb::MsgSnap) return ReplyText(400, "a snapshot must come with its database");
  if (std::shared_ptr<Peer> peer = core_->FindAny(m.from())) peer->CountReceived(collected_.size());
  auto keep = shared_from_this();
  core_->Deliver(std::move(messages));
  if (closed_) return;
  PeerResponse response;
  response.status = 204;
  response.headers.Add("X-Etcd-Cluster-ID", core_->cluster_hex);
  Reply(response);
}

void PeerSession::RaftSnapshot() {
  if (!RequireMethod("POST") || !RequireCompatible()) return;
  uint64_t from = 0;
  if (ParseHexId(head_.fields.Get("X-Server-From"), &from)) core_->LearnRemote(from, head_.fields);
  buffer_ = std::make_unique_for_overwrite<char[]>(kSnapshotReadBytes);
  buffer_bytes_ = kSnapshotReadBytes;
  auto receiver = std::make_shared<SnapshotReceiver>(self());
  on_body_ = [receiver](std::string_view bytes, bool last) { receiver->OnBody(bytes, last); };
  ReadBody();
}

void PeerSession::RaftStream(std::string_view path) {
  if (!RequireMethod("GET") || !RequireCompatible()) return;
  std::string_view rest = path;
  StreamKind kind = StreamKind::kMessage;
  constexpr std::string_view kAppends = "/raft/stream/msgapp/", kMessages = "/raft/stream/message/";
  if (rest.starts_with(kAppends)) {
    kind = StreamKind::kMsgApp;
    rest.remove_prefix(kAppends.size());
  } else if (rest.starts_with(kMessages)) {
    rest.remove_prefix(kMessages.size());
  } else {
    return ReplyText(404, "invalid path");
  }
  uint64_t from = 0;
  if (!ParseHexId(rest, &from)) return ReplyText(404, "invalid from");
  if (core_->handler.IsIdRemoved(from)) {
    KVD_LOG(kWarn, "rejected stream from remote peer because it was removed",
            {"local-member-id", core_->member_hex}, {"remote-peer-id-from", base::HexId(from)});
    return ReplyText(410, "removed member");
  }
  std::shared_ptr<Peer> peer = core_->Find(from);
  if (!peer) {
    core_->LearnRemote(from, head_.fields);
    return ReplyText(404, "error sender not found");
  }
  if (head_.fields.Get("X-Raft-To") != core_->member_hex) return ReplyText(412, "to field mismatch");
  auto writer = std::make_shared<StreamWriter>(core_, peer, kind, std::move(socket_));
  auto keep = shared_from_this();
  closed_ = true;  // the socket is the writer's now
  core_->Untrack(this);
  --core_->accepted;
  peer->Attach(kind, writer);
}

void PeerSession::Probing() {
  PeerResponse response;
  absl::Time now = absl::FromUnixNanos(core_->clock.Wall().count());
  response.body = base::StrCat("{\"OK\":true,\"Now\":\"",
                               absl::FormatTime("%E4Y-%m-%dT%H:%M:%E*SZ", now, absl::UTCTimeZone()), "\"}\n");
  response.headers.Add("Content-Type", "text/plain; charset=utf-8");
  CollectBody(core_->options.max_body_bytes, [this, response = std::move(response)] { Reply(response); });
}

namespace {

// Brings a handler's answer back to its session, from any thread; a handler that drops it answers 500.
class Answer {
 public:
  explicit Answer(std::shared_ptr<PeerSession> session) : session_(std::move(session)) {}
  Answer(Answer&&) = default;
  Answer& operator=(Answer&&) = delete;
  ~Answer() {
    if (session_) Send(TextResponse(500, "no answer"));
  }
  void Send(PeerResponse response) {
    IoThread& thread = session_->core().thread;
    thread.Post([session = std::exchange(session_, nullptr), response = std::move(response)]() mutable {
      if (session->closed()) return;
      IoThread::Batch batch(session->core().thread);
      response.headers.Add("X-Etcd-Cluster-ID", session->core().cluster_hex);
      session->Reply(response);
    });
  }

 private:
  std::shared_ptr<PeerSession> session_;
};

}  // namespace

void PeerSession::Custom(PeerTransport::PathHandler& handler, std::string path, std::string query) {
  CollectBody(core_->options.max_body_bytes, [this, &handler, path = std::move(path),
                                              query = std::move(query)]() mutable {
    PeerRequest request;
    request.method = head_.method;
    request.path = std::move(path);
    request.query = std::move(query);
    request.headers = head_.fields;
    request.body = std::move(collected_);
    state_ = State::kHandling;
    deadline_ = base::Nanos::max();
    handler(std::move(request), [answer = std::make_unique<Answer>(self())](PeerResponse response) mutable {
      if (auto once = std::exchange(answer, nullptr)) once->Send(std::move(response));
    });
  });
}

void PeerSession::CollectBody(size_t max_bytes, std::function<void()> done) {
  if (body_.announced().value_or(0) > max_bytes) return ReplyText(413, "request entity too large");
  on_body_ = [this, max_bytes, done = std::move(done)](std::string_view bytes, bool last) {
    if (collected_.size() + bytes.size() > max_bytes) return ReplyText(413, "request entity too large");
    collected_.append(bytes);
    if (!last) return ReadBody();
    done();
  };
  ReadBody();
}

void PeerSession::ReadBody() {
  state_ = State::kBody;
  deadline_ = core_->Now() + core_->options.read_timeout;
  if (!in_.empty() || body_.done()) return ConsumeBody();
  if (absl::EqualsIgnoreCase(base::ToAbsl(head_.fields.Get("Expect")), "100-continue")) {
    head_.fields.Remove("Expect");
    // A few bytes into an empty socket buffer: taken at once, or the client goes on without them.
    socket_.WriteNow("HTTP/1.1 100 Continue\r\n\r\n");
  }
  Read();
}

void PeerSession::ConsumeBody() {
  std::string bytes;
  std::string_view rest = in_;
  while (!body_.done()) {
    absl::StatusOr<std::string_view> piece = body_.Next(&rest);
    if (!piece.ok()) return ReplyText(400, "400 Bad Request");
    if (piece->empty()) break;
    bytes.append(*piece);
  }
  in_.erase(0, in_.size() - rest.size());
  if (bytes.empty() && !body_.done()) return Read();
  state_ = State::kHandling;
  deadline_ = base::Nanos::max();
  auto keep = shared_from_this();
  OnBody on_body = on_body_;  // it may replace itself
  on_body(bytes, body_.done());
}

void PeerSession::ReplyText(int status, std::string_view text) {
  PeerResponse response = TextResponse(status, text);
  response.headers.Add("X-Etcd-Cluster-ID", core_->cluster_hex);
  Reply(response);
}

void PeerSession::Reply(const PeerResponse& response) {
  if (closed_ || state_ == State::kWriting || state_ == State::kLinger) return;
  bool keep_alive = head_.keep_alive && body_.done();
  out_ = EncodeHttpResponse(response, keep_alive, head_.method != "HEAD");
  written_ = 0;
  state_ = State::kWriting;
  deadline_ = core_->Now() + core_->options.write_timeout;
  WriteOut(!keep_alive);
}

void PeerSession::WriteOut(bool then_close) {
  socket_.async_write_some(asio::buffer(out_.data() + written_, out_.size() - written_),
                           [self = self(), then_close](error_code ec, size_t n) {
                             if (self->closed_) return;
                             IoThread::Batch batch(self->core_->thread);
                             if (ec) return self->Close(SocketError("write", ec));
                             self->deadline_ = self->core_->Now() + self->core_->options.write_timeout;
                             self->written_ += n;
                             if (self->written_ < self->out_.size()) return self->WriteOut(then_close);
                             self->out_ = std::string();
                             if (then_close) return self->Linger();
                             self->NextRequest();
                           });
}

void PeerSession::Linger() {
  state_ = State::kLinger;
  deadline_ = core_->Now() + std::min(kLinger, core_->options.read_timeout);
  in_ = std::string();
  on_body_ = nullptr;
  socket_.ShutdownSend();
  Read();
}

}  // namespace kvd::net
