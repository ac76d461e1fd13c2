// The formats that know only some responses: table and protobuf.
#include "printer_formats.h"

namespace kvd::ctl {
namespace {

class TablePrinter final : public PartialPrinter {
 public:
  explicit TablePrinter(std::ostream& out) : PartialPrinter("table"), out_(out) {}

  Exit MemberList(const etcdserverpb::MemberListResponse& response) override {
    return Table(MemberHeader(), MemberRows(response));
  }
  Exit Snapshot(const SnapshotFacts& facts) override { return Table(SnapshotHeader(), {SnapshotRow(facts)}); }
  Exit Health(const std::vector<EndpointHealth>& list) override {
    return Table(HealthHeader(), HealthRows(list));
  }
  Exit Status(const std::vector<EndpointStatus>& list) override {
    return Table(StatusHeader(), StatusRows(list));
  }
  Exit HashKv(const std::vector<EndpointHashKv>& list) override {
    return Table(HashKvHeader(), HashKvRows(list));
  }

 private:
  Exit Table(const Row& header, const std::vector<Row>& rows) {
    out_ << RenderTable(header, rows);
    return Success();
  }

  std::ostream& out_;
};

// The message's own bytes, with nothing around them.
class ProtobufPrinter final : public PartialPrinter {
 public:
  explicit ProtobufPrinter(std::ostream& out) : PartialPrinter("protobuf"), out_(out) {}

  Exit Put(const etcdserverpb::PutResponse& response) override { return Bytes(response); }
  Exit Get(const etcdserverpb::RangeResponse& response) override { return Bytes(response); }
  Exit Del(const etcdserverpb::DeleteRangeResponse& response) override { return Bytes(response); }
  Exit Txn(const etcdserverpb::TxnResponse& response) override { return Bytes(response); }
  Exit Revoke(int64_t, const etcdserverpb::LeaseRevokeResponse& response) override { return Bytes(response); }
  Exit MemberAdd(const etcdserverpb::MemberAddResponse& response) override { return Bytes(response); }
  Exit MemberRemove(uint64_t, const etcdserverpb::MemberRemoveResponse& response) override {
    return Bytes(response);
  }
  Exit MemberUpdate(uint64_t, const etcdserverpb::MemberUpdateResponse& response) override {
    return Bytes(response);
  }
  Exit MemberPromote(uint64_t, const etcdserverpb::MemberPromoteResponse& response) override {
    return Bytes(response);
  }
  Exit MemberList(const etcdserverpb::MemberListResponse& response) override { return Bytes(response); }
  Exit MoveLeader(uint64_t, uint64_t, const etcdserverpb::MoveLeaderResponse& response) override {
    return Bytes(response);
  }
  Exit Alarm(const etcdserverpb::AlarmResponse& response) override { return Bytes(response); }
  Exit Watch(const etcdserverpb::WatchResponse& response) override {
    for (const mvccpb::Event& event : response.events()) (void)Bytes(event);
    return Success();
  }

 private:
  template <typename Message>
  Exit Bytes(const Message& message) {
    message.SerializeToOstream(&out_);
    return Success();
  }

  std::ostream& out_;
};

}  // namespace

std::unique_ptr<Printer> MakeTablePrinter(std::ostream& out) {
  return std::make_unique<TablePrinter>(out);
}

std::unique_ptr<Printer> MakeProtobufPrinter(std::ostream& out) {
  return std::make_unique<ProtobufPrinter>(out);
}

}  // namespace kvd::ctl
