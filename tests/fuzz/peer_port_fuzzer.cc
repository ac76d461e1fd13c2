// Any bytes on a connection to the peer port: streams, posted messages and snapshots, and the small requests
// beside them. The connection ends, and a snapshot is taken only whole.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "fuzz_input.h"
#include "net/io_thread.h"
#include "net/io_threads.h"
#include "net/peer/peer_transport.h"
#include "raftpb/raft.pb.h"
#include "server/node/raft_convert.h"

namespace {

using kvd::fuzz::Must;
namespace net = kvd::net;

constexpr uint64_t kLocal = 1;
constexpr uint64_t kRemote = 2;
constexpr uint64_t kRemoved = 3;

class Sink final : public net::SnapshotSink {
 public:
  void Write(std::string, WriteDone done) override { done(absl::OkStatus()); }
  void Finish(WriteDone done) override { done(absl::OkStatus()); }
};

class Handler final : public net::PeerHandler {
 public:
  void OnMessages(std::vector<raftpb::Message>&& messages) override {
    Must(!messages.empty());
    for (raftpb::Message& message : messages) {
      Must(message.type() != raftpb::MsgSnap);
      (void)kvd::server::FromWire(std::move(message));
    }
  }
  absl::StatusOr<std::unique_ptr<net::SnapshotSink>> OnSnapshot(raftpb::Message&& message) override {
    Must(message.type() == raftpb::MsgSnap && message.to() == kLocal);
    (void)kvd::server::FromWire(std::move(message));
    return std::make_unique<Sink>();
  }
  void OnUnreachable(uint64_t) override {}
  void OnSnapshotSent(uint64_t, bool) override {}
  void OnRemoved(uint64_t) override {}
  bool IsIdRemoved(uint64_t id) override { return id == kRemoved; }
};

class World {
 public:
  World() : io_(1, "fuzz") {
    net::PeerTransportOptions options;
    options.member_id = kLocal;
    options.cluster_id = 0x10;
    options.server_version = "3.7.1";
    options.peer_urls = {"http://127.0.0.1:1"};
    options.max_message_bytes = size_t{64} * 1024;
    options.max_body_bytes = size_t{16} * 1024;
    transport_ =
        std::make_unique<net::PeerTransport>(io_.thread(0), kvd::base::SystemClock(), options, handler_);
    transport_->Handle("/members", [](net::PeerRequest request, net::PeerTransport::Respond respond) {
      net::PeerResponse response;
      response.body = std::move(request.body);
      respond(std::move(response));
    });
    auto port = transport_->ListenPeer("127.0.0.1", 0);
    Must(port.ok());
    port_ = *port;
    // A peer that does not answer, for its streams to be asked for.
    transport_->AddPeer(kRemote, {"http://127.0.0.1:1"});
  }

  void Send(std::string_view bytes, size_t piece) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    Must(fd >= 0);
    const int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    // Closed with a reset, so that no port stays behind.
    const linger now{1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port_);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    Must(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
    while (!bytes.empty()) {
      const ssize_t sent = send(fd, bytes.data(), std::min(piece, bytes.size()), MSG_NOSIGNAL);
      if (sent <= 0) break;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    shutdown(fd, SHUT_WR);
    // Until it answers, ends the connection, or has made a stream of it, which stays quiet.
    char answer[4096];
    pollfd wait{fd, POLLIN, 0};
    while (poll(&wait, 1, 20) > 0) {
      if (recv(fd, answer, sizeof answer, 0) <= 0) break;
    }
    close(fd);
  }

 private:
  net::IoThreads io_;
  Handler handler_;
  std::unique_ptr<net::PeerTransport> transport_;
  uint16_t port_ = 0;
};

// The head of a request as a member sends it, so that the input begins with what follows.
std::string Head(uint8_t kind, size_t body) {
  static constexpr std::string_view kTargets[] = {"GET /raft/stream/msgapp/1",
                                                  "GET /raft/stream/message/1",
                                                  "POST /raft",
                                                  "POST /raft/snapshot",
                                                  "POST /members",
                                                  "GET /raft/probing"};
  const bool chunked = (kind & 0x80) != 0;
  std::string head(kTargets[kind % std::size(kTargets)]);
  head +=
      " HTTP/1.1\r\nHost: a\r\nX-Server-From: 2\r\nX-Server-Version: 3.7.1\r\nX-Min-Cluster-Version: "
      "3.0.0\r\n";
  head += "X-Etcd-Cluster-ID: 10\r\nX-Raft-To: 1\r\nX-PeerURLs: http://127.0.0.1:1\r\n";
  if (head.starts_with("POST")) {
    head += chunked ? "Transfer-Encoding: chunked\r\n" : "Content-Length: " + std::to_string(body) + "\r\n";
  }
  return head + "\r\n";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto* const world = new World;
  if (size > 32768) return 0;
  kvd::fuzz::Input input(data, size);
  const uint8_t kind = input.Byte();
  const size_t piece = 1 + input.Word();
  const std::string_view bytes = input.TakeRest();
  world->Send(kind % 16 == 15 ? std::string(bytes) : Head(kind, bytes.size()) + std::string(bytes), piece);
  return 0;
}
