#include "server/node/conf_state_json.h"

#include <yaml-cpp/yaml.h>

#include <vector>

namespace kvd::server {
namespace {

void AppendIds(std::string& out, std::string_view key, const std::vector<raft::NodeId>& ids) {
  if (ids.empty()) return;
  out.append("\"").append(key).append("\":[");
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += ',';
    out += std::to_string(ids[i]);
  }
  out += "],";
}

std::vector<raft::NodeId> ReadIds(const YAML::Node& node) {
  std::vector<raft::NodeId> ids;
  if (node.IsSequence()) {
    for (const YAML::Node& id : node) ids.push_back(id.as<raft::NodeId>());
  }
  return ids;
}

}  // namespace

std::string ConfStateToJson(const raft::ConfState& state) {
  std::string out = "{";
  AppendIds(out, "voters", state.voters);
  AppendIds(out, "learners", state.learners);
  AppendIds(out, "voters_outgoing", state.voters_outgoing);
  AppendIds(out, "learners_next", state.learners_next);
  out.append("\"auto_leave\":").append(state.auto_leave ? "true" : "false").append("}");
  return out;
}

bool ConfStateFromJson(std::string_view json, raft::ConfState* state) {
  *state = {};
  try {  // JSON is YAML; the library reports what is not by throwing
    YAML::Node node = YAML::Load(std::string(json));
    if (!node.IsMap()) return false;
    if (node["voters"]) state->voters = ReadIds(node["voters"]);
    if (node["learners"]) state->learners = ReadIds(node["learners"]);
    if (node["voters_outgoing"]) state->voters_outgoing = ReadIds(node["voters_outgoing"]);
    if (node["learners_next"]) state->learners_next = ReadIds(node["learners_next"]);
    if (node["auto_leave"]) state->auto_leave = node["auto_leave"].as<bool>();
  } catch (const YAML::Exception&) {
    return false;
  }
  return true;
}

}  // namespace kvd::server
