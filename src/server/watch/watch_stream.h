// The server's side of one Watch stream of etcd's API (ETCD: api/etcdserverpb/rpc.proto, service Watch), free
// of any transport: encoded WatchRequests come in, encoded WatchResponses go out.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "base/key_interval.h"
#include "server/watch/response_batch.h"

namespace kvd::server {

// Where a stream's responses go. The transport implements it.
//
// Thread-safety: Send, RequestDone and Finish are called on the hub's watch executor, one at a time, and must
// not block; queued_bytes is called there too. After WatchStream::Close a call may still arrive: it is
// ignored.
class WatchSink {
 public:
  virtual ~WatchSink() = default;
  // At least one response. Those that one task of the hub has for a stream come together, as far as they are
  // not many bytes.
  virtual void Send(ResponseBatch responses) = 0;
  // Bytes given to Send and not yet given to the peer.
  virtual size_t queued_bytes() = 0;
  // One request of `bytes` has been handled, and whatever answers it was given to Send before.
  virtual void RequestDone(size_t /*bytes*/) {}
  // Ends the stream after what was sent. Nothing follows.
  virtual void Finish(absl::StatusCode code, std::string_view message) = 0;
};

struct WatchStreamOptions {
  // Asked for every watch that is created: an empty answer permits it, a text refuses it and becomes the
  // response's cancel_reason, e.g. "rpc error: code = PermissionDenied desc = etcdserver: permission denied".
  // Runs on the watch executor; it must not block. Null permits everything.
  std::function<std::optional<std::string>(const base::KeyInterval&)> permission;
};

// Made by WatchHub::Open.
//
// Thread-safety: every method may be called from any thread and returns at once; the work happens on the
// hub's watch executor in the order of the calls. Ownership: the transport holds the handle; dropping it
// closes the stream. The stream holds the sink until it is closed.
class WatchStream {
 public:
  virtual ~WatchStream() = default;
  // One encoded WatchRequest. The transport reads no more of them while many are not done yet
  // (WatchSink::RequestDone) or its queue is above the hub's limit: requests wait in the hub, and answers to
  // them are sent whatever the queue holds. Bytes that are no WatchRequest
  // finish the stream; one without a request in it is ignored.
  virtual void OnRequest(std::string_view encoded) = 0;
  // The sink's queue has room again. The transport calls it whenever queued_bytes has fallen below a mark of
  // its own, after having been above WatchHub::Options::max_queued_bytes; the mark is lower than that. A call
  // too many does no harm; one too few leaves the stream's watchers waiting.
  virtual void OnWritable() = 0;
  // The peer has gone, or the transport ends the stream. Every watch of it ends silently. Idempotent.
  virtual void Close() = 0;
};

}  // namespace kvd::server
