// The printers of each format and the tables that more than one of them shows.
#pragma once

#include <memory>

#include "printer.h"
#include "table.h"

namespace kvd::ctl {

std::unique_ptr<Printer> MakeSimplePrinter(const PrintOptions& options, std::ostream& out);
std::unique_ptr<Printer> MakeFieldsPrinter(const PrintOptions& options, std::ostream& out);
std::unique_ptr<Printer> MakeJsonPrinter(const PrintOptions& options, std::ostream& out);
std::unique_ptr<Printer> MakeTablePrinter(std::ostream& out);
std::unique_ptr<Printer> MakeProtobufPrinter(std::ostream& out);

Row MemberHeader();
std::vector<Row> MemberRows(const etcdserverpb::MemberListResponse& response);
Row SnapshotHeader();
Row SnapshotRow(const SnapshotFacts& facts);
Row HealthHeader();
std::vector<Row> HealthRows(const std::vector<EndpointHealth>& list);
Row StatusHeader();
std::vector<Row> StatusRows(const std::vector<EndpointStatus>& list);
Row HashKvHeader();
std::vector<Row> HashKvRows(const std::vector<EndpointHashKv>& list);

// An answer within a transaction's, as the command of its own would show it.
void PrintAnswer(Printer& printer, const etcdserverpb::ResponseOp& op);

// A printer of a format that knows only some responses derives from this.
class PartialPrinter : public Printer {
 public:
  explicit PartialPrinter(std::string_view format) : format_(format) {}

  Exit Put(const etcdserverpb::PutResponse&) override { return Unsupported(); }
  Exit Get(const etcdserverpb::RangeResponse&) override { return Unsupported(); }
  Exit Del(const etcdserverpb::DeleteRangeResponse&) override { return Unsupported(); }
  Exit Txn(const etcdserverpb::TxnResponse&) override { return Unsupported(); }
  Exit Watch(const etcdserverpb::WatchResponse&) override { return Unsupported(); }
  Exit Grant(const etcdserverpb::LeaseGrantResponse&) override { return Unsupported(); }
  Exit Revoke(int64_t, const etcdserverpb::LeaseRevokeResponse&) override { return Unsupported(); }
  Exit KeepAlive(const etcdserverpb::LeaseKeepAliveResponse&) override { return Unsupported(); }
  Exit TimeToLive(const etcdserverpb::LeaseTimeToLiveResponse&, bool) override { return Unsupported(); }
  Exit Leases(const etcdserverpb::LeaseLeasesResponse&) override { return Unsupported(); }
  Exit MemberAdd(const etcdserverpb::MemberAddResponse&) override { return Unsupported(); }
  Exit MemberRemove(uint64_t, const etcdserverpb::MemberRemoveResponse&) override { return Unsupported(); }
  Exit MemberUpdate(uint64_t, const etcdserverpb::MemberUpdateResponse&) override { return Unsupported(); }
  Exit MemberPromote(uint64_t, const etcdserverpb::MemberPromoteResponse&) override { return Unsupported(); }
  Exit MemberList(const etcdserverpb::MemberListResponse&) override { return Unsupported(); }
  Exit MoveLeader(uint64_t, uint64_t, const etcdserverpb::MoveLeaderResponse&) override {
    return Unsupported();
  }
  Exit Health(const std::vector<EndpointHealth>&) override { return Unsupported(); }
  Exit Status(const std::vector<EndpointStatus>&) override { return Unsupported(); }
  Exit HashKv(const std::vector<EndpointHashKv>&) override { return Unsupported(); }
  Exit Alarm(const etcdserverpb::AlarmResponse&) override { return Unsupported(); }
  Exit Snapshot(const SnapshotFacts&) override { return Unsupported(); }

 private:
  Exit Unsupported() const { return Fail(kExitBadFeature, format_ + " not supported as output format"); }

  std::string format_;
};

}  // namespace kvd::ctl
