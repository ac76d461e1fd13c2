// A remote member: what waits to be sent to it, the streams that carry it, and whether it is reachable.
//
// Thread-safety: Send, Take, the getters and UpdateUrls from any thread; the rest on the I/O thread.
#pragma once

#include <array>
#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/io_thread.h"
#include "net/peer/message_codec.h"
#include "net/peer/peer_core.h"

namespace kvd::net {

class StreamReader;
class StreamWriter;

class Peer : public std::enable_shared_from_this<Peer>, private WorkNode {
 public:
  // A remote has no streams: it is sent to by POST only, and not probed.
  Peer(std::shared_ptr<PeerCore> core, uint64_t id, std::vector<std::string> urls, bool remote);
  ~Peer();

  uint64_t id() const { return id_; }
  const std::string& hex_id() const { return hex_id_; }
  bool remote() const { return remote_; }

  // A few messages are written by the caller's thread where nothing is under way (StreamWriter::SendHere).
  void Send(std::vector<OutgoingMessage>&& messages);
  void UpdateUrls(std::vector<std::string> urls);
  // The URL to try next; `failed` moves on to the next one if it is still the one in use.
  std::string Url() const;
  void UrlFailed(std::string_view failed);
  std::optional<base::Nanos> ActiveSince() const;
  PeerCounters Counters() const;

  // Starts the stream readers.
  void Start();
  // Closes what belongs to the peer and drops its queues.
  void Stop();
  bool stopped() const { return stopped_; }

  void Attach(StreamKind kind, const std::shared_ptr<StreamWriter>& writer);
  // `unsent`: the writer had messages that it may not have delivered.
  void Detach(StreamKind kind, StreamWriter* writer, bool unsent);
  // Messages for the stream in their order, at least one if there is any, up to about max_bytes; `more` says
  // whether others wait behind them.
  std::vector<OutgoingMessage> Take(StreamKind kind, size_t max_bytes, bool* more);

  // Reachability, as the streams and requests find it.
  void Activate();
  void Deactivate(std::string_view action, const absl::Status& why);
  void CountSent(size_t bytes) { sent_bytes_ += bytes; }
  void CountReceived(size_t bytes) { received_bytes_ += bytes; }
  void CountReceiveFailure() { ++receive_failures_; }
  void CountSnapshot(bool ok) { ++(ok ? snapshots_sent_ : snapshot_failures_); }
  void ProbeIfDue(base::Nanos now);

 private:
  // Where a message waits: for one of the two streams, or to be POSTed.
  static constexpr size_t kLanes = 3;
  static constexpr size_t kPipeline = 2;
  static size_t LaneOf(StreamKind kind) { return kind == StreamKind::kMsgApp ? 0 : 1; }
  struct Lane {
    std::deque<OutgoingMessage> queue;
    size_t bytes = 0;
    bool attached = false;
  };

  static size_t QueueBytes(const OutgoingMessage& m);
  bool Push(OutgoingMessage&& m);  // REQUIRES: mutex_ held
  void Wake();                     // REQUIRES: mutex_ held
  void Run(bool thread_stopped) override;
  void PumpPipeline();
  void Post(const OutgoingMessage& message);
  void OnPosted(const std::string& url, size_t bytes, const absl::StatusOr<PeerResponse>& response);
  void OnProbed(base::Nanos started, const absl::StatusOr<PeerResponse>& response);

  const std::shared_ptr<PeerCore> core_;
  const uint64_t id_;
  const std::string hex_id_;
  const bool remote_;

  mutable std::mutex mutex_;
  std::vector<std::string> urls_;                         // guarded by mutex_
  size_t url_ = 0;                                        // guarded by mutex_
  std::array<Lane, kLanes> lanes_;                        // guarded by mutex_
  std::array<std::shared_ptr<StreamWriter>, 2> writers_;  // guarded by mutex_; set on the I/O thread only
  std::shared_ptr<Peer> woken_;                           // guarded by mutex_; set while Run is due
  bool overflow_ = false;                                 // guarded by mutex_; to be told on the I/O thread
  bool closed_ = false;                                   // guarded by mutex_
  std::optional<base::Nanos> active_since_;               // guarded by mutex_
  base::Nanos round_trip_{0};                             // guarded by mutex_
  base::Nanos clock_difference_{0};                       // guarded by mutex_

  std::atomic<uint64_t> sent_bytes_{0}, received_bytes_{0}, send_failures_{0}, receive_failures_{0};
  std::atomic<uint64_t> snapshots_sent_{0}, snapshot_failures_{0};

  // I/O thread only.
  bool stopped_ = false;
  std::array<std::shared_ptr<StreamReader>, 2> readers_;
  size_t posts_ = 0;
  bool probing_ = false;
  base::Nanos next_probe_{0};
};

}  // namespace kvd::net
