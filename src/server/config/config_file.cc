#include <map>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "base/strings.h"
#include "server/config/flag.h"
#include "yaml-cpp/yaml.h"

namespace kvd::server::config_internal {
namespace {

// Where a key of a nested map goes: the name of the flag, or "" for one that has no flag and no meaning here.
using Section = std::map<std::string, std::string>;

const std::map<std::string, Section>& Sections() {
  static const auto* const sections = new std::map<std::string, Section>{
      {"client-transport-security",
       {{"cert-file", "cert-file"},
        {"key-file", "key-file"},
        {"client-cert-file", "client-cert-file"},
        {"client-key-file", "client-key-file"},
        {"client-cert-auth", "client-cert-auth"},
        {"trusted-ca-file", "trusted-ca-file"},
        {"ca-file", "trusted-ca-file"},
        {"auto-tls", "auto-tls"},
        {"crl-file", "client-crl-file"},
        {"allowed-hostname", "client-cert-allowed-hostname"},
        {"allowed-cn", "client-cert-allowed-cn"},
        {"skip-client-san-verification", ""}}},
      {"peer-transport-security",
       {{"cert-file", "peer-cert-file"},
        {"key-file", "peer-key-file"},
        {"client-cert-file", "peer-client-cert-file"},
        {"client-key-file", "peer-client-key-file"},
        {"client-cert-auth", "peer-client-cert-auth"},
        {"trusted-ca-file", "peer-trusted-ca-file"},
        {"ca-file", "peer-trusted-ca-file"},
        {"auto-tls", "peer-auto-tls"},
        {"crl-file", "peer-crl-file"},
        {"allowed-cn", "peer-cert-allowed-cn"},
        {"allowed-hostname", "peer-cert-allowed-hostname"},
        {"skip-client-san-verification", "peer-skip-client-san-verification"}}},
      {"socket-options", {{"reuse-port", "socket-reuse-port"}, {"reuse-address", "socket-reuse-address"}}},
      {"discovery-config", {{"token", "discovery-token"}}},
      {"discovery-config.client",
       {{"endpoints", "discovery-endpoints"},
        {"request-timeout", "discovery-request-timeout"},
        {"dial-timeout", "discovery-dial-timeout"},
        {"keepalive-time", "discovery-keepalive-time"},
        {"keepalive-timeout", "discovery-keepalive-timeout"},
        {"max-request-bytes", ""},
        {"max-recv-bytes", ""}}},
      {"discovery-config.client.secure",
       {{"cert", "discovery-cert"},
        {"key", "discovery-key"},
        {"cacert", "discovery-cacert"},
        {"server-name", ""},
        {"insecure-transport", "discovery-insecure-transport"},
        {"insecure-skip-tls-verify", "discovery-insecure-skip-tls-verify"}}},
      {"discovery-config.client.auth",
       {{"username", "discovery-user"}, {"password", "discovery-password"}, {"token", ""}}},
  };
  return *sections;
}

class Reader {
 public:
  Reader(Draft& draft, std::map<std::string, std::string>& seen, std::vector<Notice>& warnings)
      : draft_(draft), seen_(seen), warnings_(warnings) {}

  absl::Status ReadTop(const YAML::Node& root);

 private:
  absl::Status ReadSection(const std::string& path, const YAML::Node& node);
  absl::Status ReadValue(const std::string& key, const Flag& flag, const YAML::Node& node);
  void Unknown(const std::string& key) {
    warnings_.push_back({"unknown key in the configuration file is ignored", {{"key", key}}});
  }

  Draft& draft_;
  std::map<std::string, std::string>& seen_;
  std::vector<Notice>& warnings_;
};

absl::Status Wrong(const std::string& key, absl::string_view why) {
  return absl::InvalidArgumentError(base::StrCat("invalid value for ", key, ": ", why));
}

absl::Status Reader::ReadValue(const std::string& key, const Flag& flag, const YAML::Node& node) {
  if (node.IsNull()) return absl::OkStatus();
  std::string value;
  if (node.IsSequence()) {
    const FlagTarget& target = Resolve(flag).target;
    if (!std::holds_alternative<ListField>(target) && !std::holds_alternative<UrlsField>(target)) {
      return Wrong(key, "a list is not expected");
    }
    std::vector<std::string> items;
    for (const YAML::Node& item : node) {
      if (!item.IsScalar()) return Wrong(key, "a list of strings is expected");
      items.push_back(item.Scalar());
    }
    value = absl::StrJoin(items, ",");
  } else if (node.IsScalar()) {
    value = node.Scalar();
  } else {
    return Wrong(key, "a map is not expected");
  }
  // Durations are whole nanoseconds here; a text with a unit is taken too.
  int64_t nanoseconds = 0;
  if (IsDuration(flag) && absl::SimpleAtoi(value, &nanoseconds)) value = base::StrCat(nanoseconds, "ns");
  // An empty list of URLs leaves the default, as an absent one.
  if (value.empty() && std::holds_alternative<UrlsField>(Resolve(flag).target)) return absl::OkStatus();
  absl::Status status = SetFlag(flag, value, draft_);
  if (!status.ok()) return Wrong(key, status.message());
  seen_[std::string(flag.name)] = value;
  return absl::OkStatus();
}

absl::Status Reader::ReadSection(const std::string& path, const YAML::Node& node) {
  if (node.IsNull()) return absl::OkStatus();
  if (!node.IsMap()) return absl::InvalidArgumentError(base::StrCat("invalid ", path));
  const Section& section = Sections().at(path);
  for (const auto& entry : node) {
    if (!entry.first.IsScalar()) return absl::InvalidArgumentError(base::StrCat("invalid key within ", path));
    const std::string key = entry.first.Scalar();
    const std::string full = base::StrCat(path, ".", key);
    if (Sections().count(full) != 0) {
      if (absl::Status status = ReadSection(full, entry.second); !status.ok()) return status;
      continue;
    }
    auto it = section.find(key);
    if (it == section.end() || it->second.empty()) {
      Unknown(full);
      continue;
    }
    if (absl::Status status = ReadValue(full, *FindFlag(it->second), entry.second); !status.ok())
      return status;
  }
  return absl::OkStatus();
}

absl::Status Reader::ReadTop(const YAML::Node& root) {
  if (root.IsNull() || !root.IsDefined()) return absl::OkStatus();
  if (!root.IsMap()) return absl::InvalidArgumentError("the file must be a map of settings");
  for (const auto& entry : root) {
    if (!entry.first.IsScalar()) return absl::InvalidArgumentError("the file has a key that is not a name");
    const std::string key = entry.first.Scalar();
    if (Sections().count(key) != 0) {
      if (absl::Status status = ReadSection(key, entry.second); !status.ok()) return status;
      continue;
    }
    const Flag* flag = FindFlag(key);
    if (flag == nullptr || flag->group == FlagGroup::kMisc || flag->status == FlagStatus::kUnsupported) {
      Unknown(key);
      continue;
    }
    if (absl::Status status = ReadValue(key, *flag, entry.second); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadConfigText(std::string_view text, Draft& draft, std::map<std::string, std::string>& seen,
                            std::vector<Notice>& warnings) {
  try {
    return Reader(draft, seen, warnings).ReadTop(YAML::Load(std::string(text)));
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(base::StrCat("not YAML: ", error.what()));
  }
}

}  // namespace kvd::server::config_internal
