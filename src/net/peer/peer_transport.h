// Raft messages between members, on the wire of etcd's rafthttp. A member dials GET /raft/stream/msgapp and
// /raft/stream/message on each peer and reads the peer's messages out of the endless answer; what it has to
// say to the peer goes into the answers to the peer's own requests. POST /raft carries messages while no
// stream is attached, POST /raft/snapshot a database.
//
// It moves messages and knows nothing of what they mean, except that appends have a stream of their own.
//
// Threads: all sockets live on the I/O thread given; PeerHandler and HTTP handlers are called there and must
// not block. Every public method may be called from any thread. Memory: per peer, what waits to be sent is
// bounded by count and bytes; per connection, one message or one body. Lifetime: the I/O thread runs until
// Stop() has returned; the handler outlives the transport. No handler is called after Stop() returned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "net/peer/http_types.h"

namespace raftpb {
class Message;
}

namespace kvd::net {

class HttpClient;
class IoThread;
class TlsContext;

// An entry to send. Its bytes are shared with the log and are copied once, into the socket's buffer.
struct OutgoingEntry {
  uint64_t term = 0;
  uint64_t index = 0;
  int32_t type = 0;  // raftpb.EntryType
  base::SharedBytes data;
};

// A raftpb.Message to send, except MsgSnap (SendSnapshot). Fields are those of raftpb.Message.
struct OutgoingMessage {
  int32_t type = 0;  // raftpb.MessageType
  uint64_t to = 0;
  uint64_t from = 0;
  uint64_t term = 0;
  uint64_t log_term = 0;
  uint64_t index = 0;
  uint64_t commit = 0;
  uint64_t vote = 0;
  uint64_t reject_hint = 0;
  bool reject = false;
  std::string context;
  std::vector<OutgoingEntry> entries;
};

// The database bytes that follow a MsgSnap. Destroyed when the transfer has ended, well or badly, and no Read
// is under way.
class SnapshotSource {
 public:
  // At most the size asked for; an empty string is the end. Called once, from any thread.
  using ReadDone = absl::AnyInvocable<void(absl::StatusOr<std::string>)>;
  virtual ~SnapshotSource() = default;
  // One Read at a time; called on the I/O thread, must not block it: read on another thread, then call done.
  virtual void Read(size_t max_bytes, ReadDone done) = 0;
};

// Where an incoming snapshot's database bytes go. Destroyed when no call is under way; without Finish if the
// transfer broke off: the sink then discards what it has.
class SnapshotSink {
 public:
  using WriteDone = absl::AnyInvocable<void(absl::Status)>;
  virtual ~SnapshotSink() = default;
  // One Write at a time; called on the I/O thread, must not block it. The next bytes are read from the socket
  // once `done` was called (from any thread); an error ends the transfer with status 500 and its text.
  virtual void Write(std::string bytes, WriteDone done) = 0;
  // The whole body came. The sink makes it durable and hands the MsgSnap to the core, then calls done: OK is
  // answered with 204, which the sender reports to its core.
  virtual void Finish(WriteDone done) = 0;
};

// What the node does with what comes in. Called on the I/O thread; must not block.
class PeerHandler {
 public:
  virtual ~PeerHandler() = default;
  // Everything decoded from one read, in the order of its stream. Never MsgSnap, never empty.
  virtual void OnMessages(std::vector<raftpb::Message>&& messages) = 0;
  // A peer starts to send a snapshot. An error refuses it (status 500).
  virtual absl::StatusOr<std::unique_ptr<SnapshotSink>> OnSnapshot(raftpb::Message&& message) = 0;
  // Messages to the peer were dropped or a connection that carried them broke.
  virtual void OnUnreachable(uint64_t peer) = 0;
  // Once per SendSnapshot.
  virtual void OnSnapshotSent(uint64_t peer, bool ok) = 0;
  // The peer says that this member has been removed from the cluster. May come more than once.
  virtual void OnRemoved(uint64_t by) = 0;
  // The peer says that it belongs to another cluster. May come often.
  virtual void OnClusterMismatch(uint64_t) {}
  // True for members removed in the past: they are answered 410 (streams) or 403 (POST).
  virtual bool IsIdRemoved(uint64_t id) = 0;
};

struct PeerTransportOptions {
  uint64_t member_id = 0;
  uint64_t cluster_id = 0;
  std::string server_version;                 // X-Server-Version, for example "3.7.1"
  std::string min_cluster_version = "3.0.0";  // X-Min-Cluster-Version
  std::vector<std::string> peer_urls;         // this member's own, for X-PeerURLs
  std::shared_ptr<const TlsContext> tls;      // to dial URLs of https; null: there are none
  // A peer's certificate must be for the address that it connects from, if it is for hosts at all.
  bool check_client_address = true;

  base::Nanos dial_timeout = std::chrono::seconds(2);
  // A stream that brings nothing for this long is dead, and so is a request that does not come to its end.
  base::Nanos read_timeout = std::chrono::seconds(5);
  // A write that makes no progress for this long ends the connection.
  base::Nanos write_timeout = std::chrono::seconds(5);
  // Link heartbeats on attached streams; well below the peer's read timeout.
  base::Nanos heartbeat_interval = std::chrono::milliseconds(1667);
  base::Nanos reconnect_backoff = std::chrono::milliseconds(100);
  base::Nanos probe_interval = std::chrono::seconds(5);
  // For the receiver's answer after the last byte of a snapshot was sent.
  base::Nanos snapshot_answer_timeout = std::chrono::minutes(5);

  size_t max_queued_messages = 4096;           // per peer and stream
  size_t max_queued_bytes = size_t{64} << 20;  // per peer and stream; one message may always wait
  size_t max_message_bytes = size_t{256} << 20;
  size_t max_body_bytes = size_t{8} << 20;  // of requests to the registered handlers
  size_t max_connections = 1024;            // accepted on the peer port at a time
};

// Since the transport began to know the peer. Bytes are those of messages, without HTTP framing.
struct PeerCounters {
  uint64_t sent_bytes = 0;
  uint64_t received_bytes = 0;
  uint64_t sent_failures = 0;  // messages dropped or lost on the way out
  uint64_t received_failures = 0;
  uint64_t snapshots_sent = 0;
  uint64_t snapshot_send_failures = 0;
  uint64_t queued_messages = 0;     // now
  uint64_t queued_bytes = 0;        // now
  base::Nanos round_trip{0};        // of the latest successful probe; 0 before the first
  base::Nanos clock_difference{0};  // peer's wall clock minus ours, from the latest probe
  bool stream_msgapp = false;       // the peer's streams are attached here
  bool stream_message = false;
};

class PeerTransport {
 public:
  using Respond = absl::AnyInvocable<void(PeerResponse)>;
  // Calls respond once, from any thread, now or later.
  using PathHandler = absl::AnyInvocable<void(PeerRequest, Respond)>;

  PeerTransport(IoThread& thread, base::Clock& clock, PeerTransportOptions options, PeerHandler& handler);
  ~PeerTransport();  // Stop()s

  // Serves a path of the peer port beside /raft: exact, or everything below it if it ends in '/'. Before
  // ListenPeer. Every answer gets X-Etcd-Cluster-ID.
  void Handle(std::string path, PathHandler handler);
  // Port 0 takes any; a null `tls` is plaintext. Returns the port. May be called for several addresses.
  // Errors: kUnavailable (address in use, no such address), kInvalidArgument.
  absl::StatusOr<uint16_t> ListenPeer(std::string_view host, uint16_t port,
                                      std::shared_ptr<const TlsContext> tls = nullptr);

  // URLs are tried in turn; a peer that is known already is left as it is.
  void AddPeer(uint64_t id, std::vector<std::string> urls);
  // A member that is not (yet) in this one's configuration, to whom it still has to answer: messages go by
  // POST only. AddPeer replaces it. Requests from unknown members that bring X-PeerURLs do the same, for a
  // few members.
  void AddRemote(uint64_t id, std::vector<std::string> urls);
  void UpdatePeer(uint64_t id, std::vector<std::string> urls);
  void RemovePeer(uint64_t id);
  void RemoveAllPeers();

  // Never blocks. Takes the messages; their order is kept per stream (appends, all others). What finds its
  // queue full is dropped and OnUnreachable called. Messages to an unknown peer are dropped.
  void Send(uint64_t peer, std::vector<OutgoingMessage>&& messages);
  // Sends a MsgSnap and the `size_bytes` of its database. OnSnapshotSent tells the outcome, also for an
  // unknown peer.
  void SendSnapshot(uint64_t peer, const raftpb::Message& message, std::unique_ptr<SnapshotSource> source,
                    uint64_t size_bytes);

  // Monotonic time since when the peer has been reachable; nothing if it is not.
  std::optional<base::Nanos> ActiveSince(uint64_t id) const;
  size_t ActivePeers() const;
  std::optional<PeerCounters> Counters(uint64_t id) const;

  // For requests to members on the same thread (/members, /leases, …).
  HttpClient& http_client();

  // Ends every connection and waits until no handler runs or will run. Idempotent. Not from the I/O thread.
  void Stop();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

// The same message for Send; entries' bytes are moved, not copied. REQUIRES: not MsgSnap.
OutgoingMessage ToOutgoing(raftpb::Message&& message);

}  // namespace kvd::net
