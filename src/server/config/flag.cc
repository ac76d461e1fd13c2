#include "server/config/flag.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <type_traits>
#include <unordered_map>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "base/check.h"
#include "base/strings.h"

namespace kvd::server::config_internal {
namespace {

absl::Status ParseError() {
  return absl::InvalidArgumentError("parse error");
}

// Decimal, or with a prefix 0x, 0o, 0b, as Go reads numbers.
template <typename T>
absl::Status ParseNumber(std::string_view text, T* value) {
  std::string_view digits = text;
  bool negative = !digits.empty() && digits.front() == '-';
  if (!digits.empty() && (digits.front() == '-' || digits.front() == '+')) digits.remove_prefix(1);
  if (std::is_unsigned_v<T> && negative) return ParseError();
  unsigned base = 10;
  if (digits.size() > 2 && digits[0] == '0') {
    char kind = absl::ascii_tolower(static_cast<unsigned char>(digits[1]));
    base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10;
    if (base != 10) digits.remove_prefix(2);
  }
  if (digits.empty()) return ParseError();
  uint64_t magnitude = 0;
  for (char c : digits) {
    unsigned char lower = static_cast<unsigned char>(absl::ascii_tolower(static_cast<unsigned char>(c)));
    unsigned digit = absl::ascii_isdigit(lower)   ? lower - '0'
                     : absl::ascii_isalpha(lower) ? lower - 'a' + 10
                                                  : 99;
    if (digit >= base) return ParseError();
    if (__builtin_mul_overflow(magnitude, static_cast<uint64_t>(base), &magnitude) ||
        __builtin_add_overflow(magnitude, static_cast<uint64_t>(digit), &magnitude)) {
      return absl::InvalidArgumentError("value out of range");
    }
  }
  uint64_t limit = static_cast<uint64_t>(std::numeric_limits<T>::max()) + (negative ? 1 : 0);
  if (magnitude > limit) return absl::InvalidArgumentError("value out of range");
  *value = static_cast<T>(negative ? ~magnitude + 1 : magnitude);
  return absl::OkStatus();
}

std::vector<std::string> SplitList(std::string_view text) {
  std::vector<std::string> parts;
  if (text.empty()) return parts;
  for (absl::string_view part : absl::StrSplit(base::ToAbsl(text), ',')) {
    std::string trimmed(absl::StripAsciiWhitespace(part));
    bool seen = false;
    for (const std::string& other : parts) seen = seen || other == trimmed;
    if (!seen) parts.push_back(std::move(trimmed));
  }
  return parts;
}

struct Setter {
  const Flag& flag;
  std::string_view value;
  Draft& draft;

  absl::Status operator()(BoolField field) const {
    return ParseBool(value, &field(draft.config)) ? absl::OkStatus() : ParseError();
  }
  absl::Status operator()(IntField field) const { return ParseNumber(value, &field(draft.config)); }
  absl::Status operator()(UintField field) const { return ParseNumber(value, &field(draft.config)); }
  absl::Status operator()(Uint32Field field) const { return ParseNumber(value, &field(draft.config)); }
  absl::Status operator()(DurationField field) const {
    auto duration = ParseDuration(value);
    if (duration.ok()) field(draft.config) = *duration;
    return duration.status();
  }
  absl::Status operator()(StringField field) const {
    field(draft.config) = std::string(value);
    return absl::OkStatus();
  }
  absl::Status operator()(ListField field) const {
    field(draft.config) = SplitList(value);
    return absl::OkStatus();
  }
  absl::Status operator()(UrlsField field) const {
    auto urls = ParseUrlList(value);
    if (!urls.ok()) return urls.status();
    field(draft.config) = *std::move(urls);
    return absl::OkStatus();
  }
  absl::Status operator()(GateField field) const {
    bool on = false;
    if (!ParseBool(value, &on)) return ParseError();
    KVD_CHECK(IsFeatureGate(field.gate), "the table names a gate that does not exist");
    draft.gates[field.gate] = on;
    return absl::OkStatus();
  }
  absl::Status operator()(CustomField field) const { return field.set(draft, value); }
  absl::Status operator()(AliasField) const { return SetFlag(Resolve(flag), value, draft); }
  absl::Status operator()(OddField field) const {
    bool ignored = false;
    if (field.boolean && flag.status != FlagStatus::kIgnored && !ParseBool(value, &ignored))
      return ParseError();
    draft.odd[std::string(flag.name)] = std::string(value);
    return absl::OkStatus();
  }
};

struct Getter {
  const Flag& flag;
  Draft& draft;  // accessors take a mutable Config; nothing is changed

  std::string operator()(BoolField field) const { return field(draft.config) ? "true" : "false"; }
  std::string operator()(IntField field) const { return base::StrCat(field(draft.config)); }
  std::string operator()(UintField field) const { return base::StrCat(field(draft.config)); }
  std::string operator()(Uint32Field field) const { return base::StrCat(field(draft.config)); }
  std::string operator()(DurationField field) const { return FormatDuration(field(draft.config)); }
  std::string operator()(StringField field) const { return field(draft.config); }
  std::string operator()(ListField field) const { return absl::StrJoin(field(draft.config), ","); }
  std::string operator()(UrlsField field) const { return Join(field(draft.config)); }
  std::string operator()(GateField field) const {
    auto it = draft.gates.find(field.gate);
    return it != draft.gates.end() && it->second ? "true" : "false";
  }
  std::string operator()(CustomField field) const { return field.get(draft); }
  std::string operator()(AliasField) const { return GetFlag(Resolve(flag), draft); }
  std::string operator()(OddField) const {
    auto it = draft.odd.find(std::string(flag.name));
    return it == draft.odd.end() ? std::string() : it->second;
  }
};

}  // namespace

bool IsFeatureGate(std::string_view gate) {
  static constexpr std::string_view kGates[] = {"StopGRPCServiceOnDefrag",
                                                "InitialCorruptCheck",
                                                "CompactHashCheck",
                                                "TxnModeWriteWithSharedBuffer",
                                                "LeaseCheckpoint",
                                                "SetMemberLocalAddr",
                                                "LeaseCheckpointPersist",
                                                "FastLeaseKeepAlive",
                                                "PriorityRequest",
                                                "AllAlpha",
                                                "AllBeta"};
  return std::find(std::begin(kGates), std::end(kGates), gate) != std::end(kGates);
}

const Flag* FindFlag(std::string_view name) {
  static const auto* const index = [] {
    auto* map = new std::unordered_map<std::string_view, const Flag*>();
    for (const Flag& flag : FlagTable()) {
      bool added = map->emplace(flag.name, &flag).second;
      KVD_CHECK(added, "a flag stands in the table twice");
    }
    return map;
  }();
  auto it = index->find(name);
  return it == index->end() ? nullptr : it->second;
}

const Flag& Resolve(const Flag& flag) {
  const auto* alias = std::get_if<AliasField>(&flag.target);
  if (alias == nullptr) return flag;
  const Flag* target = FindFlag(alias->flag);
  KVD_CHECK(target != nullptr, "the table has an alias of nothing");
  return *target;
}

bool IsBoolean(const Flag& flag) {
  const FlagTarget& target = Resolve(flag).target;
  if (const auto* odd = std::get_if<OddField>(&target)) return odd->boolean;
  return std::holds_alternative<BoolField>(target) || std::holds_alternative<GateField>(target);
}

bool IsDuration(const Flag& flag) {
  return std::holds_alternative<DurationField>(Resolve(flag).target);
}

absl::Status SetFlag(const Flag& flag, std::string_view value, Draft& draft) {
  if (!flag.choices.empty()) {
    bool found = false;
    for (absl::string_view choice : absl::StrSplit(base::ToAbsl(flag.choices), '|')) {
      found = found || base::FromAbsl(choice) == value;
    }
    if (!found) {
      return absl::InvalidArgumentError(base::StrCat(
          "possible values are ", absl::StrReplaceAll(base::ToAbsl(flag.choices), {{"|", ", "}})));
    }
  }
  return std::visit(Setter{flag, value, draft}, flag.target);
}

std::string GetFlag(const Flag& flag, const Draft& draft) {
  return std::visit(Getter{flag, const_cast<Draft&>(draft)}, flag.target);
}

bool ParseBool(std::string_view text, bool* value) {
  for (std::string_view yes : {"1", "t", "T", "true", "TRUE", "True"}) {
    if (text == yes) return *value = true, true;
  }
  for (std::string_view no : {"0", "f", "F", "false", "FALSE", "False"}) {
    if (text == no) return *value = false, true;
  }
  return false;
}

absl::StatusOr<Duration> ParseDuration(std::string_view text) {
  // The micro sign and the Greek letter both stand for micro.
  std::string plain = absl::StrReplaceAll(base::ToAbsl(text), {{"\u00b5s", "us"}, {"\u03bcs", "us"}});
  absl::Duration duration;
  if (plain.find("inf") != std::string::npos || !absl::ParseDuration(plain, &duration)) return ParseError();
  if (duration > absl::Nanoseconds(INT64_MAX) || duration < absl::Nanoseconds(INT64_MIN)) return ParseError();
  return absl::ToChronoNanoseconds(duration);
}

std::string FormatDuration(Duration duration) {
  if (duration == Duration::zero()) return "0s";
  return absl::FormatDuration(absl::FromChrono(duration));
}

}  // namespace kvd::server::config_internal
