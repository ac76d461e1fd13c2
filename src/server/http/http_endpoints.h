// What a member answers over plain HTTP: /health, /livez, /readyz and /version (ETCD:
// server/etcdserver/api/etcdhttp, v3.7).
//
// Threads: handlers run on the connection's I/O thread and do not block; what needs a quorum is answered
// later. Ownership: borrows the node; the front doors are shut down before this goes.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "net/http_call.h"
#include "server/node/node.h"

namespace kvd::net {
class FrontDoor;
}

namespace kvd::server {

class HttpEndpoints {
 public:
  explicit HttpEndpoints(Node& node) : node_(node) {}

  // Everything, for a client URL. Before the front door starts.
  void Register(net::FrontDoor& door);
  // What --listen-metrics-urls serves.
  void RegisterHealth(net::FrontDoor& door);

 private:
  // One check of /livez or /readyz; the callback gets "" or what is wrong.
  using Verdict = absl::AnyInvocable<void(std::string failure)>;
  struct Check {
    std::string name;
    void (HttpEndpoints::*run)(Verdict);
  };
  struct Round;

  void Health(std::shared_ptr<net::HttpCall> call);
  void RegisterChecks(net::FrontDoor& door, const std::string& path, std::vector<Check> checks);
  void RunChecks(const std::shared_ptr<net::HttpCall>& call, const std::string& path,
                 const std::vector<Check>& checks);

  void CheckCorruption(Verdict done);
  void CheckSerializable(Verdict done);
  void CheckLinearizable(Verdict done);
  void CheckNonLearner(Verdict done);
  void CheckLogSync(Verdict done);

  Node& node_;
};

}  // namespace kvd::server
