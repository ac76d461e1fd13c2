// Commands and how they are found and run.
#pragma once

#include <functional>
#include <istream>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "client.h"
#include "exit.h"
#include "flag_set.h"
#include "options.h"
#include "printer.h"

namespace kvd::ctl {

// Where a command reads and writes.
struct Streams {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
};

// What one run of the program has; made for one command.
class Session {
 public:
  Session(const GlobalOptions& options, Environment env, Streams streams)
      : options_(options), env_(std::move(env)), streams_(streams) {}

  const GlobalOptions& options() const { return options_; }
  const Environment& env() const { return env_; }
  std::istream& in() { return streams_.in; }
  std::ostream& out() { return streams_.out; }
  std::ostream& err() { return streams_.err; }

  // Before client() and printer() are used. kExitBadFeature for an unknown format, kExitBadArgs for a client
  // that cannot be made.
  Exit Open();
  Client& client() { return *client_; }
  Printer& printer() { return *printer_; }
  // A printer of the same format with other options.
  std::unique_ptr<Printer> MakePrinterWith(PrintOptions options);

 private:
  const GlobalOptions& options_;
  Environment env_;
  Streams streams_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<Printer> printer_;
};

class Command {
 public:
  virtual ~Command() = default;
  // Adds the command's own flags; they point into the command.
  virtual void DefineFlags(FlagSet&) {}
  // `args` are the words after the command that are no flags.
  virtual Exit Run(Session& session, const std::vector<std::string>& args) = 0;
  // Whether Session::Open comes before Run.
  virtual bool needs_client() const { return true; }
};

struct CommandEntry {
  std::string name;  // "put", "lease grant"
  std::string arguments;
  std::string help;
  std::function<std::unique_ptr<Command>()> make;
};

// Each group of commands is a file of its own.
std::vector<CommandEntry> KvCommands();
std::vector<CommandEntry> TxnCommands();
std::vector<CommandEntry> WatchCommands();
std::vector<CommandEntry> LeaseCommands();
std::vector<CommandEntry> AlarmCommands();
std::vector<CommandEntry> MemberCommands();
std::vector<CommandEntry> MemberWalkCommands();
std::vector<CommandEntry> LeaderCommands();
std::vector<CommandEntry> SnapshotCommands();
std::vector<CommandEntry> LockCommands();
std::vector<CommandEntry> EndpointCommands();
std::vector<CommandEntry> VersionCommands();

// Runs a command line (without the program's name) and returns the exit code.
int RunCommandLine(const std::vector<std::string>& args, const Environment& env, Streams streams);

// A failed call as the end of a command.
Exit FailedCall(const grpc::Status& status, int code = kExitError);

}  // namespace kvd::ctl
