#include "net/peer/peer_transport.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <condition_variable>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "base/log.h"
#include "base/strings.h"
#include "net/peer/dial.h"
#include "net/peer/peer.h"
#include "net/peer/peer_core.h"
#include "net/peer/peer_session.h"
#include "net/peer/snapshot_upload.h"
#include "net/peer/socket.h"
#include "raftpb/raft.pb.h"

namespace kvd::net {
namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

// Accepts on one address of the peer port.
class PeerListener final : public PeerConnection {
 public:
  PeerListener(std::shared_ptr<PeerCore> core, tcp::acceptor acceptor, std::shared_ptr<const TlsContext> tls)
      : core_(std::move(core)), acceptor_(std::move(acceptor)), tls_(std::move(tls)) {}

  void Start() {
    core_->Track(shared_from_this());
    Accept();
  }
  void Close(const absl::Status&) override {
    if (std::exchange(closed_, true)) return;
    auto keep = shared_from_this();
    core_->Untrack(this);
    error_code ignored;
    acceptor_.close(ignored);
  }
  void OnTick(base::Nanos) override {}

 private:
  void Accept() {
    auto self = std::static_pointer_cast<PeerListener>(shared_from_this());
    acceptor_.async_accept([self](error_code ec, tcp::socket socket) {
      if (self->closed_) return;
      if (ec) {
        // Out of descriptors, most likely: they come back when connections end.
        KVD_LOG(kWarn, "failed to accept on the peer port", {"error", ec.message()});
        self->core_->thread.PostAfter(std::chrono::milliseconds(100), [self] {
          if (!self->closed_) self->Accept();
        });
        return;
      }
      if (self->core_->accepted < self->core_->options.max_connections) self->Serve(std::move(socket));
      self->Accept();
    });
  }

  void Serve(tcp::socket socket) {
    if (tls_ == nullptr) {
      std::make_shared<PeerSession>(core_, Socket(std::move(socket)))->Start();
      return;
    }
    absl::StatusOr<Socket> secure = Socket::AcceptTls(std::move(socket), *tls_);
    if (!secure.ok()) {
      KVD_LOG(kWarn, "rejected connection on peer endpoint", {"error", secure.status()});
      return;
    }
    std::make_shared<PeerSession>(core_, *std::move(secure))->Start();
  }

  const std::shared_ptr<PeerCore> core_;
  tcp::acceptor acceptor_;
  const std::shared_ptr<const TlsContext> tls_;  // null: plaintext
  bool closed_ = false;
};

absl::StatusOr<tcp::endpoint> Resolve(asio::io_context& io, std::string_view host, uint16_t port) {
  if (host.empty()) return tcp::endpoint(tcp::v6(), port);
  error_code ec;
  asio::ip::address address = asio::ip::make_address(std::string(host), ec);
  if (!ec) return tcp::endpoint(address, port);
  tcp::resolver resolver(io);
  auto found = resolver.resolve(std::string(host), std::to_string(port), ec);
  if (ec || found.empty()) return absl::InvalidArgumentError(base::StrCat("cannot resolve ", host));
  for (const auto& entry : found) {
    if (entry.endpoint().address().is_v4()) return entry.endpoint();
  }
  return found.begin()->endpoint();
}

}  // namespace

struct PeerTransport::Impl {
  Impl(IoThread& thread, base::Clock& clock, PeerTransportOptions options, PeerHandler& handler)
      : core(std::make_shared<PeerCore>(thread, clock, std::move(options), handler)) {}

  // On the I/O thread.
  void StopAll() {
    core->stopped = true;
    std::vector<std::shared_ptr<Peer>> known;
    {
      std::lock_guard lock(core->mutex);
      for (const auto& [id, peer] : core->peers) known.push_back(peer);
      for (const auto& [id, peer] : core->remotes) known.push_back(peer);
      core->peers.clear();
      core->remotes.clear();
    }
    for (const auto& peer : known) peer->Stop();
    while (!core->connections.empty()) {
      auto connection = *core->connections.begin();
      connection->Close(absl::CancelledError("the peer transport is stopped"));
    }
    core->client.Stop();
  }

  const std::shared_ptr<PeerCore> core;
};

PeerTransport::PeerTransport(IoThread& thread, base::Clock& clock, PeerTransportOptions options,
                             PeerHandler& handler)
    : impl_(std::make_shared<Impl>(thread, clock, std::move(options), handler)) {
  thread.Post([core = impl_->core] { core->StartTicking(); });
}

PeerTransport::~PeerTransport() {
  Stop();
}

void PeerTransport::Handle(std::string path, PathHandler handler) {
  impl_->core->paths.insert_or_assign(std::move(path), std::move(handler));
}

absl::StatusOr<uint16_t> PeerTransport::ListenPeer(std::string_view host, uint16_t port,
                                                   std::shared_ptr<const TlsContext> tls) {
  PeerCore& core = *impl_->core;
  absl::StatusOr<tcp::endpoint> endpoint = Resolve(core.thread.context(), host, port);
  if (!endpoint.ok()) return endpoint.status();
  tcp::acceptor acceptor(core.thread.context());
  error_code ec;
  acceptor.open(endpoint->protocol(), ec);
  if (!ec) acceptor.set_option(asio::socket_base::reuse_address(true), ec);
  if (!ec && host.empty()) acceptor.set_option(asio::ip::v6_only(false), ec);
  if (!ec) acceptor.bind(*endpoint, ec);
  if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
  if (ec) return absl::UnavailableError(base::StrCat("listen tcp ", host, ":", port, ": ", ec.message()));
  uint16_t bound = acceptor.local_endpoint(ec).port();
  auto listener = std::make_shared<PeerListener>(impl_->core, std::move(acceptor), std::move(tls));
  core.thread.Post([listener, core = impl_->core] {
    if (core->running()) listener->Start();
  });
  return bound;
}

void PeerTransport::AddPeer(uint64_t id, std::vector<std::string> urls) {
  std::shared_ptr<PeerCore> core = impl_->core;
  std::shared_ptr<Peer> peer, remote;
  {
    std::lock_guard lock(core->mutex);
    if (core->stop_called || id == core->options.member_id || core->peers.count(id) != 0) return;
    if (auto at = core->remotes.find(id); at != core->remotes.end()) {
      remote = at->second;
      core->remotes.erase(at);
    }
    peer = std::make_shared<Peer>(core, id, urls, /*remote=*/false);
    core->peers[id] = peer;
  }
  KVD_LOG(kInfo, "added remote peer", {"local-member-id", core->member_hex},
          {"remote-peer-id", peer->hex_id()}, {"remote-peer-urls", urls});
  core->thread.Post([core, peer, remote] {
    if (remote) remote->Stop();
    if (core->running() && !peer->stopped()) peer->Start();
  });
}

void PeerTransport::AddRemote(uint64_t id, std::vector<std::string> urls) {
  impl_->core->AddRemote(id, std::move(urls));
}

void PeerTransport::UpdatePeer(uint64_t id, std::vector<std::string> urls) {
  std::shared_ptr<Peer> peer = impl_->core->FindAny(id);
  if (!peer) return;
  KVD_LOG(kInfo, "updated remote peer", {"local-member-id", impl_->core->member_hex},
          {"updated-remote-peer-id", peer->hex_id()}, {"updated-remote-peer-urls", urls});
  peer->UpdateUrls(std::move(urls));
}

void PeerTransport::RemovePeer(uint64_t id) {
  std::shared_ptr<PeerCore> core = impl_->core;
  std::shared_ptr<Peer> peer;
  {
    std::lock_guard lock(core->mutex);
    for (auto* map : {&core->peers, &core->remotes}) {
      if (auto at = map->find(id); at != map->end()) {
        peer = at->second;
        map->erase(at);
      }
    }
  }
  if (!peer) return;
  KVD_LOG(kInfo, "removed remote peer", {"local-member-id", core->member_hex},
          {"removed-remote-peer-id", peer->hex_id()});
  core->thread.Post([peer] { peer->Stop(); });
}

void PeerTransport::RemoveAllPeers() {
  std::vector<uint64_t> ids;
  {
    std::lock_guard lock(impl_->core->mutex);
    for (const auto& [id, peer] : impl_->core->peers) ids.push_back(id);
    for (const auto& [id, peer] : impl_->core->remotes) ids.push_back(id);
  }
  for (uint64_t id : ids) RemovePeer(id);
}

void PeerTransport::Send(uint64_t peer, std::vector<OutgoingMessage>&& messages) {
  if (std::shared_ptr<Peer> to = impl_->core->FindAny(peer)) to->Send(std::move(messages));
}

void PeerTransport::SendSnapshot(uint64_t peer, const raftpb::Message& message,
                                 std::unique_ptr<SnapshotSource> source, uint64_t size_bytes) {
  KVD_CHECK(message.type() == raftpb::MsgSnap, "only a MsgSnap goes with a database");
  std::shared_ptr<PeerCore> core = impl_->core;
  std::string framed;
  base::AppendBigEndian64(framed, message.ByteSizeLong());
  KVD_CHECK(message.AppendToString(&framed), "a MsgSnap must serialize");
  auto upload = std::make_shared<SnapshotUpload>(core, core->FindAny(peer), peer, std::move(framed),
                                                 std::move(source), size_bytes);
  core->thread.Post([core, upload] {
    IoThread::Batch batch(core->thread);
    if (core->running()) upload->Start();
  });
}

std::optional<base::Nanos> PeerTransport::ActiveSince(uint64_t id) const {
  std::shared_ptr<Peer> peer = impl_->core->Find(id);
  return peer ? peer->ActiveSince() : std::nullopt;
}

size_t PeerTransport::ActivePeers() const {
  std::lock_guard lock(impl_->core->mutex);
  size_t active = 0;
  for (const auto& [id, peer] : impl_->core->peers) active += peer->ActiveSince().has_value() ? 1 : 0;
  return active;
}

std::optional<PeerCounters> PeerTransport::Counters(uint64_t id) const {
  std::shared_ptr<Peer> peer = impl_->core->FindAny(id);
  if (!peer) return std::nullopt;
  return peer->Counters();
}

HttpClient& PeerTransport::http_client() {
  return impl_->core->client;
}

void PeerTransport::Stop() {
  std::shared_ptr<PeerCore> core = impl_->core;
  {
    std::lock_guard lock(core->mutex);
    if (core->stop_called.exchange(true)) return;
  }
  KVD_CHECK(!core->thread.IsCurrent(), "the peer transport is not stopped from its own thread");
  std::mutex mutex;
  std::condition_variable ended;
  bool done = false;
  core->thread.Post([&, impl = impl_] {
    impl->StopAll();
    // Behind what stopping the HTTP client has posted: its callbacks have run by then.
    asio::post(impl->core->thread.context(), [&] {
      std::lock_guard lock(mutex);
      done = true;
      ended.notify_one();
    });
  });
  std::unique_lock lock(mutex);
  ended.wait(lock, [&] { return done; });
}

}  // namespace kvd::net
