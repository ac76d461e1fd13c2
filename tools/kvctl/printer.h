// What a command shows of a response, in the format of --write-out.
//
// Thread-compatible: the caller serialises the calls.
#pragma once

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "etcdserverpb/rpc.pb.h"
#include "exit.h"

namespace kvd::ctl {

struct EndpointHealth {
  std::string endpoint;
  bool healthy = false;
  absl::Duration took;
  std::string error;
};

struct EndpointStatus {
  std::string endpoint;
  etcdserverpb::StatusResponse response;
};

struct EndpointHashKv {
  std::string endpoint;
  etcdserverpb::HashKVResponse response;
};

// What a backup holds.
struct SnapshotFacts {
  uint32_t hash = 0;  // of every bucket's name, keys and values
  int64_t revision = 0;
  int64_t total_keys = 0;  // of all buckets
  uint64_t total_bytes = 0;
};

// Each function prints, or returns kExitBadFeature where the format has no form for the response.
class Printer {
 public:
  virtual ~Printer() = default;

  virtual Exit Put(const etcdserverpb::PutResponse& response) = 0;
  virtual Exit Get(const etcdserverpb::RangeResponse& response) = 0;
  virtual Exit Del(const etcdserverpb::DeleteRangeResponse& response) = 0;
  virtual Exit Txn(const etcdserverpb::TxnResponse& response) = 0;
  virtual Exit Watch(const etcdserverpb::WatchResponse& response) = 0;

  virtual Exit Grant(const etcdserverpb::LeaseGrantResponse& response) = 0;
  virtual Exit Revoke(int64_t id, const etcdserverpb::LeaseRevokeResponse& response) = 0;
  virtual Exit KeepAlive(const etcdserverpb::LeaseKeepAliveResponse& response) = 0;
  virtual Exit TimeToLive(const etcdserverpb::LeaseTimeToLiveResponse& response, bool with_keys) = 0;
  virtual Exit Leases(const etcdserverpb::LeaseLeasesResponse& response) = 0;

  virtual Exit MemberAdd(const etcdserverpb::MemberAddResponse& response) = 0;
  virtual Exit MemberRemove(uint64_t id, const etcdserverpb::MemberRemoveResponse& response) = 0;
  virtual Exit MemberUpdate(uint64_t id, const etcdserverpb::MemberUpdateResponse& response) = 0;
  virtual Exit MemberPromote(uint64_t id, const etcdserverpb::MemberPromoteResponse& response) = 0;
  virtual Exit MemberList(const etcdserverpb::MemberListResponse& response) = 0;
  virtual Exit MoveLeader(uint64_t from, uint64_t to, const etcdserverpb::MoveLeaderResponse& response) = 0;
  virtual Exit Health(const std::vector<EndpointHealth>& list) = 0;
  virtual Exit Status(const std::vector<EndpointStatus>& list) = 0;
  virtual Exit HashKv(const std::vector<EndpointHashKv>& list) = 0;
  virtual Exit Alarm(const etcdserverpb::AlarmResponse& response) = 0;
  virtual Exit Snapshot(const SnapshotFacts& facts) = 0;
};

struct PrintOptions {
  bool hex = false;          // keys and values as \xNN; IDs in hexadecimal
  bool values_only = false;  // "simple" only
};

// The names of the formats: simple, fields, json, table, protobuf. Null for any other. `out` must outlive the
// printer.
std::unique_ptr<Printer> MakePrinter(std::string_view format, const PrintOptions& options, std::ostream& out);

}  // namespace kvd::ctl
