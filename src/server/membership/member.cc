#include "server/membership/member.h"

#include <openssl/sha.h>

#include <algorithm>
#include <boost/property_tree/ptree.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/strings.h"
#include "server/membership/json.h"

namespace kvd::server {
namespace {

using boost::property_tree::ptree;
using json_internal::AppendString;
using json_internal::AppendStrings;

constexpr std::string_view kAttributesPrefix = "/0/members/";
constexpr std::string_view kAttributesSuffix = "/attributes";

uint64_t FirstOfSha1(std::string_view bytes) {
  unsigned char digest[SHA_DIGEST_LENGTH];
  SHA1(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest);
  return base::LoadBigEndian64(digest);
}

uint64_t MemberId(std::vector<std::string> peer_urls, std::string_view token, std::string_view time) {
  std::sort(peer_urls.begin(), peer_urls.end());
  std::string bytes;
  for (const std::string& url : peer_urls) bytes += url;
  bytes += token;
  bytes += time;
  return FirstOfSha1(bytes);
}

std::string Text(const ptree& tree, const char* name) {
  auto child = tree.get_child_optional(name);
  return child && child->empty() && child->data() != "null" ? child->data() : std::string();
}

std::vector<std::string> Texts(const ptree& tree, const char* name) {
  std::vector<std::string> texts;
  if (auto child = tree.get_child_optional(name)) {
    for (const auto& [key, value] : *child) texts.push_back(value.data());
  }
  return texts;
}

absl::StatusOr<Member> FromTree(const ptree& tree) {
  Member member;
  auto id = tree.get_child_optional("id");
  if (!id || id->data().empty() || !absl::ascii_isdigit(static_cast<unsigned char>(id->data()[0])) ||
      !absl::SimpleAtoi(id->data(), &member.id)) {
    return absl::InvalidArgumentError("a member without a usable id");
  }
  member.peer_urls = Texts(tree, "peerURLs");
  member.is_learner = Text(tree, "isLearner") == "true";
  member.name = Text(tree, "name");
  member.client_urls = Texts(tree, "clientURLs");
  return member;
}

// The fields without the braces, so that a change's context can add its own.
void AppendFields(std::string* out, const Member& member) {
  base::StrAppend(out, "\"id\":", member.id, ",\"peerURLs\":");
  AppendStrings(out, member.peer_urls);
  if (member.is_learner) *out += ",\"isLearner\":true";
  if (!member.name.empty()) {
    *out += ",\"name\":";
    AppendString(out, member.name);
  }
  if (!member.client_urls.empty()) {
    *out += ",\"clientURLs\":";
    AppendStrings(out, member.client_urls);
  }
}

}  // namespace

uint64_t BootstrapMemberId(std::vector<std::string> peer_urls, std::string_view token) {
  return MemberId(std::move(peer_urls), token, "");
}

uint64_t RuntimeMemberId(std::vector<std::string> peer_urls, int64_t unix_seconds) {
  return MemberId(std::move(peer_urls), "", base::StrCat(unix_seconds));
}

uint64_t ClusterIdOf(std::vector<uint64_t> member_ids) {
  std::sort(member_ids.begin(), member_ids.end());
  std::string bytes;
  for (uint64_t id : member_ids) base::AppendBigEndian64(bytes, id);
  return FirstOfSha1(bytes);
}

std::string MemberToJson(const Member& member) {
  std::string out = "{";
  AppendFields(&out, member);
  return out + "}";
}

absl::StatusOr<Member> MemberFromJson(std::string_view json) {
  auto tree = json_internal::Parse(json);
  if (!tree.ok()) return tree.status();
  return FromTree(*tree);
}

std::string MembersToJson(absl::Span<const Member> members) {
  std::string out = "[";
  for (const Member& member : members) {
    if (out.size() > 1) out += ',';
    out += MemberToJson(member);
  }
  return out + "]";
}

absl::StatusOr<std::vector<Member>> MembersFromJson(std::string_view json) {
  auto tree = json_internal::Parse(json);
  if (!tree.ok()) return tree.status();
  std::vector<Member> members;
  for (const auto& [key, value] : *tree) {
    if (!key.empty()) return absl::InvalidArgumentError("a list of members is expected");
    auto member = FromTree(value);
    if (!member.ok()) return member.status();
    members.push_back(*std::move(member));
  }
  return members;
}

std::string ConfChangeContextToJson(const ConfChangeContext& context) {
  std::string out = "{";
  AppendFields(&out, context.member);
  base::StrAppend(&out, ",\"isPromote\":", context.is_promote ? "true" : "false", "}");
  return out;
}

absl::StatusOr<ConfChangeContext> ConfChangeContextFromJson(std::string_view json) {
  auto tree = json_internal::Parse(json);
  if (!tree.ok()) return tree.status();
  auto member = FromTree(*tree);
  if (!member.ok()) return member.status();
  return ConfChangeContext{*std::move(member), Text(*tree, "isPromote") == "true"};
}

std::string MemberAttributesToJson(const MemberAttributes& attributes) {
  std::string out = "{";
  if (!attributes.name.empty()) {
    out += "\"name\":";
    AppendString(&out, attributes.name);
  }
  if (!attributes.client_urls.empty()) {
    if (out.size() > 1) out += ',';
    out += "\"clientURLs\":";
    AppendStrings(&out, attributes.client_urls);
  }
  return out + "}";
}

absl::StatusOr<MemberAttributes> MemberAttributesFromJson(std::string_view json) {
  auto tree = json_internal::Parse(json);
  if (!tree.ok()) return tree.status();
  return MemberAttributes{Text(*tree, "name"), Texts(*tree, "clientURLs")};
}

std::string MemberAttributesKey(uint64_t id) {
  return base::StrCat(kAttributesPrefix, base::HexId(id), kAttributesSuffix);
}

absl::StatusOr<uint64_t> MemberIdFromAttributesKey(std::string_view key) {
  const size_t around = kAttributesPrefix.size() + kAttributesSuffix.size();
  if (key.size() <= around || key.substr(0, kAttributesPrefix.size()) != kAttributesPrefix ||
      key.substr(key.size() - kAttributesSuffix.size()) != kAttributesSuffix) {
    return absl::InvalidArgumentError(base::StrCat(key, " is not the key of a member's attributes"));
  }
  return ParseHexId(key.substr(kAttributesPrefix.size(), key.size() - around));
}

std::string VersionReplyToJson(const VersionReply& reply) {
  std::string out = "{\"etcdserver\":";
  AppendString(&out, reply.server);
  out += ",\"etcdcluster\":";
  AppendString(&out, reply.cluster);
  out += ",\"storage\":";
  AppendString(&out, reply.storage);
  return out + "}";
}

absl::StatusOr<VersionReply> VersionReplyFromJson(std::string_view json) {
  auto tree = json_internal::Parse(json);
  if (!tree.ok()) return tree.status();
  return VersionReply{Text(*tree, "etcdserver"), Text(*tree, "etcdcluster"), Text(*tree, "storage")};
}

absl::StatusOr<uint64_t> ParseHexId(std::string_view text) {
  uint64_t id = 0;
  if (text.empty() || text.size() > 16 ||
      text.find_first_not_of("0123456789abcdefABCDEF") != std::string_view::npos ||
      !absl::SimpleHexAtoi(base::ToAbsl(text), &id)) {
    return absl::InvalidArgumentError(base::StrCat("\"", text, "\" is not an ID"));
  }
  return id;
}

}  // namespace kvd::server
