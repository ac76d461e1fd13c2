// The small texts and records that members write about themselves, from any bytes: membership JSON, the
// membership of the state machine, versions, leases, alarms. What is taken reads the same when it is written
// again.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "fuzz_input.h"
#include "server/lease/lease_record.h"
#include "server/membership/member.h"
#include "server/node/alarms.h"
#include "server/node/conf_state_json.h"
#include "server/node/raft_convert.h"
#include "storage/meta.h"
#include "storage/records.h"

namespace {

using kvd::fuzz::Must;
namespace server = kvd::server;
namespace raft = kvd::raft;

void FuzzMembers(std::string_view text) {
  if (auto member = server::MemberFromJson(text); member.ok()) {
    auto again = server::MemberFromJson(server::MemberToJson(*member));
    Must(again.ok() && again->id == member->id && again->peer_urls.size() == member->peer_urls.size());
    // Bytes that are not UTF-8 are replaced once, and then stay.
    auto third = server::MemberFromJson(server::MemberToJson(*again));
    Must(third.ok() && *third == *again);
  }
  if (auto members = server::MembersFromJson(text); members.ok()) {
    auto again = server::MembersFromJson(server::MembersToJson(*members));
    Must(again.ok() && again->size() == members->size());
  }
  if (auto context = server::ConfChangeContextFromJson(text); context.ok()) {
    auto again = server::ConfChangeContextFromJson(server::ConfChangeContextToJson(*context));
    Must(again.ok() && again->is_promote == context->is_promote && again->member.id == context->member.id);
  }
  if (auto attributes = server::MemberAttributesFromJson(text); attributes.ok()) {
    auto again = server::MemberAttributesFromJson(server::MemberAttributesToJson(*attributes));
    Must(again.ok() && again->client_urls.size() == attributes->client_urls.size());
  }
  if (auto version = server::VersionReplyFromJson(text); version.ok()) {
    Must(server::VersionReplyFromJson(server::VersionReplyToJson(*version)).ok());
  }
  if (auto id = server::MemberIdFromAttributesKey(text); id.ok()) {
    auto again = server::MemberIdFromAttributesKey(server::MemberAttributesKey(*id));
    Must(again.ok() && *again == *id);
  }
  (void)server::ParseHexId(text);
}

void FuzzConfState(std::string_view bytes) {
  raft::ConfState state;
  if (server::ConfStateFromJson(bytes, &state)) {
    raft::ConfState again;
    Must(server::ConfStateFromJson(server::ConfStateToJson(state), &again) && again == state);
  }
  if (server::DecodeConfState(bytes, &state)) {
    raft::ConfState again;
    Must(server::DecodeConfState(server::EncodeConfState(state), &again) && again == state);
  }
}

void FuzzRecords(std::string_view bytes) {
  if (auto lease = server::DecodeLeaseRecord(bytes); lease.ok()) {
    auto again = server::DecodeLeaseRecord(server::EncodeLeaseRecord(*lease));
    Must(again.ok() && *again == *lease);
  }
  server::Alarms::Alarm alarm;
  if (server::Alarms::Decode(bytes, &alarm)) {
    server::Alarms::Alarm again;
    Must(server::Alarms::Decode(server::Alarms::Encode(alarm), &again) && again == alarm);
  }
  kvd::storage::MetaState meta;
  (void)kvd::storage::DecodeState(bytes, &meta);
  kvd::storage::KeyValueView kv;
  if (kvd::storage::DecodeKeyValue(bytes, &kv)) {
    std::string encoded;
    kvd::storage::AppendKeyValue(encoded, kv);
    kvd::storage::KeyValueView again;
    Must(kvd::storage::DecodeKeyValue(encoded, &again) && again.key == kv.key && again.value == kv.value &&
         again.lease == kv.lease && again.version == kv.version);
  }
  kvd::storage::Revision revision;
  bool tombstone = false;
  if (kvd::storage::DecodeRevisionKey(bytes, &revision, &tombstone)) {
    std::string encoded;
    kvd::storage::AppendRevisionKey(encoded, revision, tombstone);
    Must(encoded == bytes);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 65536) return 0;
  kvd::fuzz::Input input(data, size);
  const uint8_t kind = input.Byte();
  const std::string_view bytes = input.TakeRest();
  switch (kind % 4) {
    case 0:
      FuzzConfState(bytes);
      break;
    case 1:
      FuzzRecords(bytes);
      break;
    default:
      FuzzMembers(bytes);
      break;
  }
  return 0;
}
