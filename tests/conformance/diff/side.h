// One of the two servers: makes single calls and keeps one watch stream.
//
// Thread-safety: one thread; a watch stream has a thread of its own that reads.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "etcdserverpb/rpc.grpc.pb.h"
#include "program.h"

namespace kvd::diff {

using Response = std::variant<std::monostate, etcdserverpb::RangeResponse, etcdserverpb::PutResponse,
                              etcdserverpb::DeleteRangeResponse, etcdserverpb::TxnResponse,
                              etcdserverpb::CompactionResponse, etcdserverpb::LeaseGrantResponse,
                              etcdserverpb::LeaseRevokeResponse, etcdserverpb::LeaseTimeToLiveResponse,
                              etcdserverpb::LeaseLeasesResponse, etcdserverpb::LeaseKeepAliveResponse,
                              etcdserverpb::HashKVResponse, etcdserverpb::WatchResponse>;

struct Outcome {
  grpc::Status status;
  Response response;
};
std::string ToString(const Outcome& outcome);
google::protobuf::Message* MessageIn(Response* response);  // null for none
etcdserverpb::ResponseHeader* HeaderIn(Response* response);

// What one watch has been told.
struct Watched {
  std::vector<mvccpb::Event> events;
  std::optional<etcdserverpb::WatchResponse> canceled;
  int cancels = 0;
  bool was_split = false;  // one revision came in two responses, and neither was a fragment
  bool in_fragment = false;
};

class WatchStream {
 public:
  explicit WatchStream(etcdserverpb::Watch::Stub& stub);
  ~WatchStream();

  void Send(const etcdserverpb::WatchRequest& request);
  // The next answer to a creation or to a progress request; none after the timeout.
  std::optional<etcdserverpb::WatchResponse> NextAnswer(std::chrono::milliseconds timeout);
  // Waits until `done` is true of what the watch has been told; false after the timeout.
  bool Await(int64_t id, std::chrono::milliseconds timeout, const std::function<bool(const Watched&)>& done);
  Watched Take(int64_t id);  // a copy
  void Forget(int64_t id);

 private:
  void Read();

  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<etcdserverpb::WatchRequest, etcdserverpb::WatchResponse>> stream_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<etcdserverpb::WatchResponse> answers_;  // guarded by mutex_
  std::map<int64_t, Watched> watched_;               // guarded by mutex_
  std::thread reader_;
};

class Side {
 public:
  explicit Side(const std::string& endpoint);

  // Everything but watches.
  Outcome Call(const Step& step);
  void OpenWatches();
  void CloseWatches() { watches_.reset(); }
  WatchStream& watches() { return *watches_; }
  // Before 3.6: the known differences apply.
  bool is_old() const { return is_old_; }
  // Of its cluster, when this began.
  bool is_leader() const { return is_leader_; }

 private:
  template <typename Result, typename Method>
  Outcome Unary(Method method);

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<etcdserverpb::KV::Stub> kv_;
  std::unique_ptr<etcdserverpb::Lease::Stub> lease_;
  std::unique_ptr<etcdserverpb::Watch::Stub> watch_;
  std::unique_ptr<etcdserverpb::Maintenance::Stub> maintenance_;
  std::unique_ptr<WatchStream> watches_;
  bool is_old_ = false;
  bool is_leader_ = false;
};

}  // namespace kvd::diff
