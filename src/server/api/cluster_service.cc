// etcdserverpb.Cluster.

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/strings.h"
#include "etcdserverpb/rpc.pb.h"
#include "net/grpc_server.h"
#include "server/api/services.h"
#include "server/config/url.h"

namespace kvd::server {
namespace {

// The request's peer URLs, sorted; false if they are not usable ones.
template <typename Strings>
bool PeerUrlsOf(const Strings& strings, std::vector<std::string>* out) {
  absl::StatusOr<Urls> urls = ParseUrls(std::vector<std::string>(strings.begin(), strings.end()));
  if (!urls.ok()) return false;
  *out = ToStrings(*urls);
  return true;
}

std::string EncodeMember(const Member& member) {
  etcdserverpb::Member out;
  out.set_id(member.id);
  out.set_name(member.name);
  for (const std::string& url : member.peer_urls) out.add_peerurls(url);
  for (const std::string& url : member.client_urls) out.add_clienturls(url);
  out.set_islearner(member.is_learner);
  return out.SerializeAsString();
}

}  // namespace

void Services::RegisterCluster(net::FrontDoor& door) {
  door.RegisterUnary("/etcdserverpb.Cluster/MemberAdd",
                     [this](net::UnaryCall call) { MemberAdd(std::move(call)); });
  door.RegisterUnary("/etcdserverpb.Cluster/MemberRemove",
                     [this](net::UnaryCall call) { MemberRemove(std::move(call)); });
  door.RegisterUnary("/etcdserverpb.Cluster/MemberUpdate",
                     [this](net::UnaryCall call) { MemberUpdate(std::move(call)); });
  door.RegisterUnary("/etcdserverpb.Cluster/MemberList",
                     [this](net::UnaryCall call) { MemberList(std::move(call)); });
  door.RegisterUnary("/etcdserverpb.Cluster/MemberPromote",
                     [this](net::UnaryCall call) { MemberPromote(std::move(call)); });
}

// Cluster headers carry no revision. MemberAdd has the new member in field 2 and all of them in field 3; the
// other responses have them in field 2.
void Services::ReplyMembers(const net::UnaryCall& call, Error error, const std::vector<Member>& members,
                            uint64_t added, uint32_t members_field) {
  if (error != Error::kOk) return Fail(call, error);
  std::string body;
  for (const Member& member : members) {
    if (added != 0 && member.id == added) AppendBytesField(body, 2, EncodeMember(member));
  }
  for (const Member& member : members) AppendBytesField(body, members_field, EncodeMember(member));
  call.Reply(WithHeader(node_.Header(0), std::move(body)));
}

void Services::MemberList(net::UnaryCall call) {
  etcdserverpb::MemberListRequest request;
  if (!Parse(call.request(), &request)) return FailMalformed(call);
  if (!Admit(call)) return;
  if (!request.linearizable()) {
    return ReplyMembers(call, Error::kOk, node_.cluster().View()->Members(), 0, 2);
  }
  node_.LinearizableRead(
      [this, call](Error error) { ReplyMembers(call, error, node_.cluster().View()->Members(), 0, 2); });
}

void Services::MemberAdd(net::UnaryCall call) {
  etcdserverpb::MemberAddRequest request;
  if (!Parse(call.request(), &request)) return FailMalformed(call);
  if (!Admit(call)) return;
  Member member;
  if (!PeerUrlsOf(request.peerurls(), &member.peer_urls)) return Fail(call, Error::kMemberBadUrls);
  int64_t now_s = std::chrono::duration_cast<std::chrono::seconds>(node_.background().clock().Wall()).count();
  // Two members with the same URLs in one second would be one; the later takes the next second's ID.
  std::shared_ptr<const ClusterView> view = node_.cluster().View();
  do {
    member.id = RuntimeMemberId(member.peer_urls, now_s++);
  } while (view->removed.contains(member.id) || view->members.contains(member.id));
  member.is_learner = request.islearner();
  uint64_t id = member.id;
  node_.AddMember(member, [this, call, id](Error error, std::vector<Member> members) {
    ReplyMembers(call, error, members, id, 3);
  });
}

void Services::MemberRemove(net::UnaryCall call) {
  etcdserverpb::MemberRemoveRequest request;
  if (!Parse(call.request(), &request)) return FailMalformed(call);
  if (!Admit(call)) return;
  node_.RemoveMember(request.id(), [this, call](Error error, std::vector<Member> members) {
    ReplyMembers(call, error, members, 0, 2);
  });
}

void Services::MemberUpdate(net::UnaryCall call) {
  etcdserverpb::MemberUpdateRequest request;
  if (!Parse(call.request(), &request)) return FailMalformed(call);
  if (!Admit(call)) return;
  std::vector<std::string> urls;
  if (!PeerUrlsOf(request.peerurls(), &urls)) return Fail(call, Error::kMemberBadUrls);
  node_.UpdateMember(request.id(), std::move(urls), [this, call](Error error, std::vector<Member> members) {
    ReplyMembers(call, error, members, 0, 2);
  });
}

void Services::MemberPromote(net::UnaryCall call) {
  etcdserverpb::MemberPromoteRequest request;
  if (!Parse(call.request(), &request)) return FailMalformed(call);
  if (!Admit(call)) return;
  node_.PromoteMember(
      request.id(), [this, call](Error error, const std::string& why, const std::vector<Member>& members) {
        if (why.empty()) return ReplyMembers(call, error, members, 0, 2);
        call.Fail(static_cast<net::StatusCode>(ErrorCode(error)), base::StrCat(ErrorText(error), ": ", why));
      });
}

}  // namespace kvd::server
