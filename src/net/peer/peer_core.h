// What the pieces of one peer transport share: its options, its peers, its live connections and the tick that
// ends the ones that have fallen silent.
//
// Thread-safety: members say which thread they belong to. Everything is kept alive by the operations under
// way.
#pragma once

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "net/io_thread.h"
#include "net/peer/http_client.h"
#include "net/peer/http_wire.h"
#include "net/peer/peer_transport.h"

namespace kvd::net {

class Peer;

// A connection that has a deadline. I/O thread only.
class PeerConnection : public std::enable_shared_from_this<PeerConnection> {
 public:
  virtual ~PeerConnection() = default;
  // Ends it; later calls do nothing. `why` is for the log.
  virtual void Close(const absl::Status& why) = 0;
  // Several times within each timeout.
  virtual void OnTick(base::Nanos now) = 0;
};

class PeerCore : public std::enable_shared_from_this<PeerCore> {
 public:
  PeerCore(IoThread& io_thread, base::Clock& core_clock, PeerTransportOptions core_options,
           PeerHandler& core_handler);

  // Any thread.
  std::shared_ptr<Peer> Find(uint64_t id) const;  // peers only
  std::shared_ptr<Peer> FindAny(uint64_t id) const;
  void AddRemote(uint64_t id, std::vector<std::string> urls);

  // I/O thread. False: the transport is stopped, and the handler must not be called any more.
  bool running() const { return !stopped; }
  void StartTicking();
  void Track(const std::shared_ptr<PeerConnection>& connection) { connections.insert(connection); }
  void Untrack(PeerConnection* connection) { connections.erase(connection->shared_from_this()); }
  base::Nanos Now() const { return clock.Monotonic(); }
  // Hands messages to the node after dropping what is not for this member.
  void Deliver(std::vector<raftpb::Message>&& messages);
  void NotifyUnreachable(uint64_t peer);
  void NotifyRemoved(uint64_t by);
  void NotifyClusterMismatch(uint64_t by);
  // The fields of every request to a peer.
  void AddRequestFields(HttpFields& fields) const;
  // "" if the request may be served; otherwise what etcd answers with status 412.
  std::string_view CheckCompatible(const HttpFields& fields) const;
  // Learns the sender of a request from X-Server-From and X-PeerURLs.
  void LearnRemote(uint64_t id, const HttpFields& fields);

  IoThread& thread;
  base::Clock& clock;
  const PeerTransportOptions options;
  PeerHandler& handler;
  HttpClient client;
  const std::string member_hex;
  const std::string cluster_hex;
  std::map<std::string, PeerTransport::PathHandler> paths;  // fixed once listening

  mutable std::mutex mutex;
  std::unordered_map<uint64_t, std::shared_ptr<Peer>> peers;    // guarded by mutex
  std::unordered_map<uint64_t, std::shared_ptr<Peer>> remotes;  // guarded by mutex
  std::atomic<bool> stop_called{false};

  // I/O thread only.
  bool stopped = false;
  std::set<std::shared_ptr<PeerConnection>> connections;
  size_t accepted = 0;  // connections that came in through the peer port

 private:
  void Tick();
  base::Nanos tick_interval_;
};

// An ID as etcd writes it in headers and paths; false for anything else.
bool ParseHexId(std::string_view text, uint64_t* id);

}  // namespace kvd::net
