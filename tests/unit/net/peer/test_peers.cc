#include "test_peers.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/check.h"

namespace kvd::net {

void RecordingHandler::OnMessages(std::vector<raftpb::Message>&& batch) {
  std::lock_guard lock(mutex);
  ++batches;
  for (raftpb::Message& m : batch) messages.push_back(std::move(m));
  changed.notify_all();
}

absl::StatusOr<std::unique_ptr<SnapshotSink>> RecordingHandler::OnSnapshot(raftpb::Message&& message) {
  std::function<absl::StatusOr<std::unique_ptr<SnapshotSink>>(raftpb::Message)> make;
  {
    std::lock_guard lock(mutex);
    make = on_snapshot;
  }
  if (!make) return absl::UnimplementedError("no snapshots here");
  return make(std::move(message));
}

void RecordingHandler::OnUnreachable(uint64_t peer) {
  std::lock_guard lock(mutex);
  ++unreachable[peer];
  changed.notify_all();
}

void RecordingHandler::OnSnapshotSent(uint64_t peer, bool ok) {
  std::lock_guard lock(mutex);
  snapshots_sent.emplace_back(peer, ok);
  changed.notify_all();
}

void RecordingHandler::OnRemoved(uint64_t by) {
  std::lock_guard lock(mutex);
  removed_by.push_back(by);
  changed.notify_all();
}

bool RecordingHandler::IsIdRemoved(uint64_t id) {
  std::lock_guard lock(mutex);
  return std::find(removed_ids.begin(), removed_ids.end(), id) != removed_ids.end();
}

bool RecordingHandler::WaitFor(const std::function<bool(RecordingHandler&)>& done) {
  std::unique_lock lock(mutex);
  return changed.wait_for(lock, std::chrono::seconds(60), [&] { return done(*this); });
}

int RecordingHandler::Unreachable(uint64_t peer) {
  std::lock_guard lock(mutex);
  auto at = unreachable.find(peer);
  return at == unreachable.end() ? 0 : at->second;
}

size_t RecordingHandler::MessageCount() {
  std::lock_guard lock(mutex);
  return messages.size();
}

TestPeer::TestPeer(uint64_t member_id, const std::function<void(PeerTransportOptions&)>& adjust,
                   uint16_t want_port)
    : id(member_id), threads(std::make_unique<IoThreads>(1, "peer")) {
  PeerTransportOptions options;
  options.member_id = id;
  options.cluster_id = kClusterId;
  options.server_version = "3.7.1";
  options.reconnect_backoff = std::chrono::milliseconds(20);
  if (adjust) adjust(options);
  secure = options.tls != nullptr;
  transport = std::make_unique<PeerTransport>(threads->thread(0), base::SystemClock(), options, handler);
  absl::StatusOr<uint16_t> bound = transport->ListenPeer("127.0.0.1", want_port, options.tls);
  KVD_CHECK(bound.ok(), "a test's port must be free");
  port = *bound;
}

TestPeer::~TestPeer() {
  transport->Stop();
  transport.reset();
  threads->Stop();
}

std::string TestPeer::url() const {
  return (secure ? "https://127.0.0.1:" : "http://127.0.0.1:") + std::to_string(port);
}

bool TestPeer::WaitForStreams(uint64_t peer) {
  return Eventually([&] {
    std::optional<PeerCounters> c = transport->Counters(peer);
    return c && c->stream_msgapp && c->stream_message;
  });
}

void Join(TestPeer& a, TestPeer& b) {
  a.transport->AddPeer(b.id, {b.url()});
  b.transport->AddPeer(a.id, {a.url()});
}

bool Eventually(const std::function<bool()>& done) {
  base::Nanos end = base::SystemClock().Monotonic() + std::chrono::seconds(60);
  while (!done()) {
    if (base::SystemClock().Monotonic() > end) return false;
    ::usleep(2000);
  }
  return true;
}

OutgoingMessage TestMessage(raftpb::MessageType type, uint64_t from, uint64_t to, uint64_t index,
                            std::string data) {
  OutgoingMessage m;
  m.type = type;
  m.from = from;
  m.to = to;
  m.term = 1;
  m.log_term = 1;
  m.index = index;
  if (!data.empty()) m.entries.push_back({1, index + 1, 0, base::SharedBytes(std::move(data))});
  return m;
}

RawSocket::RawSocket(uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  timeval limit{20, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  KVD_CHECK(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0,
            "a test's server must listen");
}

RawSocket::~RawSocket() {
  if (fd_ >= 0) ::close(fd_);
}

void RawSocket::Reset() {
  linger at_once{1, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  ::close(std::exchange(fd_, -1));
}

bool RawSocket::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

std::string RawSocket::ReadAll(size_t max) {
  std::string out;
  char buffer[4096];
  while (out.size() < max) {
    ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
    if (n <= 0) break;
    out.append(buffer, static_cast<size_t>(n));
  }
  return out;
}

std::string RawSocket::ReadSome() {
  char buffer[65536];
  const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
  return n <= 0 ? std::string() : std::string(buffer, static_cast<size_t>(n));
}

std::string RawSocket::ReadUntil(std::string_view text) {
  std::string out;
  char c;
  while (out.find(text) == std::string::npos && ::recv(fd_, &c, 1, 0) == 1) out += c;
  return out;
}

}  // namespace kvd::net
