#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/strings.h"
#include "go_format.h"
#include "printer_formats.h"

namespace kvd::ctl {
namespace {

using etcdserverpb::ResponseOp;
using mvccpb::KeyValue;

class SimplePrinter final : public Printer {
 public:
  SimplePrinter(const PrintOptions& options, std::ostream& out) : options_(options), out_(out) {}

  Exit Put(const etcdserverpb::PutResponse& response) override {
    out_ << "OK\n";
    if (response.has_prev_kv()) Record(response.prev_kv());
    return Success();
  }

  Exit Get(const etcdserverpb::RangeResponse& response) override {
    for (const KeyValue& kv : response.kvs()) Record(kv);
    return Success();
  }

  Exit Del(const etcdserverpb::DeleteRangeResponse& response) override {
    out_ << response.deleted() << "\n";
    for (const KeyValue& kv : response.prev_kvs()) Record(kv);
    return Success();
  }

  Exit Txn(const etcdserverpb::TxnResponse& response) override {
    out_ << (response.succeeded() ? "SUCCESS\n" : "FAILURE\n");
    for (const ResponseOp& op : response.responses()) {
      out_ << "\n";
      PrintAnswer(*this, op);
    }
    return Success();
  }

  Exit Watch(const etcdserverpb::WatchResponse& response) override {
    for (const mvccpb::Event& event : response.events()) {
      out_ << (event.type() == mvccpb::Event::PUT ? "PUT\n" : "DELETE\n");
      if (event.has_prev_kv()) Record(event.prev_kv());
      Record(event.kv());
    }
    return Success();
  }

  Exit Grant(const etcdserverpb::LeaseGrantResponse& response) override {
    out_ << absl::StrFormat("lease %016x granted with TTL(%ds)\n", response.id(), response.ttl());
    return Success();
  }

  Exit Revoke(int64_t id, const etcdserverpb::LeaseRevokeResponse&) override {
    out_ << absl::StrFormat("lease %016x revoked\n", id);
    return Success();
  }

  Exit KeepAlive(const etcdserverpb::LeaseKeepAliveResponse& response) override {
    out_ << absl::StrFormat("lease %016x keepalived with TTL(%d)\n", response.id(), response.ttl());
    return Success();
  }

  Exit TimeToLive(const etcdserverpb::LeaseTimeToLiveResponse& response, bool with_keys) override {
    if (response.grantedttl() == 0 && response.ttl() == -1) {
      out_ << absl::StrFormat("lease %016x already expired\n", response.id());
      return Success();
    }
    out_ << absl::StrFormat("lease %016x granted with TTL(%ds), remaining(%ds)", response.id(),
                            response.grantedttl(), response.ttl());
    if (with_keys) out_ << ", attached keys([" << absl::StrJoin(response.keys(), " ") << "])";
    out_ << "\n";
    return Success();
  }

  Exit Leases(const etcdserverpb::LeaseLeasesResponse& response) override {
    out_ << "found " << response.leases_size() << " leases\n";
    for (const auto& lease : response.leases()) out_ << absl::StrFormat("%016x\n", lease.id());
    return Success();
  }

  Exit MemberAdd(const etcdserverpb::MemberAddResponse& response) override {
    return Change(response.member().id(), response.member().islearner() ? "added as learner to" : "added to",
                  response.header());
  }
  Exit MemberRemove(uint64_t id, const etcdserverpb::MemberRemoveResponse& response) override {
    return Change(id, "removed from", response.header());
  }
  Exit MemberUpdate(uint64_t id, const etcdserverpb::MemberUpdateResponse& response) override {
    return Change(id, "updated in", response.header());
  }
  Exit MemberPromote(uint64_t id, const etcdserverpb::MemberPromoteResponse& response) override {
    return Change(id, "promoted in", response.header());
  }
  Exit MemberList(const etcdserverpb::MemberListResponse& response) override {
    return Rows(MemberRows(response));
  }
  Exit MoveLeader(uint64_t from, uint64_t to, const etcdserverpb::MoveLeaderResponse&) override {
    out_ << absl::StrFormat("Leadership transferred from %x to %x\n", from, to);
    return Success();
  }
  Exit Snapshot(const SnapshotFacts& facts) override { return Rows({SnapshotRow(facts)}); }

  // The unhealthy ones go to stderr, which is the command's part.
  Exit Health(const std::vector<EndpointHealth>& list) override {
    for (const EndpointHealth& health : list) {
      if (!health.error.empty()) continue;
      out_ << health.endpoint
           << " is healthy: successfully committed proposal: took = " << GoDuration(health.took) << "\n";
    }
    return Success();
  }

  Exit Status(const std::vector<EndpointStatus>& list) override { return Rows(StatusRows(list)); }
  Exit HashKv(const std::vector<EndpointHashKv>& list) override { return Rows(HashKvRows(list)); }

  Exit Alarm(const etcdserverpb::AlarmResponse& response) override {
    for (const auto& alarm : response.alarms()) {
      std::string text;
      if (alarm.memberid() != 0) base::StrAppend(&text, "memberID:", alarm.memberid(), " ");
      if (alarm.alarm() != etcdserverpb::NONE) {
        base::StrAppend(&text, "alarm:", etcdserverpb::AlarmType_Name(alarm.alarm()), " ");
      }
      out_ << text << "\n";
    }
    return Success();
  }

 private:
  Exit Change(uint64_t id, std::string_view what, const etcdserverpb::ResponseHeader& header) {
    out_ << absl::StrFormat("Member %16x ", id) << what
         << absl::StrFormat(" cluster %16x\n", header.cluster_id());
    return Success();
  }

  void Record(const KeyValue& kv) {
    if (!options_.values_only) out_ << (options_.hex ? HexBytes(kv.key()) : kv.key()) << "\n";
    out_ << (options_.hex ? HexBytes(kv.value()) : kv.value()) << "\n";
  }

  Exit Rows(const std::vector<Row>& rows) {
    for (const Row& row : rows) out_ << absl::StrJoin(row, ", ") << "\n";
    return Success();
  }

  const PrintOptions options_;
  std::ostream& out_;
};

}  // namespace

std::unique_ptr<Printer> MakeSimplePrinter(const PrintOptions& options, std::ostream& out) {
  return std::make_unique<SimplePrinter>(options, out);
}

}  // namespace kvd::ctl
