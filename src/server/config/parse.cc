#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "base/strings.h"
#include "server/config/config.h"
#include "server/config/flag.h"

namespace kvd::server {
namespace {

using config_internal::Draft;
using config_internal::FindFlag;
using config_internal::Flag;
using config_internal::FlagStatus;
using config_internal::GetFlag;
using config_internal::IsBoolean;
using config_internal::Resolve;
using config_internal::SetFlag;

constexpr std::string_view kUsageHint = "Usage: kvd [flags]; kvd --help lists them.\n";

ParseResult Exit(int code, std::string out, std::string err) {
  ParseResult result;
  result.action = ParseResult::Action::kExit;
  result.exit_code = code;
  result.out = std::move(out);
  result.err = std::move(err);
  return result;
}

// A wrong command line: told as etcd's flag parser does.
ParseResult Misused(std::string_view message) {
  return Exit(2, "", base::StrCat("kvd: ", message, "\n", kUsageHint));
}
// A command line that parses but cannot be started with.
ParseResult Failed(std::string_view message) {
  return Exit(1, "", base::StrCat("kvd: ", message, "\n"));
}

std::string EnvName(std::string_view prefix, std::string_view flag) {
  return base::StrCat(prefix, "_",
                      absl::StrReplaceAll(absl::AsciiStrToUpper(base::ToAbsl(flag)), {{"-", "_"}}));
}

// Whether the value of this flag must not be shown in the log.
bool IsSecret(const Flag& flag) {
  return absl::StrContains(base::ToAbsl(flag.name), "password") || flag.name == "discovery-user";
}

class Parser {
 public:
  Parser(const std::vector<std::string>& args, const std::vector<std::string>& env,
         const Surroundings& surroundings)
      : args_(args), env_(env), surroundings_(surroundings), draft_(config_internal::NewDraft()) {}

  ParseResult Run();

 private:
  // Each returns false when `result_` says how to exit.
  bool ReadArguments();
  bool ReadArgument(size_t* next);
  bool SetFromArgument(const Flag& flag, const std::string& value);
  bool ReadEnvironment();
  bool ReadFile(const std::string& path);
  bool Complete();

  void NoteIfOld(const Flag& flag);
  void DropDefaults();
  bool RefuseOrReport();
  bool Given(std::string_view name) const { return given_.count(std::string(name)) != 0; }
  bool Stop(ParseResult result) {
    result_ = std::move(result);
    return false;
  }
  std::string Environment(std::string_view name) const;

  const std::vector<std::string>& args_;
  const std::vector<std::string>& env_;
  const Surroundings& surroundings_;
  Draft draft_;
  std::set<std::string> given_;  // names of flags set by argument, variable or file, aliases resolved
  std::map<std::string, std::string> by_argument_;  // as written
  ParseResult result_;
};

std::string Parser::Environment(std::string_view name) const {
  for (const std::string& entry : env_) {
    if (entry.size() > name.size() && entry[name.size()] == '=' &&
        absl::StartsWith(entry, base::ToAbsl(name))) {
      return entry.substr(name.size() + 1);
    }
  }
  return "";
}

bool Parser::SetFromArgument(const Flag& flag, const std::string& value) {
  if (flag.status == FlagStatus::kUnsupported) {
    return Stop(Misused(base::StrCat("flag \"-", flag.name, "\" is no longer supported; ", flag.help)));
  }
  absl::Status status = SetFlag(flag, value, draft_);
  if (!status.ok()) {
    std::string_view kind = IsBoolean(flag) ? "invalid boolean value \"" : "invalid value \"";
    std::string_view link = IsBoolean(flag) ? "\" for -" : "\" for flag -";
    return Stop(Misused(base::StrCat(kind, value, link, flag.name, ": ", status.message())));
  }
  NoteIfOld(flag);
  given_.emplace(Resolve(flag).name);
  by_argument_[std::string(flag.name)] = value;
  result_.arguments.push_back(base::StrCat("--", flag.name, "=", IsSecret(flag) ? "<hidden>" : value));
  return true;
}

bool Parser::ReadArgument(size_t* next) {
  const std::string& argument = args_[(*next)++];
  size_t dashes = argument.find_first_not_of('-');
  dashes = dashes == std::string::npos ? argument.size() : dashes;
  if (dashes > 2 || argument.size() == dashes || argument[dashes] == '=') {
    return Stop(Misused(base::StrCat("bad flag syntax: ", argument)));
  }
  size_t equal = argument.find('=');
  std::string name = argument.substr(dashes, equal == std::string::npos ? equal : equal - dashes);
  if (name == "h" || name == "help") return Stop(Exit(0, HelpText(), ""));
  const Flag* flag = FindFlag(name);
  if (flag == nullptr) return Stop(Misused(base::StrCat("flag provided but not defined: -", name)));
  if (equal != std::string::npos) return SetFromArgument(*flag, argument.substr(equal + 1));
  if (IsBoolean(*flag)) return SetFromArgument(*flag, "true");
  if (*next == args_.size()) return Stop(Misused(base::StrCat("flag needs an argument: -", name)));
  return SetFromArgument(*flag, args_[(*next)++]);
}

bool Parser::ReadArguments() {
  size_t next = 0;
  while (next < args_.size() && args_[next].size() > 1 && args_[next][0] == '-') {
    if (args_[next] == "--") {
      ++next;
      break;
    }
    if (!ReadArgument(&next)) return false;
  }
  if (next < args_.size()) return Stop(Failed(base::StrCat("\"", args_[next], "\" is not a valid flag")));
  return true;
}

void Parser::NoteIfOld(const Flag& flag) {
  if (flag.status == FlagStatus::kIgnored) {
    result_.warnings.push_back({base::StrCat("--", flag.name, " is ignored: ", flag.help), {}});
  } else if (flag.group == config_internal::FlagGroup::kHistory) {
    const Flag& today = Resolve(flag);
    const auto* gate = std::get_if<config_internal::GateField>(&flag.target);
    std::string better = gate != nullptr ? base::StrCat("--feature-gates=", gate->gate, "=true")
                                         : base::StrCat("--", today.name);
    result_.warnings.push_back({base::StrCat("--", flag.name, " is an older name; use ", better), {}});
  }
}

bool Parser::ReadEnvironment() {
  std::set<std::string> used;
  for (const Flag& flag : config_internal::FlagTable()) {
    if (flag.group == config_internal::FlagGroup::kMisc) continue;
    std::string name = EnvName("ETCD", flag.name);
    std::string alias = EnvName("KVD", flag.name);
    std::string value = Environment(name);
    if (std::string other = Environment(alias); !other.empty()) {
      if (!value.empty() && value != other) {
        return Stop(
            Failed(base::StrCat("environment variables ", name, " and ", alias, " differ; set only one")));
      }
      name = alias;
      value = std::move(other);
    }
    if (value.empty()) continue;
    used.insert(EnvName("ETCD", flag.name));
    used.insert(alias);
    if (by_argument_.count(std::string(flag.name)) != 0) {
      return Stop(Failed(base::StrCat("conflicting environment variable \"", name,
                                      "\" is shadowed by corresponding command-line flag --", flag.name,
                                      " (either unset environment variable or disable flag)")));
    }
    if (flag.status == FlagStatus::kUnsupported) continue;
    absl::Status status = SetFlag(flag, value, draft_);
    if (!status.ok()) {
      return Stop(Failed(base::StrCat("invalid value \"", value, "\" for ", name, ": ", status.message())));
    }
    NoteIfOld(flag);
    given_.emplace(Resolve(flag).name);
    result_.infos.push_back(
        {"recognized and used environment variable",
         {{"variable-name", name}, {"variable-value", IsSecret(flag) ? "<hidden>" : value}}});
  }
  static const std::set<std::string> kOurs = {"ETCD_CONFIG_FILE", "KVD_CONFIG_FILE", "ETCD_UNSUPPORTED_ARCH",
                                              "ETCD_VERIFY"};
  for (const std::string& entry : env_) {
    std::string name = entry.substr(0, entry.find('='));
    if (!absl::StartsWith(name, "ETCD_") && !absl::StartsWith(name, "KVD_")) continue;
    if (used.count(name) != 0 || kOurs.count(name) != 0) continue;
    const size_t prefix = name.find('_') + 1;
    std::string flag = absl::StrReplaceAll(absl::AsciiStrToLower(name.substr(prefix)), {{"_", "-"}});
    if (FindFlag(flag) != nullptr && entry.size() <= name.size() + 1) continue;  // set, but empty
    result_.warnings.push_back({"unrecognized environment variable", {{"environment-variable", entry}}});
  }
  return true;
}

bool Parser::ReadFile(const std::string& path) {
  auto text = surroundings_.read_file(path);
  if (!text.ok()) return Stop(Failed(base::StrCat("--config-file: ", text.status().message())));
  std::map<std::string, std::string> seen;
  draft_ = config_internal::NewDraft();
  given_.clear();
  absl::Status status = config_internal::ReadConfigText(*text, draft_, seen, result_.warnings);
  if (!status.ok()) return Stop(Failed(base::StrCat("--config-file ", path, ": ", status.message())));
  for (const auto& [name, value] : seen) {
    const Flag* flag = FindFlag(name);
    if (flag == nullptr) continue;
    NoteIfOld(*flag);
    given_.emplace(Resolve(*flag).name);
  }
  result_.infos.push_back(
      {"loaded server configuration, other configuration command line flags and environment "
       "variables will be ignored if provided",
       {{"path", path}}});
  return true;
}

void Parser::DropDefaults() {
  const Config& config = draft_.config;
  const bool other_bootstrap = config.ShouldDiscover() || !config.discovery_srv.empty() ||
                               !config.discovery_srv_name.empty() || !config.discovery.token.empty();
  if (other_bootstrap && !Given("initial-cluster")) draft_.config.initial_cluster.clear();
}

// Reports what this build does not act on; refuses what it must not go on with.
bool Parser::RefuseOrReport() {
  const Draft defaults = config_internal::NewDraft();
  std::vector<std::string> kept;
  for (const Flag& flag : config_internal::FlagTable()) {
    if (flag.status != FlagStatus::kKept && flag.status != FlagStatus::kRefused) continue;
    if (!Given(flag.name) || GetFlag(flag, draft_) == GetFlag(flag, defaults)) continue;
    if (flag.status == FlagStatus::kKept) {
      kept.push_back(base::StrCat("--", flag.name));
      continue;
    }
    return Stop(Failed(base::StrCat("--", flag.name, ": not supported by this version of kvd")));
  }
  if (!kept.empty()) {
    std::string names;
    for (const std::string& name : kept) base::StrAppend(&names, names.empty() ? "" : " ", name);
    result_.warnings.push_back({"not supported yet by this version, and without effect", {{"flags", names}}});
  }
  return true;
}

bool Parser::Complete() {
  DropDefaults();
  Config& config = draft_.config;
  if (absl::Status status = config_internal::Finish(draft_, surroundings_, result_.warnings); !status.ok()) {
    return Stop(Failed(base::FromAbsl(status.message())));
  }
  if (absl::Status status = Validate(config); !status.ok())
    return Stop(Failed(base::FromAbsl(status.message())));
  if (!RefuseOrReport()) return false;
  return true;
}

ParseResult Parser::Run() {
  if (!ReadArguments()) return std::move(result_);
  bool version = false;
  if (by_argument_.count("version") != 0 && config_internal::ParseBool(by_argument_["version"], &version) &&
      version) {
    return Exit(0, VersionText(), "");
  }
  std::string path = by_argument_["config-file"];
  if (path.empty()) path = Environment("ETCD_CONFIG_FILE");
  if (path.empty()) path = Environment("KVD_CONFIG_FILE");
  if (!path.empty()) {
    result_.warnings.clear();
    if (!ReadFile(path)) return std::move(result_);
  } else {
    if (!ReadEnvironment()) return std::move(result_);
    if (Given("listen-client-urls") && !Given("advertise-client-urls"))
      draft_.config.advertise_client_urls.clear();
  }
  if (!Complete()) return std::move(result_);
  result_.config = std::move(draft_.config);
  return std::move(result_);
}

}  // namespace

ParseResult ParseCommandLine(const std::vector<std::string>& args, const std::vector<std::string>& env,
                             const Surroundings& surroundings) {
  return Parser(args, env, surroundings).Run();
}

}  // namespace kvd::server
