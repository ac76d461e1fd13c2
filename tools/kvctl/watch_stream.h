// Watchers on one stream that outlive it: after a failure they go on at the next endpoint, each from the
// revision after the last it has seen.
//
// Thread-safety: Add, RequestProgress and Stop may be called from any thread; Run from one.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "client.h"
#include "etcdserverpb/rpc.grpc.pb.h"

namespace kvd::ctl {

class WatchStream {
 public:
  // Events, progress and cancellations of the watcher that Add numbered so; called by Run. False ends Run.
  using OnResponse = std::function<bool(size_t watcher, const etcdserverpb::WatchResponse&)>;

  // `client` must outlive the stream.
  WatchStream(Client& client, absl::Duration connect_timeout, OnResponse on_response)
      : client_(client), connect_timeout_(connect_timeout), on_response_(std::move(on_response)) {}

  // Starts a watcher now, or with Run. Watchers are numbered from 0.
  void Add(const etcdserverpb::WatchCreateRequest& request);
  // Asks how far the stream has come; all watchers get the answer.
  void RequestProgress();
  // Ends Run from another thread.
  void Stop();

  // Serves the watchers until they are all cancelled, on_response says so, or Stop. Errors: the reason why
  // the stream could not go on.
  grpc::Status Run();

 private:
  using Stream = grpc::ClientReaderWriter<etcdserverpb::WatchRequest, etcdserverpb::WatchResponse>;

  struct Watcher {
    etcdserverpb::WatchCreateRequest request;  // start_revision follows what was seen
    int64_t id = -1;                           // on the stream in use
    bool open = true;
  };

  grpc::Status Open();
  // Reads until the stream ends; sets *done if Run has to end as well.
  grpc::Status Serve(bool* done);
  bool Handle(const etcdserverpb::WatchResponse& response);
  bool Deliver(const etcdserverpb::WatchResponse& response);
  void Write(const etcdserverpb::WatchRequest& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Client& client_;
  const absl::Duration connect_timeout_;
  const OnResponse on_response_;

  base::Mutex mutex_;
  std::vector<Watcher> watchers_ ABSL_GUARDED_BY(mutex_);
  std::vector<size_t> created_order_ ABSL_GUARDED_BY(mutex_);  // watchers whose creation is not answered yet
  std::unique_ptr<grpc::ClientContext> context_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Stream> stream_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace kvd::ctl
