#include "line_parser.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "base/strings.h"
#include "etcdserverpb/rpc.pb.h"
#include "flag_set.h"
#include "go_format.h"
#include "text.h"

namespace kvd::ctl {
namespace {

using etcdserverpb::Compare;

// The length of the quoted word at the start of text, or npos.
size_t QuotedLength(std::string_view text) {
  const char quote = text.empty() ? '\0' : text[0];
  if (quote != '"' && quote != '`' && quote != '\'') return std::string_view::npos;
  for (size_t i = 1; i < text.size(); ++i) {
    if (quote == '"' && text[i] == '\\') {
      ++i;
    } else if (text[i] == quote) {
      return i + 1;
    }
  }
  return std::string_view::npos;
}

// Takes a Go string literal off the front of text.
absl::StatusOr<std::string> ConsumeLiteral(std::string_view* text) {
  const size_t length = QuotedLength(*text);
  if (length == std::string_view::npos || text->front() == '\'')
    return absl::InvalidArgumentError("no string");
  absl::StatusOr<std::string> value = Unquote(text->substr(0, length));
  text->remove_prefix(length);
  return value;
}

absl::Status Malformed(std::string_view line) {
  return absl::InvalidArgumentError(base::StrCat("malformed comparison: ", line));
}

absl::Status SetOperator(std::string_view op, Compare* compare) {
  if (op == "=") {
    compare->set_result(Compare::EQUAL);
  } else if (op == "!=") {
    compare->set_result(Compare::NOT_EQUAL);
  } else if (op == ">") {
    compare->set_result(Compare::GREATER);
  } else if (op == "<") {
    compare->set_result(Compare::LESS);
  } else {
    return absl::InvalidArgumentError("unknown operator");
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<std::string> SplitWords(std::string_view line) {
  std::vector<std::string> words;
  while (true) {
    line = TrimLeft(line);
    if (line.empty()) return words;
    const size_t quoted = line[0] == '`' ? std::string_view::npos : QuotedLength(line);
    if (quoted != std::string_view::npos) {
      const absl::StatusOr<std::string> value = Unquote(line.substr(0, quoted));
      words.push_back(value.ok() ? *value : std::string(line.substr(1, quoted - 2)));
      line.remove_prefix(quoted);
      continue;
    }
    size_t end = 0;
    while (end < line.size() && !absl::ascii_isspace(static_cast<unsigned char>(line[end]))) ++end;
    words.emplace_back(line.substr(0, end));
    line.remove_prefix(end);
  }
}

absl::StatusOr<Compare> ParseCompare(std::string_view line) {
  const size_t open = line.find('(');
  if (open == std::string_view::npos) return Malformed(line);
  const std::string_view target = line.substr(0, open);
  std::string_view rest = line.substr(open + 1);

  const absl::StatusOr<std::string> key = ConsumeLiteral(&rest);
  if (!key.ok() || !ConsumePrefix(&rest, ")")) return Malformed(line);
  rest = TrimLeft(rest);
  const std::string_view op = rest.substr(0, rest.find_first_of(" \t"));
  rest = TrimLeft(rest.substr(op.size()));
  const absl::StatusOr<std::string> value = ConsumeLiteral(&rest);
  Compare compare;
  if (!value.ok() || !SetOperator(op, &compare).ok()) return Malformed(line);
  compare.set_key(*key);

  if (target == "val" || target == "value") {
    compare.set_target(Compare::VALUE);
    compare.set_value(*value);
    return compare;
  }
  const absl::StatusOr<int64_t> number = ParseGoInt(*value, 10);
  if (target == "ver" || target == "version") {
    compare.set_target(Compare::VERSION);
    compare.set_version(number.value_or(0));
  } else if (target == "c" || target == "create") {
    compare.set_target(Compare::CREATE);
    compare.set_create_revision(number.value_or(0));
  } else if (target == "m" || target == "mod") {
    compare.set_target(Compare::MOD);
    compare.set_mod_revision(number.value_or(0));
  } else if (target == "lease") {
    compare.set_target(Compare::LEASE);
    compare.set_lease(number.value_or(0));
  } else {
    return absl::InvalidArgumentError(
        base::StrCat("malformed comparison: ", line, " (unknown target ", target, ")"));
  }
  if (!number.ok()) {
    return absl::InvalidArgumentError(
        base::StrCat("invalid txn compare request: ", line, " (", number.status().message(), ")"));
  }
  return compare;
}

}  // namespace kvd::ctl
