#include "command.h"

#include <unistd.h>

#include <algorithm>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/strings.h"
#include "go_format.h"

namespace kvd::ctl {
namespace {

std::vector<CommandEntry> AllCommands() {
  std::vector<CommandEntry> all;
  for (auto* group : {&KvCommands, &TxnCommands, &WatchCommands, &LeaseCommands, &AlarmCommands,
                      &MemberCommands, &MemberWalkCommands, &LeaderCommands, &SnapshotCommands, &LockCommands,
                      &EndpointCommands, &VersionCommands}) {
    for (CommandEntry& entry : group()) all.push_back(std::move(entry));
  }
  return all;
}

// The entries whose word number `depth` is `word`, or, if none is, those that share one word that starts with
// it.
std::vector<CommandEntry> Narrow(const std::vector<CommandEntry>& entries, size_t depth,
                                 const std::string& word) {
  const auto word_of = [depth](const CommandEntry& entry) -> std::string {
    const std::vector<std::string> words = absl::StrSplit(entry.name, ' ');
    return depth < words.size() ? words[depth] : "";
  };
  std::vector<CommandEntry> exact, by_prefix;
  for (const CommandEntry& entry : entries) {
    if (word_of(entry) == word) exact.push_back(entry);
    if (word_of(entry).starts_with(word)) by_prefix.push_back(entry);
  }
  if (!exact.empty() || by_prefix.empty()) return exact;
  const bool one_word = std::all_of(by_prefix.begin(), by_prefix.end(), [&](const CommandEntry& entry) {
    return word_of(entry) == word_of(by_prefix.front());
  });
  return one_word ? by_prefix : std::vector<CommandEntry>();
}

// A command line taken apart: which command, and the words that are not its name.
struct Found {
  std::vector<CommandEntry> candidates;
  size_t depth = 0;  // words of the name that were given
  std::vector<std::string> rest;
  std::string unknown;

  bool IsCommand() const {
    return unknown.empty() && candidates.size() == 1 &&
           std::vector<std::string>(absl::StrSplit(candidates[0].name, ' ')).size() == depth;
  }
};

Found FindCommand(const std::vector<std::string>& args, FlagSet& flags) {
  Found found;
  found.candidates = AllCommands();
  bool value_follows = false, flags_ended = false;
  for (const std::string& arg : args) {
    flags_ended = flags_ended || arg == "--";
    const bool word = !value_follows && !flags_ended && !arg.starts_with("-");
    value_follows = !value_follows && !flags_ended && flags.TakesNextWord(arg);
    if (!word || found.IsCommand() || !found.unknown.empty()) {
      found.rest.push_back(arg);
      continue;
    }
    if (found.depth == 0 && arg == "help") continue;
    std::vector<CommandEntry> narrowed = Narrow(found.candidates, found.depth, arg);
    if (narrowed.empty()) {
      found.unknown = arg;
      continue;
    }
    found.candidates = std::move(narrowed);
    ++found.depth;
  }
  return found;
}

void PrintCommands(const std::vector<CommandEntry>& entries, std::ostream& out) {
  for (const CommandEntry& entry : entries) {
    std::string name = entry.name;
    name.resize(std::max<size_t>(name.size() + 2, 22), ' ');
    out << "  " << name << entry.help << "\n";
  }
}

void PrintHelp(const Found& found, std::ostream& out) {
  GlobalOptions defaults;
  FlagSet global;
  defaults.Define(global);
  if (!found.IsCommand()) {
    out << "kvctl - a client of etcd and kvd clusters\n\nUsage:\n  kvctl COMMAND [flags]\n\nCommands:\n";
    PrintCommands(found.candidates, out);
  } else {
    const CommandEntry& entry = found.candidates[0];
    const std::unique_ptr<Command> command = entry.make();
    FlagSet own;
    command->DefineFlags(own);
    out << entry.help << "\n\nUsage:\n  kvctl " << entry.name << " " << entry.arguments << " [flags]\n";
    if (!own.Names().empty()) out << "\nFlags:\n" << own.Usage();
  }
  out << "\nFlags of every command:\n" << global.Usage();
}

int Report(const Exit& exit, std::ostream& err) {
  if (!exit.message.empty()) err << "Error: " << exit.message << "\n";
  return exit.code;
}

std::optional<int> CheckApiVersion(const Environment& env, std::ostream& err) {
  const std::string version = env("ETCDCTL_API").value_or("3");
  if (version.empty() || version == "3") return std::nullopt;
  err << "unsupported API version: " << version << "\n";
  return kExitError;
}

void AskPassword(GlobalOptions& options) {
  if (options.user.empty() || !options.password.empty() || absl::StrContains(options.user, ':')) return;
  if (const char* password = getpass("Password: "); password != nullptr) options.password = password;
}

Exit RunFound(const CommandEntry& entry, const std::vector<std::string>& words, const Environment& env,
              Streams streams, bool* help) {
  GlobalOptions options;
  FlagSet flags;
  options.Define(flags);
  const std::vector<std::string> global_names = flags.Names();
  flags.Bool("help", help, "show this text", 'h');
  const std::unique_ptr<Command> command = entry.make();
  command->DefineFlags(flags);

  const absl::StatusOr<std::vector<std::string>> args = flags.Parse(words);
  if (!args.ok()) {
    return Fail(kExitError,
                base::StrCat(args.status().message(), "\nRun 'kvctl ", entry.name, " --help' for usage."));
  }
  if (*help) return Success();
  if (absl::Status status = ApplyEnvironment(global_names, env, flags); !status.ok()) {
    return Fail(kExitError, std::string(status.message()));
  }
  if (options.debug) {
    for (const std::string& endpoint : options.endpoints) streams.err << "endpoint: " << endpoint << "\n";
    setenv("GRPC_VERBOSITY", "DEBUG", 1);
  }
  AskPassword(options);
  Session session(options, env, streams);
  if (command->needs_client()) {
    if (Exit exit = session.Open(); !exit.ok()) return exit;
  }
  return command->Run(session, *args);
}

}  // namespace

Exit Session::Open() {
  printer_ = MakePrinterWith({.hex = options_.hex});
  if (printer_ == nullptr) return Fail(kExitBadFeature, "unsupported output format");
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Create(options_);
  if (!client.ok()) return Fail(kExitBadArgs, std::string(client.status().message()));
  client_ = *std::move(client);
  return Success();
}

std::unique_ptr<Printer> Session::MakePrinterWith(PrintOptions options) {
  return MakePrinter(options_.write_out, options, streams_.out);
}

Exit FailedCall(const grpc::Status& status, int code) {
  return Fail(code, ErrorText(status));
}

int RunCommandLine(const std::vector<std::string>& args, const Environment& env, Streams streams) {
  if (const std::optional<int> code = CheckApiVersion(env, streams.err)) return *code;
  GlobalOptions defaults;
  FlagSet global;
  defaults.Define(global);
  const Found found = FindCommand(args, global);
  if (!found.unknown.empty()) {
    return Report(Fail(kExitError, base::StrCat("unknown command ", Quote(found.unknown),
                                                " for \"kvctl\"\nRun 'kvctl --help' for usage.")),
                  streams.err);
  }
  bool help = !args.empty() && args[0] == "help";
  if (!found.IsCommand() || help) {
    PrintHelp(found, streams.out);
    return kExitSuccess;
  }
  const Exit exit = RunFound(found.candidates[0], found.rest, env, streams, &help);
  if (help) PrintHelp(found, streams.out);
  streams.out.flush();
  return Report(exit, streams.err);
}

}  // namespace kvd::ctl
