// Command-line flags with pflag's grammar and error texts: --name value, --name=value, -x value, -xvalue,
// -x=value, flags and arguments in any order, "--" ends the flags.
//
// Thread-compatible. A target must outlive the FlagSet; it holds the flag's default until it is set.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace kvd::ctl {

class FlagSet {
 public:
  void Bool(std::string_view name, bool* target, std::string_view help, char shorthand = 0);
  void Int64(std::string_view name, int64_t* target, std::string_view help, char shorthand = 0);
  void String(std::string_view name, std::string* target, std::string_view help, char shorthand = 0);
  void Duration(std::string_view name, absl::Duration* target, std::string_view help, char shorthand = 0);
  // A comma-separated list; the first use replaces the default, further ones append.
  void StringList(std::string_view name, std::vector<std::string>* target, std::string_view help,
                  char shorthand = 0);

  // Sets the flags and returns what is left. Errors: kInvalidArgument with the text to show.
  absl::StatusOr<std::vector<std::string>> Parse(absl::Span<const std::string> args);
  // Sets one flag, as an environment variable does. Errors: kNotFound, kInvalidArgument (the reason alone).
  absl::Status Set(std::string_view name, std::string_view value);

  bool Changed(std::string_view name) const;
  // How many of the arguments that Parse returned stood before "--"; empty if there was none.
  std::optional<size_t> args_before_dash() const { return args_before_dash_; }
  // Whether the word after this one (a flag as it is written) is the flag's value.
  bool TakesNextWord(std::string_view word);
  std::vector<std::string> Names() const;
  // One line a flag, for the help text.
  std::string Usage() const;

 private:
  enum class Type { kBool, kInt64, kString, kDuration, kStringList };
  struct Flag {
    std::string name;
    char shorthand;
    Type type;
    void* target;
    std::string help;
    std::string default_text;
    bool changed = false;
  };

  void Add(std::string_view name, char shorthand, Type type, void* target, std::string_view help);
  Flag* Find(std::string_view name);
  Flag* FindShorthand(char shorthand);
  static absl::Status Assign(Flag& flag, std::string_view value);
  static std::string Text(const Flag& flag);
  static absl::Status AssignNamed(Flag& flag, std::string_view value);
  absl::Status ParseLong(absl::Span<const std::string> args, size_t* i);
  absl::Status ParseShort(absl::Span<const std::string> args, size_t* i);

  std::vector<Flag> flags_;
  std::optional<size_t> args_before_dash_;
};

// Go's strconv.ParseInt(text, base, 64) with its error texts.
absl::StatusOr<int64_t> ParseGoInt(std::string_view text, int base);
// strconv.ParseUint(text, 16, 64), for the IDs of members.
absl::StatusOr<uint64_t> ParseGoHex(std::string_view text);

}  // namespace kvd::ctl
