// etcd's gRPC services on the front door: requests are checked, put to the node, and answered.
//
// Threads: handlers run on the connection's I/O thread and never block; answers come from any thread.
// Ownership: borrows the node, the executor of lists and the front door; the front door is shut down, and the
// executor stopped, before this goes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/executor.h"
#include "net/grpc_call.h"
#include "server/node/node.h"

namespace google::protobuf {
class MessageLite;
}
namespace kvd::base {
class FileSystem;
}
namespace kvd::net {
class FrontDoor;
}

namespace kvd::server {

struct ServiceOptions {
  int64_t max_txn_ops = 128;
  uint64_t max_request_bytes = 1'572'864;
  int bcrypt_cost = 10;
};

class Services {
 public:
  // `lists` makes long lists: it is busy while there are any, and may be of low priority.
  Services(Node& node, base::FileSystem& fs, base::Executor& lists, ServiceOptions options);
  ~Services();

  // Before the front door starts.
  void Register(net::FrontDoor& door);
  // Ends the streams that are open, with "server stopped".
  void Shutdown();

 private:
  void RegisterKv(net::FrontDoor& door);
  void RegisterWatch(net::FrontDoor& door);
  void RegisterLease(net::FrontDoor& door);
  void RegisterCluster(net::FrontDoor& door);
  void RegisterMaintenance(net::FrontDoor& door);
  void RegisterSnapshot(net::FrontDoor& door);
  void RegisterAuth(net::FrontDoor& door);
  template <typename Request>
  void RegisterAuthCall(net::FrontDoor& door, std::string_view name, RequestField field);
  template <typename Request>
  void RegisterPasswordCall(net::FrontDoor& door, std::string_view name, RequestField field);
  void RegisterLock(net::FrontDoor& door);
  void RegisterElection(net::FrontDoor& door);
  template <typename Request, typename Run>
  void RegisterLeaderCall(net::FrontDoor& door, std::string_view method, Run run);
  void RegisterHealth(net::FrontDoor& door);

  // KV.
  void Range(net::UnaryCall call);
  void Put(net::UnaryCall call);
  void DeleteRange(net::UnaryCall call);
  void Txn(net::UnaryCall call);
  void Compact(net::UnaryCall call);
  // Lease.
  void LeaseGrant(net::UnaryCall call);
  void LeaseRevoke(net::UnaryCall call);
  void LeaseTimeToLive(net::UnaryCall call);
  void LeaseLeases(net::UnaryCall call);
  // Cluster.
  void MemberAdd(net::UnaryCall call);
  void MemberRemove(net::UnaryCall call);
  void MemberUpdate(net::UnaryCall call);
  void MemberPromote(net::UnaryCall call);
  void MemberList(net::UnaryCall call);
  void ReplyMembers(const net::UnaryCall& call, Error error, const std::vector<Member>& members,
                    uint64_t added, uint32_t members_field);
  // Auth.
  void AuthEnable(net::UnaryCall call);
  // Maintenance.
  void Alarm(net::UnaryCall call);
  void MemberStatus(net::UnaryCall call);
  void HashKv(net::UnaryCall call);
  void Defragment(net::UnaryCall call);
  void MoveLeader(net::UnaryCall call);
  void Hash(const net::UnaryCall& call);
  void Downgrade(net::UnaryCall call);
  void BeginDowngrade(net::UnaryCall call, const std::string& version, bool enable);
  void SetDowngrade(net::UnaryCall call, DowngradeInfo info);
  void ReplyDowngrade(const net::UnaryCall& call);

  // Whether this member may serve the call now. `Call` is a UnaryCall or a StreamCall.
  template <typename Call>
  Error Admission(const Call& call, bool learner_may) const;
  // False, and the call is answered, if it may not.
  bool Admit(const net::UnaryCall& call, bool learner_may = false);
  Error AdmitStream(const net::StreamCall& call, bool learner_may = false) const;
  void ProposeAndReply(net::UnaryCall call, RequestField field, std::string_view request);

  Node& node_;
  base::FileSystem& fs_;
  base::Executor& lists_;
  const ServiceOptions options_;
  class LeaderGuard;
  std::shared_ptr<LeaderGuard> guard_;
};

// Fails a call with the table's code and text.
void Fail(const net::UnaryCall& call, Error error);
void Finish(net::StreamCall& call, Error error);
// The client wants to be served only while there is a leader.
bool RequiresLeader(const net::StreamCall& call);
// False for bytes that are no such message.
bool Parse(std::string_view bytes, google::protobuf::MessageLite* message);
// For locks and elections, whose errors carry no code of their own.
void FailRecipe(const net::UnaryCall& call, Error error);
// For a request that is no message of its type.
void FailMalformed(const net::UnaryCall& call);
// Header (field 1) and the other fields of a response.
std::string WithHeader(const ResponseHeaderFields& header, std::string body);

}  // namespace kvd::server
