// A discovery service for clusters that are about to start: GET /new?size=N answers a URL for --discovery,
// and the token that it names is served with as much of etcd's v2 keys protocol as a member needs that
// registers, lists and waits (ETCD: client/v2, server/etcdserver/api/v2discovery of 3.4). Tokens live under
// the keys that v3 discovery uses, so members may come to one token either way, every member of this cluster
// serves it, and it is as durable as any key.
//
// Threads: handlers run on the connection's I/O thread and do not block. Ownership: borrows the node; the
// front doors are shut down before this goes.
#pragma once

#include <memory>
#include <string>

#include "net/http_call.h"
#include "server/node/node.h"

namespace kvd::net {
class FrontDoor;
}

namespace kvd::server {

class DiscoveryEndpoints {
 public:
  // `base_url` is what the answered URLs start with, a client URL of this member: "http://host:port".
  DiscoveryEndpoints(Node& node, std::string base_url) : node_(node), base_url_(std::move(base_url)) {}

  // Before the front door starts.
  void Register(net::FrontDoor& door);

 private:
  struct Place;
  class Wait;
  using Call = std::shared_ptr<net::HttpCall>;

  void New(const Call& call);
  void Token(const Call& call);
  void Get(const Call& call, const Place& place);
  void Read(const Call& call, const Place& place);
  void AwaitChange(const Call& call, const Place& place);
  void Put(const Call& call, const Place& place);
  void Delete(const Call& call, const Place& place);

  Node& node_;
  const std::string base_url_;
};

}  // namespace kvd::server
