#include <google/protobuf/message.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_join.h"
#include "base/strings.h"
#include "go_format.h"
#include "go_json.h"
#include "printer_formats.h"

namespace kvd::ctl {
namespace {

using etcdserverpb::Member;
using etcdserverpb::ResponseHeader;

std::string Bool(bool value) {
  return value ? "true" : "false";
}

// An object whose first fields are the header's.
std::string WithHeader(const ResponseHeader& header, std::string_view rest) {
  const std::string fields = GoJsonFields(header);
  return base::StrCat("{", fields, fields.empty() ? "" : ",", rest, "}");
}

// IDs as strings of hexadecimal digits, before the fields that stay as they are.
std::string HexHeader(ResponseHeader header) {
  const std::string ids = base::StrCat("\"cluster_id\":\"", absl::Hex(header.cluster_id()),
                                       "\",\"member_id\":\"", absl::Hex(header.member_id()), "\"");
  header.clear_cluster_id();
  header.clear_member_id();
  const std::string rest = GoJsonFields(header);
  return base::StrCat("{", ids, rest.empty() ? "" : ",", rest, "}");
}

std::string HexMember(Member member) {
  const std::string id = base::StrCat("\"ID\":\"", absl::Hex(member.id()), "\"");
  member.clear_id();
  const std::string rest = GoJsonFields(member);
  return base::StrCat("{", id, rest.empty() ? "" : ",", rest, "}");
}

class JsonPrinter final : public Printer {
 public:
  JsonPrinter(const PrintOptions& options, std::ostream& out) : options_(options), out_(out) {}

  Exit Put(const etcdserverpb::PutResponse& response) override { return Whole(response); }
  Exit Get(const etcdserverpb::RangeResponse& response) override { return Whole(response); }
  Exit Del(const etcdserverpb::DeleteRangeResponse& response) override { return Whole(response); }
  Exit Txn(const etcdserverpb::TxnResponse& response) override { return Whole(response); }
  Exit Revoke(int64_t, const etcdserverpb::LeaseRevokeResponse& response) override { return Whole(response); }
  Exit Alarm(const etcdserverpb::AlarmResponse& response) override { return Whole(response); }

  Exit Watch(const etcdserverpb::WatchResponse& response) override {
    const std::string events =
        absl::StrJoin(response.events(), ",",
                      [](std::string* to, const mvccpb::Event& event) { to->append(GoJson(event)); });
    return Line(base::StrCat("{\"Header\":", GoJson(response.header()), ",\"Events\":[", events,
                             "],\"CompactRevision\":", response.compact_revision(), ",\"Canceled\":",
                             Bool(response.canceled()), ",\"Created\":", Bool(response.created()), "}"));
  }

  Exit Grant(const etcdserverpb::LeaseGrantResponse& response) override {
    return Line(
        WithHeader(response.header(), base::StrCat("\"ID\":", response.id(), ",\"TTL\":", response.ttl(),
                                                   ",\"Error\":", JsonString(response.error()))));
  }

  Exit KeepAlive(const etcdserverpb::LeaseKeepAliveResponse& response) override {
    return Line(
        WithHeader(response.header(), base::StrCat("\"ID\":", response.id(), ",\"TTL\":", response.ttl())));
  }

  Exit TimeToLive(const etcdserverpb::LeaseTimeToLiveResponse& response, bool) override {
    std::string keys = "null";
    if (response.keys_size() > 0) {
      keys = base::StrCat("[",
                          absl::StrJoin(response.keys(), ",",
                                        [](std::string* to, const std::string& key) {
                                          base::StrAppend(to, "\"", absl::Base64Escape(key), "\"");
                                        }),
                          "]");
    }
    return Line(WithHeader(response.header(),
                           base::StrCat("\"id\":", response.id(), ",\"ttl\":", response.ttl(),
                                        ",\"granted-ttl\":", response.grantedttl(), ",\"keys\":", keys)));
  }

  Exit Leases(const etcdserverpb::LeaseLeasesResponse& response) override {
    const std::string leases = absl::StrJoin(response.leases(), ",", [](std::string* to, const auto& lease) {
      base::StrAppend(to, "{\"id\":", lease.id(), "}");
    });
    return Line(WithHeader(response.header(), base::StrCat("\"leases\":[", leases, "]")));
  }

  Exit MemberAdd(const etcdserverpb::MemberAddResponse& response) override {
    if (!options_.hex) return Whole(response);
    return Line(base::StrCat("{\"header\":", HexHeader(response.header()),
                             ",\"member\":", HexMember(response.member()), ",", HexMembers(response), "}"));
  }
  Exit MemberRemove(uint64_t, const etcdserverpb::MemberRemoveResponse& response) override {
    return Members(response);
  }
  Exit MemberUpdate(uint64_t, const etcdserverpb::MemberUpdateResponse& response) override {
    return Members(response);
  }
  Exit MemberPromote(uint64_t, const etcdserverpb::MemberPromoteResponse& response) override {
    return Members(response);
  }
  Exit MemberList(const etcdserverpb::MemberListResponse& response) override { return Members(response); }
  Exit MoveLeader(uint64_t, uint64_t, const etcdserverpb::MoveLeaderResponse& response) override {
    return Whole(response);
  }
  Exit Snapshot(const SnapshotFacts& facts) override {
    return Line(base::StrCat("{\"hash\":", facts.hash, ",\"revision\":", facts.revision,
                             ",\"totalKey\":", facts.total_keys, ",\"totalSize\":", facts.total_bytes, "}"));
  }

  Exit Health(const std::vector<EndpointHealth>& list) override {
    return Array(list, [](const EndpointHealth& health) {
      const std::string error =
          health.error.empty() ? "" : base::StrCat(",\"error\":", JsonString(health.error));
      return base::StrCat("{\"endpoint\":", JsonString(health.endpoint), ",\"health\":", Bool(health.healthy),
                          ",\"took\":", JsonString(GoDuration(health.took)), error, "}");
    });
  }

  Exit Status(const std::vector<EndpointStatus>& list) override {
    return Array(list, [](const EndpointStatus& entry) {
      return base::StrCat("{\"Endpoint\":", JsonString(entry.endpoint),
                          ",\"Status\":", GoJson(entry.response), "}");
    });
  }

  Exit HashKv(const std::vector<EndpointHashKv>& list) override {
    return Array(list, [](const EndpointHashKv& entry) {
      return base::StrCat("{\"Endpoint\":", JsonString(entry.endpoint),
                          ",\"HashKV\":", GoJson(entry.response), "}");
    });
  }

 private:
  template <typename Response>
  static std::string HexMembers(const Response& response) {
    return base::StrCat(
        "\"members\":[",
        absl::StrJoin(response.members(), ",",
                      [](std::string* to, const Member& member) { to->append(HexMember(member)); }),
        "]");
  }

  template <typename Response>
  Exit Members(const Response& response) {
    if (!options_.hex) return Whole(response);
    return Line(base::StrCat("{\"header\":", HexHeader(response.header()), ",", HexMembers(response), "}"));
  }

  Exit Line(std::string_view json) {
    out_ << json << "\n";
    return Success();
  }

  Exit Whole(const google::protobuf::Message& message) { return Line(GoJson(message)); }

  template <typename T, typename F>
  Exit Array(const std::vector<T>& list, F format) {
    return Line(base::StrCat(
        "[", absl::StrJoin(list, ",", [&](std::string* to, const T& item) { to->append(format(item)); }),
        "]"));
  }

  const PrintOptions options_;
  std::ostream& out_;
};

}  // namespace

std::unique_ptr<Printer> MakeJsonPrinter(const PrintOptions& options, std::ostream& out) {
  return std::make_unique<JsonPrinter>(options, out);
}

}  // namespace kvd::ctl
