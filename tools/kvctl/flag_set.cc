#include "flag_set.h"

#include <charconv>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/strings.h"
#include "go_format.h"
#include "text.h"

namespace kvd::ctl {
namespace {

absl::StatusOr<bool> ParseGoBool(std::string_view text) {
  for (std::string_view yes : {"1", "t", "T", "true", "TRUE", "True"}) {
    if (text == yes) return true;
  }
  for (std::string_view no : {"0", "f", "F", "false", "FALSE", "False"}) {
    if (text == no) return false;
  }
  return absl::InvalidArgumentError(
      base::StrCat("strconv.ParseBool: parsing ", Quote(text), ": invalid syntax"));
}

absl::StatusOr<absl::Duration> ParseGoDuration(std::string_view text) {
  absl::Duration duration;
  if (!text.empty() && text != "inf" && text != "-inf" && absl::ParseDuration(base::ToAbsl(text), &duration))
    return duration;
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size()) {
    return absl::InvalidArgumentError(base::StrCat("time: missing unit in duration ", Quote(text)));
  }
  return absl::InvalidArgumentError(base::StrCat("time: invalid duration ", Quote(text)));
}

}  // namespace

absl::StatusOr<int64_t> ParseGoInt(std::string_view text, int base) {
  std::string_view digits = text;
  if (ConsumePrefix(&digits, "+") && digits.starts_with('-')) digits = "";
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (end != digits.data() + digits.size() || error == std::errc::invalid_argument) {
    return absl::InvalidArgumentError(
        base::StrCat("strconv.ParseInt: parsing ", Quote(text), ": invalid syntax"));
  }
  if (error == std::errc::result_out_of_range) {
    return absl::InvalidArgumentError(
        base::StrCat("strconv.ParseInt: parsing ", Quote(text), ": value out of range"));
  }
  return value;
}

absl::StatusOr<uint64_t> ParseGoHex(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (end != text.data() + text.size() || error == std::errc::invalid_argument) {
    return absl::InvalidArgumentError(
        base::StrCat("strconv.ParseUint: parsing ", Quote(text), ": invalid syntax"));
  }
  if (error == std::errc::result_out_of_range) {
    return absl::InvalidArgumentError(
        base::StrCat("strconv.ParseUint: parsing ", Quote(text), ": value out of range"));
  }
  return value;
}

void FlagSet::Add(std::string_view name, char shorthand, Type type, void* target, std::string_view help) {
  Flag flag{std::string(name), shorthand, type, target, std::string(help), ""};
  flag.default_text = Text(flag);
  flags_.push_back(std::move(flag));
}

void FlagSet::Bool(std::string_view name, bool* target, std::string_view help, char shorthand) {
  Add(name, shorthand, Type::kBool, target, help);
}

void FlagSet::Int64(std::string_view name, int64_t* target, std::string_view help, char shorthand) {
  Add(name, shorthand, Type::kInt64, target, help);
}

void FlagSet::String(std::string_view name, std::string* target, std::string_view help, char shorthand) {
  Add(name, shorthand, Type::kString, target, help);
}

void FlagSet::Duration(std::string_view name, absl::Duration* target, std::string_view help, char shorthand) {
  Add(name, shorthand, Type::kDuration, target, help);
}

void FlagSet::StringList(std::string_view name, std::vector<std::string>* target, std::string_view help,
                         char shorthand) {
  Add(name, shorthand, Type::kStringList, target, help);
}

FlagSet::Flag* FlagSet::Find(std::string_view name) {
  for (Flag& flag : flags_) {
    if (flag.name == name) return &flag;
  }
  return nullptr;
}

FlagSet::Flag* FlagSet::FindShorthand(char shorthand) {
  for (Flag& flag : flags_) {
    if (flag.shorthand == shorthand) return &flag;
  }
  return nullptr;
}

absl::Status FlagSet::Assign(Flag& flag, std::string_view value) {
  switch (flag.type) {
    case Type::kBool: {
      absl::StatusOr<bool> parsed = ParseGoBool(value);
      if (!parsed.ok()) return parsed.status();
      *static_cast<bool*>(flag.target) = *parsed;
      break;
    }
    case Type::kInt64: {
      absl::StatusOr<int64_t> parsed = ParseGoInt(value, 10);
      if (!parsed.ok()) return parsed.status();
      *static_cast<int64_t*>(flag.target) = *parsed;
      break;
    }
    case Type::kString:
      *static_cast<std::string*>(flag.target) = std::string(value);
      break;
    case Type::kDuration: {
      absl::StatusOr<absl::Duration> parsed = ParseGoDuration(value);
      if (!parsed.ok()) return parsed.status();
      *static_cast<absl::Duration*>(flag.target) = *parsed;
      break;
    }
    case Type::kStringList: {
      auto* list = static_cast<std::vector<std::string>*>(flag.target);
      if (!flag.changed) list->clear();
      if (value.empty()) break;
      for (absl::string_view item : absl::StrSplit(base::ToAbsl(value), ',')) list->emplace_back(item);
      break;
    }
  }
  flag.changed = true;
  return absl::OkStatus();
}

std::string FlagSet::Text(const Flag& flag) {
  switch (flag.type) {
    case Type::kBool:
      return *static_cast<bool*>(flag.target) ? "[=true]" : "[=false]";
    case Type::kInt64:
      return base::StrCat("=", *static_cast<int64_t*>(flag.target));
    case Type::kString:
      return base::StrCat("=", Quote(*static_cast<std::string*>(flag.target)));
    case Type::kDuration:
      return base::StrCat("=", GoDuration(*static_cast<absl::Duration*>(flag.target)));
    case Type::kStringList:
      return base::StrCat("=[", absl::StrJoin(*static_cast<std::vector<std::string>*>(flag.target), ","),
                          "]");
  }
  return "";
}

absl::Status FlagSet::Set(std::string_view name, std::string_view value) {
  Flag* flag = Find(name);
  if (flag == nullptr) return absl::NotFoundError(base::StrCat("unknown flag: --", name));
  return Assign(*flag, value);
}

absl::Status FlagSet::AssignNamed(Flag& flag, std::string_view value) {
  absl::Status status = Assign(flag, value);
  if (status.ok()) return status;
  const std::string name = flag.shorthand == 0
                               ? base::StrCat("--", flag.name)
                               : base::StrCat("-", std::string(1, flag.shorthand), ", --", flag.name);
  return absl::InvalidArgumentError(
      base::StrCat("invalid argument ", Quote(value), " for ", Quote(name), " flag: ", status.message()));
}

absl::Status FlagSet::ParseLong(absl::Span<const std::string> args, size_t* i) {
  const std::string_view text = std::string_view(args[*i]).substr(2);
  const size_t equals = text.find('=');
  const std::string_view name = text.substr(0, equals);
  if (name.empty() || name[0] == '-' || name[0] == '=') {
    return absl::InvalidArgumentError(base::StrCat("bad flag syntax: ", args[*i]));
  }
  Flag* flag = Find(name);
  if (flag == nullptr) return absl::InvalidArgumentError(base::StrCat("unknown flag: --", name));
  if (equals != std::string_view::npos) return AssignNamed(*flag, text.substr(equals + 1));
  if (flag->type == Type::kBool) return AssignNamed(*flag, "true");
  if (*i + 1 >= args.size()) {
    return absl::InvalidArgumentError(base::StrCat("flag needs an argument: --", name));
  }
  return AssignNamed(*flag, args[++*i]);
}

absl::Status FlagSet::ParseShort(absl::Span<const std::string> args, size_t* i) {
  std::string_view letters = std::string_view(args[*i]).substr(1);
  while (!letters.empty()) {
    Flag* flag = FindShorthand(letters[0]);
    if (flag == nullptr) {
      return absl::InvalidArgumentError(
          base::StrCat("unknown shorthand flag: '", letters.substr(0, 1), "' in ", args[*i]));
    }
    std::string_view rest = letters.substr(1);
    if (ConsumePrefix(&rest, "=")) return AssignNamed(*flag, rest);
    if (flag->type == Type::kBool) {
      if (absl::Status status = AssignNamed(*flag, "true"); !status.ok()) return status;
      letters = rest;
      continue;
    }
    if (!rest.empty()) return AssignNamed(*flag, rest);
    if (*i + 1 >= args.size()) {
      return absl::InvalidArgumentError(
          base::StrCat("flag needs an argument: '", letters.substr(0, 1), "' in ", args[*i]));
    }
    return AssignNamed(*flag, args[++*i]);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> FlagSet::Parse(absl::Span<const std::string> args) {
  std::vector<std::string> rest;
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (arg == "--") {
      args_before_dash_ = rest.size();
      rest.insert(rest.end(), args.begin() + i + 1, args.end());
      break;
    }
    absl::Status status;
    if (arg.starts_with("--")) {
      status = ParseLong(args, &i);
    } else if (arg.size() > 1 && arg[0] == '-') {
      status = ParseShort(args, &i);
    } else {
      rest.push_back(arg);
    }
    if (!status.ok()) return status;
  }
  return rest;
}

bool FlagSet::Changed(std::string_view name) const {
  for (const Flag& flag : flags_) {
    if (flag.name == name) return flag.changed;
  }
  return false;
}

bool FlagSet::TakesNextWord(std::string_view word) {
  if (word.find('=') != std::string_view::npos) return false;
  const Flag* flag = nullptr;
  if (ConsumePrefix(&word, "--")) {
    flag = Find(word);
  } else if (ConsumePrefix(&word, "-") && word.size() == 1) {
    flag = FindShorthand(word[0]);
  }
  return flag != nullptr && flag->type != Type::kBool;
}

std::vector<std::string> FlagSet::Names() const {
  std::vector<std::string> names;
  for (const Flag& flag : flags_) names.push_back(flag.name);
  return names;
}

std::string FlagSet::Usage() const {
  std::string text;
  for (const Flag& flag : flags_) {
    const std::string shorthand =
        flag.shorthand == 0 ? "    " : base::StrCat("-", std::string(1, flag.shorthand), ", ");
    std::string line = base::StrCat("  ", shorthand, "--", flag.name, flag.default_text);
    if (line.size() < 38) line.resize(38, ' ');
    base::StrAppend(&text, line, "  ", flag.help, "\n");
  }
  return text;
}

}  // namespace kvd::ctl
