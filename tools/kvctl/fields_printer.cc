#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/strings.h"
#include "go_format.h"
#include "printer_formats.h"

namespace kvd::ctl {
namespace {

using etcdserverpb::ResponseHeader;
using etcdserverpb::ResponseOp;
using mvccpb::KeyValue;

// One `"Name" : value` a line.
class FieldsPrinter final : public PartialPrinter {
 public:
  FieldsPrinter(const PrintOptions& options, std::ostream& out)
      : PartialPrinter("fields"), options_(options), out_(out) {}

  Exit Put(const etcdserverpb::PutResponse& response) override {
    Header(response.header());
    if (response.has_prev_kv()) Record("Prev", response.prev_kv());
    return Success();
  }

  Exit Get(const etcdserverpb::RangeResponse& response) override {
    Header(response.header());
    for (const KeyValue& kv : response.kvs()) Record("", kv);
    Bool("More", response.more());
    Number("Count", response.count());
    return Success();
  }

  Exit Del(const etcdserverpb::DeleteRangeResponse& response) override {
    Header(response.header());
    Number("Deleted", response.deleted());
    for (const KeyValue& kv : response.prev_kvs()) Record("Prev", kv);
    return Success();
  }

  Exit Txn(const etcdserverpb::TxnResponse& response) override {
    Header(response.header());
    Bool("Succeeded", response.succeeded());
    for (const ResponseOp& op : response.responses()) PrintAnswer(*this, op);
    return Success();
  }

  Exit Watch(const etcdserverpb::WatchResponse& response) override {
    Header(response.header());
    for (const mvccpb::Event& event : response.events()) {
      Plain("Type", event.type() == mvccpb::Event::PUT ? "PUT" : "DELETE");
      if (event.has_prev_kv()) Record("Prev", event.prev_kv());
      Record("", event.kv());
    }
    return Success();
  }

  Exit Grant(const etcdserverpb::LeaseGrantResponse& response) override {
    Header(response.header());
    LeaseId("ID", response.id());
    Number("TTL", response.ttl());
    return Success();
  }

  Exit Revoke(int64_t, const etcdserverpb::LeaseRevokeResponse& response) override {
    Header(response.header());
    return Success();
  }

  Exit KeepAlive(const etcdserverpb::LeaseKeepAliveResponse& response) override {
    Header(response.header());
    LeaseId("ID", response.id());
    Number("TTL", response.ttl());
    return Success();
  }

  Exit TimeToLive(const etcdserverpb::LeaseTimeToLiveResponse& response, bool) override {
    Header(response.header());
    LeaseId("ID", response.id());
    Number("TTL", response.ttl());
    Number("GrantedTTL", response.grantedttl());
    for (const std::string& key : response.keys()) Quoted("Key", key);
    return Success();
  }

  Exit Leases(const etcdserverpb::LeaseLeasesResponse& response) override {
    Header(response.header());
    for (const auto& lease : response.leases()) LeaseId("ID", lease.id());
    return Success();
  }

  Exit MemberList(const etcdserverpb::MemberListResponse& response) override {
    Header(response.header());
    for (const etcdserverpb::Member& member : response.members()) {
      Id("ID", member.id());
      Quoted("Name", member.name());
      for (const std::string& url : member.peerurls()) Quoted("PeerURL", url);
      for (const std::string& url : member.clienturls()) Quoted("ClientURL", url);
      Bool("IsLearner", member.islearner());
      out_ << "\n";
    }
    return Success();
  }

  Exit Health(const std::vector<EndpointHealth>& list) override {
    for (const EndpointHealth& health : list) {
      Quoted("Endpoint", health.endpoint);
      Bool("Health", health.healthy);
      Plain("Took", GoDuration(health.took));
      Plain("Error", health.error);
      out_ << "\n";
    }
    return Success();
  }

  Exit Status(const std::vector<EndpointStatus>& list) override {
    for (const EndpointStatus& entry : list) {
      const etcdserverpb::StatusResponse& status = entry.response;
      Header(status.header());
      Quoted("Version", status.version());
      Quoted("StorageVersion", status.storageversion());
      Number("DBSize", status.dbsize());
      Number("DBSizeInUse", status.dbsizeinuse());
      Number("DBSizeQuota", status.dbsizequota());
      Number("Leader", status.leader());
      Bool("IsLearner", status.islearner());
      Number("RaftIndex", status.raftindex());
      Number("RaftTerm", status.raftterm());
      Number("RaftAppliedIndex", status.raftappliedindex());
      Plain("Errors", base::StrCat("[", absl::StrJoin(status.errors(), " "), "]"));
      Quoted("Endpoint", entry.endpoint);
      Quoted("DowngradeTargetVersion", status.downgradeinfo().targetversion());
      Bool("DowngradeEnabled", status.downgradeinfo().enabled());
      out_ << "\n";
    }
    return Success();
  }

  Exit HashKv(const std::vector<EndpointHashKv>& list) override {
    for (const EndpointHashKv& entry : list) {
      Header(entry.response.header());
      Quoted("Endpoint", entry.endpoint);
      Number("Hash", entry.response.hash());
      Number("HashRevision", entry.response.hash_revision());
      out_ << "\n";
    }
    return Success();
  }

  Exit Alarm(const etcdserverpb::AlarmResponse& response) override {
    Header(response.header());
    for (const auto& alarm : response.alarms()) {
      Id("MemberID", alarm.memberid());
      Plain("AlarmType", etcdserverpb::AlarmType_Name(alarm.alarm()));
      out_ << "\n";
    }
    return Success();
  }

  Exit Snapshot(const SnapshotFacts& facts) override {
    Number("Hash", facts.hash);
    Number("Revision", facts.revision);
    Number("Keys", facts.total_keys);
    Number("Size", facts.total_bytes);
    return Success();
  }

 private:
  void Plain(std::string_view name, std::string_view value) {
    out_ << '"' << name << "\" : " << value << "\n";
  }
  void Quoted(std::string_view name, std::string_view value) { Plain(name, Quote(value)); }
  void Bool(std::string_view name, bool value) { Plain(name, value ? "true" : "false"); }
  template <typename T>
  void Number(std::string_view name, T value) {
    Plain(name, base::StrCat(value));
  }
  void Id(std::string_view name, uint64_t id) {
    Plain(name, options_.hex ? base::StrCat(absl::Hex(id)) : base::StrCat(id));
  }

  void LeaseId(std::string_view name, int64_t id) {
    Plain(name, options_.hex ? absl::StrFormat("%016x", id) : base::StrCat(id));
  }

  void Header(const ResponseHeader& header) {
    Id("ClusterID", header.cluster_id());
    Id("MemberID", header.member_id());
    // Only what reads or writes keys has a revision.
    if (header.revision() > 0) Number("Revision", header.revision());
    Number("RaftTerm", header.raft_term());
  }

  void Record(std::string_view prefix, const KeyValue& kv) {
    Quoted(base::StrCat(prefix, "Key"), kv.key());
    Number(base::StrCat(prefix, "CreateRevision"), kv.create_revision());
    Number(base::StrCat(prefix, "ModRevision"), kv.mod_revision());
    Number(base::StrCat(prefix, "Version"), kv.version());
    Quoted(base::StrCat(prefix, "Value"), kv.value());
    LeaseId(base::StrCat(prefix, "Lease"), kv.lease());
  }

  const PrintOptions options_;
  std::ostream& out_;
};

}  // namespace

std::unique_ptr<Printer> MakeFieldsPrinter(const PrintOptions& options, std::ostream& out) {
  return std::make_unique<FieldsPrinter>(options, out);
}

}  // namespace kvd::ctl
