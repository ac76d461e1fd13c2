#include "printer.h"

#include "absl/strings/str_join.h"
#include "base/strings.h"
#include "go_format.h"
#include "printer_formats.h"

namespace kvd::ctl {
namespace {

std::string Hex(uint64_t id) {
  return base::StrCat(absl::Hex(id));
}

std::string Bool(bool value) {
  return value ? "true" : "false";
}

std::string PercentNotInUse(const etcdserverpb::StatusResponse& status) {
  const int64_t size = status.dbsize();
  return base::StrCat(size == 0 ? 0 : 100 - status.dbsizeinuse() * 100 / size, "%");
}

}  // namespace

std::unique_ptr<Printer> MakePrinter(std::string_view format, const PrintOptions& options,
                                     std::ostream& out) {
  if (format == "simple") return MakeSimplePrinter(options, out);
  if (format == "fields") return MakeFieldsPrinter(options, out);
  if (format == "json") return MakeJsonPrinter(options, out);
  if (format == "table") return MakeTablePrinter(out);
  if (format == "protobuf") return MakeProtobufPrinter(out);
  return nullptr;
}

void PrintAnswer(Printer& printer, const etcdserverpb::ResponseOp& op) {
  using etcdserverpb::ResponseOp;
  switch (op.response_case()) {
    case ResponseOp::kResponseRange:
      (void)printer.Get(op.response_range());
      break;
    case ResponseOp::kResponsePut:
      (void)printer.Put(op.response_put());
      break;
    case ResponseOp::kResponseDeleteRange:
      (void)printer.Del(op.response_delete_range());
      break;
    case ResponseOp::kResponseTxn:
      (void)printer.Txn(op.response_txn());
      break;
    case ResponseOp::RESPONSE_NOT_SET:
      break;
  }
}

Row MemberHeader() {
  return {"ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"};
}

std::vector<Row> MemberRows(const etcdserverpb::MemberListResponse& response) {
  std::vector<Row> rows;
  for (const etcdserverpb::Member& member : response.members()) {
    rows.push_back({Hex(member.id()), member.name().empty() ? "unstarted" : "started", member.name(),
                    absl::StrJoin(member.peerurls(), ","), absl::StrJoin(member.clienturls(), ","),
                    Bool(member.islearner())});
  }
  return rows;
}

Row SnapshotHeader() {
  return {"hash", "revision", "total keys", "total size"};
}

Row SnapshotRow(const SnapshotFacts& facts) {
  return {base::StrCat(absl::Hex(facts.hash)), base::StrCat(facts.revision), base::StrCat(facts.total_keys),
          HumanBytes(facts.total_bytes)};
}

Row HealthHeader() {
  return {"endpoint", "health", "took", "error"};
}

std::vector<Row> HealthRows(const std::vector<EndpointHealth>& list) {
  std::vector<Row> rows;
  rows.reserve(list.size());
  for (const EndpointHealth& health : list) {
    rows.push_back({health.endpoint, Bool(health.healthy), GoDuration(health.took), health.error});
  }
  return rows;
}

Row StatusHeader() {
  return {"endpoint",
          "ID",
          "version",
          "storage version",
          "db size",
          "in use",
          "percentage not in use",
          "quota",
          "is leader",
          "is learner",
          "raft term",
          "raft index",
          "raft applied index",
          "errors",
          "downgrade target version",
          "downgrade enabled"};
}

std::vector<Row> StatusRows(const std::vector<EndpointStatus>& list) {
  std::vector<Row> rows;
  rows.reserve(list.size());
  for (const EndpointStatus& entry : list) {
    const etcdserverpb::StatusResponse& status = entry.response;
    rows.push_back({entry.endpoint, Hex(status.header().member_id()), status.version(),
                    status.storageversion(), HumanBytes(static_cast<uint64_t>(status.dbsize())),
                    HumanBytes(static_cast<uint64_t>(status.dbsizeinuse())), PercentNotInUse(status),
                    HumanBytes(static_cast<uint64_t>(status.dbsizequota())),
                    Bool(status.leader() == status.header().member_id()), Bool(status.islearner()),
                    base::StrCat(status.raftterm()), base::StrCat(status.raftindex()),
                    base::StrCat(status.raftappliedindex()), absl::StrJoin(status.errors(), ", "),
                    status.downgradeinfo().targetversion(), Bool(status.downgradeinfo().enabled())});
  }
  return rows;
}

Row HashKvHeader() {
  return {"endpoint", "hash", "hash_revision"};
}

std::vector<Row> HashKvRows(const std::vector<EndpointHashKv>& list) {
  std::vector<Row> rows;
  rows.reserve(list.size());
  for (const EndpointHashKv& entry : list) {
    rows.push_back(
        {entry.endpoint, base::StrCat(entry.response.hash()), base::StrCat(entry.response.hash_revision())});
  }
  return rows;
}

}  // namespace kvd::ctl
