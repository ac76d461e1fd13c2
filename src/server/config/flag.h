// The command line as a table: one row per flag says where its value goes and what this build does with it.
// Private to server/config.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/config/config.h"

namespace kvd::server::config_internal {

// Settings while they are collected.
struct Draft {
  Config config;
  std::map<std::string, bool> gates;       // feature gates given by name
  std::map<std::string, std::string> odd;  // the text of flags that have no field
};

enum class FlagGroup {
  kMember,
  kClustering,
  kSecurity,
  kAuth,
  kProfiling,
  kLogging,
  kTracing,
  kFeatures,
  kUnsafe,
  kMisc,
  kHistory,
};

enum class FlagStatus {
  kActive,       // acted on
  kKept,         // parsed and kept; a value other than the default is reported as not acted on
  kRefused,      // a value other than the default stops the start: going on would be unsafe or would mislead
  kIgnored,      // once meant something; reported, then forgotten
  kUnsupported,  // of etcd 3.3 and before; giving it is an error
};

// Where a value goes. A pointer to an accessor of the field, which also names the type.
using BoolField = bool& (*)(Config&);
using IntField = int64_t& (*)(Config&);
using UintField = uint64_t& (*)(Config&);
using Uint32Field = uint32_t& (*)(Config&);
using DurationField = Duration& (*)(Config&);
using StringField = std::string& (*)(Config&);
using ListField = std::vector<std::string>& (*)(Config&);
using UrlsField = Urls& (*)(Config&);
// A feature gate under a flag of its own.
struct GateField {
  const char* gate;
};
// A value with a form of its own: the two directions.
struct CustomField {
  absl::Status (*set)(Draft&, std::string_view);
  std::string (*get)(const Draft&);
};
// Another flag's older name.
struct AliasField {
  const char* flag;
};
// No field: the text is kept in Draft::odd. Boolean ones may stand without a value.
struct OddField {
  bool boolean;
};
using FlagTarget = std::variant<BoolField, IntField, UintField, Uint32Field, DurationField, StringField,
                                ListField, UrlsField, GateField, CustomField, AliasField, OddField>;

struct Flag {
  std::string_view name;
  FlagGroup group;
  FlagTarget target;
  FlagStatus status;
  std::string_view help;     // for kIgnored, kRefused and kUnsupported: what the user is told
  std::string_view choices;  // "new|existing"; empty: any
};

// All flags, in the order of --help.
absl::Span<const Flag> FlagTable();
// Null if there is none.
const Flag* FindFlag(std::string_view name);
// Follows an alias.
const Flag& Resolve(const Flag& flag);

bool IsBoolean(const Flag& flag);
bool IsDuration(const Flag& flag);
// Sets the value. Errors: kInvalidArgument with the reason only; the caller names the flag.
absl::Status SetFlag(const Flag& flag, std::string_view value, Draft& draft);
// The value as SetFlag would take it.
std::string GetFlag(const Flag& flag, const Draft& draft);

bool IsFeatureGate(std::string_view gate);

bool ParseBool(std::string_view text, bool* value);
// As Go writes durations: "1h30m", "100ms", "0".
absl::StatusOr<Duration> ParseDuration(std::string_view text);
std::string FormatDuration(Duration duration);

// Every default of an empty command line, but those that Finish derives from other settings.
Draft NewDraft();
// What is derived from other settings: the default data directory and cluster, feature gates, the retention
// of compaction, the rotation of logs. Errors: kInvalidArgument.
absl::Status Finish(Draft& draft, const Surroundings& surroundings, std::vector<Notice>& warnings);
// Which ways to the first members are asked for, and whether what each needs is there. Errors:
// kInvalidArgument with etcd's text, where etcd has one.
absl::Status CheckBootstrap(const Config& config);
// The certificates that the URLs and flags ask for, as far as it can be told without their files. Errors:
// kInvalidArgument with etcd's text, where etcd has one.
absl::Status CheckTls(const Config& config);
// What of it is ignored.
void AdviseTls(const Config& config, std::vector<Notice>& warnings);
// Reads a configuration file's text into `draft`. Unknown keys go to `warnings`, the keys seen to `seen`.
absl::Status ReadConfigText(std::string_view text, Draft& draft, std::map<std::string, std::string>& seen,
                            std::vector<Notice>& warnings);

}  // namespace kvd::server::config_internal
