// Members for tests of the peer transport: a transport on a thread of its own and a handler that records.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "net/io_threads.h"
#include "net/peer/http_client.h"
#include "net/peer/peer_transport.h"
#include "raftpb/raft.pb.h"

namespace kvd::net {

inline constexpr uint64_t kClusterId = 0xabcdef;

class RecordingHandler : public PeerHandler {
 public:
  void OnMessages(std::vector<raftpb::Message>&& messages) override;
  absl::StatusOr<std::unique_ptr<SnapshotSink>> OnSnapshot(raftpb::Message&& message) override;
  void OnUnreachable(uint64_t peer) override;
  void OnSnapshotSent(uint64_t peer, bool ok) override;
  void OnRemoved(uint64_t by) override;
  bool IsIdRemoved(uint64_t id) override;

  // Waits until `done` holds, which is evaluated under the lock; false after 20 s.
  bool WaitFor(const std::function<bool(RecordingHandler&)>& done);
  int Unreachable(uint64_t peer);  // how often it was told
  size_t MessageCount();

  std::mutex mutex;
  std::condition_variable changed;
  // All guarded by mutex.
  std::vector<raftpb::Message> messages;
  size_t batches = 0;
  std::map<uint64_t, int> unreachable;
  std::vector<std::pair<uint64_t, bool>> snapshots_sent;
  std::vector<uint64_t> removed_by;
  std::vector<uint64_t> removed_ids;
  std::function<absl::StatusOr<std::unique_ptr<SnapshotSink>>(raftpb::Message)> on_snapshot;
};

struct TestPeer {
  explicit TestPeer(uint64_t id, const std::function<void(PeerTransportOptions&)>& adjust = nullptr,
                    uint16_t port = 0);
  ~TestPeer();

  std::string url() const;
  void Send(uint64_t to, std::vector<OutgoingMessage> messages) { transport->Send(to, std::move(messages)); }
  // Waits until the peer has attached both its streams here; false after 20 s.
  bool WaitForStreams(uint64_t peer);

  uint64_t id;
  uint16_t port = 0;
  bool secure = false;  // TLS, where its options say so
  RecordingHandler handler;
  std::unique_ptr<IoThreads> threads;
  std::unique_ptr<PeerTransport> transport;
};

// Makes the two know one another.
void Join(TestPeer& a, TestPeer& b);
// Polls until `done`; false after 20 s.
bool Eventually(const std::function<bool()>& done);

OutgoingMessage TestMessage(raftpb::MessageType type, uint64_t from, uint64_t to, uint64_t index,
                            std::string data = "");

// A plain client socket, for what a well-behaved peer does not do.
class RawSocket {
 public:
  explicit RawSocket(uint16_t port);
  ~RawSocket();
  // False if the connection broke.
  bool Send(std::string_view bytes);
  // Everything until the other side closes, at most `max` bytes; waits 20 s at most.
  std::string ReadAll(size_t max = 1 << 20);
  // Some bytes, as they come; none at the end, or after 20 s.
  std::string ReadSome();
  // Breaks the connection off.
  void Reset();
  // Until `text` has come (or the end).
  std::string ReadUntil(std::string_view text);

 private:
  int fd_;
};

}  // namespace kvd::net
