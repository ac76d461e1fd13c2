// What locks and elections are made of: transactions, reads and watches, one after the other, for one call.
//
// Threads: a recipe lives on its call's I/O thread; continuations come there. It blocks nobody: who waits is
// a watch of the hub. Ownership: shared; a continuation under way keeps it. Borrows the node.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "etcdserverpb/rpc.pb.h"
#include "server/node/node.h"

namespace kvd::server {

class Recipe : public std::enable_shared_from_this<Recipe> {
 public:
  virtual ~Recipe() = default;

 protected:
  Recipe(Node& node, base::Executor& executor) : node_(node), executor_(executor) {}

  Node& node() { return node_; }
  base::Executor& executor() { return executor_; }

  // Through the log. The response's header has its revision.
  void Txn(const etcdserverpb::TxnRequest& request,
           absl::AnyInvocable<void(Error, etcdserverpb::TxnResponse)> done);
  // Linearizable.
  void Get(const etcdserverpb::RangeRequest& request,
           absl::AnyInvocable<void(Error, etcdserverpb::RangeResponse)> done);
  // The lease that is given, or a new one if it is 0.
  void Session(int64_t lease, absl::AnyInvocable<void(Error, int64_t lease)> done);
  // One watch at a time: the next ends the one before. Responses to its creation are not told. An error ends
  // it.
  void Watch(const etcdserverpb::WatchCreateRequest& request,
             std::function<void(Error, const etcdserverpb::WatchResponse&)> told);
  void StopWatch();
  // Until no key under `prefix` is left that was created at or before `revision`.
  void AwaitDeletes(const std::string& prefix, int64_t revision, absl::AnyInvocable<void(Error)> done);

  etcdserverpb::ResponseHeader HeaderAt(int64_t revision);

 private:
  class Sink;

  Node& node_;
  base::Executor& executor_;
  std::unique_ptr<WatchStream> watch_;
  uint64_t watch_number_ = 0;  // tells late responses of an ended watch
};

// [prefix, prefix's end): everything that begins with it.
template <typename Request>
void SetPrefix(Request* request, const std::string& prefix) {
  std::string end = prefix;
  end.back() = static_cast<char>(end.back() + 1);  // a prefix here ends in "/"
  request->set_key(prefix);
  request->set_range_end(end);
}

// The oldest key under the prefix: who holds the lock, who leads.
etcdserverpb::RangeRequest FirstCreated(const std::string& prefix);
// "create_revision of key equals".
void AddCreatedAt(etcdserverpb::TxnRequest* txn, const std::string& key, int64_t revision);

}  // namespace kvd::server
