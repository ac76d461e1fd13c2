#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <thread>

#include "absl/strings/str_join.h"
#include "base/key_interval.h"
#include "base/strings.h"
#include "command.h"
#include "go_format.h"
#include "line_parser.h"
#include "watch_stream.h"

namespace kvd::ctl {
namespace {

using etcdserverpb::WatchCreateRequest;
using etcdserverpb::WatchResponse;

// The words and flags of one watcher.
class WatchWords {
 public:
  void DefineFlags(FlagSet& flags) {
    flags.Bool("prefix", &prefix_, "every key with this prefix");
    flags.Int64("rev", &revision_, "revision to start at");
    flags.Bool("prev-kv", &prev_kv_, "show the record that each event replaces");
    flags.Bool("progress-notify", &progress_notify_,
               "show how far the watcher has come while nothing happens");
  }

  // `args` as Parse gave them, `dash` as args_before_dash() is. The key may come from the environment
  // instead.
  Exit Build(const std::vector<std::string>& args, std::optional<size_t> dash, const Environment& env,
             WatchCreateRequest* request, std::vector<std::string>* exec) const {
    const std::string env_key = FromEnv(env, "WATCH_KEY"), env_end = FromEnv(env, "WATCH_RANGE_END");
    std::vector<std::string> keys(args.begin(),
                                  args.begin() + static_cast<ptrdiff_t>(dash.value_or(args.size())));
    exec->assign(args.begin() + static_cast<ptrdiff_t>(keys.size()), args.end());
    if (dash.has_value() && exec->empty()) {
      return Fail(kExitBadArgs, "bad number of arguments (found separator --, but no commands)");
    }
    if (!env_key.empty()) {
      if (!keys.empty())
        return Fail(kExitBadArgs, "bad number of arguments (found conflicting environment key)");
      keys = {env_key};
      if (!env_end.empty()) keys.push_back(env_end);
    } else if (!env_end.empty()) {
      return Fail(kExitBadArgs, base::StrCat("ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END=",
                                             Quote(env_end)));
    }
    if (keys.empty() || keys.size() > 2) return Fail(kExitBadArgs, "bad number of arguments");
    if (keys.size() == 2 && prefix_) {
      return Fail(kExitBadArgs, "`range_end` and `--prefix` are mutually exclusive");
    }
    request->set_key(keys[0]);
    if (keys.size() == 2) request->set_range_end(keys[1]);
    if (prefix_) request->set_range_end(base::PrefixRangeEnd(keys[0]));
    request->set_start_revision(revision_);
    request->set_prev_kv(prev_kv_);
    request->set_progress_notify(progress_notify_);
    return Success();
  }

 private:
  static std::string FromEnv(const Environment& env, const std::string& name) {
    const std::string own = env(base::StrCat("KVCTL_", name)).value_or("");
    return own.empty() ? env(base::StrCat("ETCDCTL_", name)).value_or("") : own;
  }

  bool prefix_ = false;
  int64_t revision_ = 0;
  bool prev_kv_ = false;
  bool progress_notify_ = false;
};

// Why a watcher was cancelled.
std::string CancelReason(const WatchResponse& response) {
  if (response.compact_revision() != 0) return "etcdserver: mvcc: required revision has been compacted";
  if (!response.cancel_reason().empty()) return response.cancel_reason();
  return "etcdserver: mvcc: required revision is a future revision";
}

// Runs a command for one event, its particulars in the environment; false if it fails.
bool RunForEvent(const std::vector<std::string>& command, int64_t revision, const mvccpb::Event& event,
                 std::ostream& err) {
  std::vector<char*> words;
  words.reserve(command.size() + 1);
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  const std::string type = Quote(event.type() == mvccpb::Event::PUT ? "PUT" : "DELETE");
  const std::string key = Quote(event.kv().key()), value = Quote(event.kv().value());
  const std::string revision_text = base::StrCat(revision);
  const pid_t child = fork();
  if (child == 0) {
    setenv("ETCD_WATCH_REVISION", revision_text.c_str(), 1);
    setenv("ETCD_WATCH_EVENT_TYPE", type.c_str(), 1);
    setenv("ETCD_WATCH_KEY", key.c_str(), 1);
    setenv("ETCD_WATCH_VALUE", value.c_str(), 1);
    execvp(words[0], words.data());
    _exit(127);
  }
  int status = 0;
  if (child > 0 && waitpid(child, &status, 0) == child && status == 0) return true;
  const std::string reason = status == 127 << 8 ? "executable file not found in $PATH"
                                                : base::StrCat("exit status ", WEXITSTATUS(status));
  err << "command ["
      << absl::StrJoin(command, " ",
                       [](std::string* to, const std::string& word) { to->append(Quote(word)); })
      << "] error (" << reason << ")\n";
  return false;
}

class WatchCommand final : public Command {
 public:
  void DefineFlags(FlagSet& flags) override {
    flags_ = &flags;
    flags.Bool("interactive", &interactive_, "take `watch` and `progress` lines from stdin", 'i');
    words_.DefineFlags(flags);
  }

  Exit Run(Session& session, const std::vector<std::string>& args) override {
    WatchStream stream(session.client(), session.options().command_timeout,
                       [&](size_t watcher, const WatchResponse& response) {
                         return Show(session, exec_[watcher], response);
                       });
    return interactive_ ? Interactive(session, stream) : Single(session, stream, args);
  }

 private:
  Exit Single(Session& session, WatchStream& stream, const std::vector<std::string>& args) {
    WatchCreateRequest request;
    if (Exit exit =
            words_.Build(args, flags_->args_before_dash(), session.env(), &request, &exec_.emplace_back());
        !exit.ok()) {
      return exit;
    }
    stream.Add(request);
    const grpc::Status status = stream.Run();
    if (command_failed_) return Fail(kExitError, "");
    if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED)
      return FailedCall(status, kExitBadConnection);
    if (!status.ok()) session.err() << "watch was canceled (" << ErrorText(status) << ")\n";
    return Fail(kExitInterrupted, "watch is canceled by the server");
  }

  // Reads lines here while the stream is served beside.
  Exit Interactive(Session& session, WatchStream& stream) {
    std::thread server;
    Exit exit = Success();
    std::string line;
    while (exit.ok() && std::getline(session.in(), line) && !session.in().eof()) {
      const std::vector<std::string> words = SplitWords(line);
      if (words.empty()) {
        session.err() << "Invalid command: " << line << " (watch and progress supported)\n";
      } else if (words[0] == "progress") {
        stream.RequestProgress();
      } else if (words[0] == "watch") {
        exit = AddLine(session, stream, words);
        if (exit.ok() && !server.joinable()) server = std::thread([&] { Serve(session, stream); });
      } else {
        session.err() << "Invalid command " << line << " (only support watch)\n";
      }
    }
    stream.Stop();
    if (server.joinable()) server.join();
    return exit.ok() ? Fail(kExitInvalidInput, "error reading watch request line: EOF") : exit;
  }

  Exit AddLine(Session& session, WatchStream& stream, const std::vector<std::string>& words) {
    WatchWords line_words;
    FlagSet flags;
    line_words.DefineFlags(flags);
    const auto args = flags.Parse(absl::MakeConstSpan(words).subspan(1));
    if (!args.ok()) return Fail(kExitBadArgs, std::string(args.status().message()));
    WatchCreateRequest request;
    std::vector<std::string> exec;
    if (Exit exit = line_words.Build(*args, flags.args_before_dash(), session.env(), &request, &exec);
        !exit.ok()) {
      return exit;
    }
    {
      base::MutexLock lock(mutex_);
      exec_.push_back(std::move(exec));
    }
    stream.Add(request);
    return Success();
  }

  static void Serve(Session& session, WatchStream& stream) {
    const grpc::Status status = stream.Run();
    if (!status.ok()) session.err() << "watch was canceled (" << ErrorText(status) << ")\n";
  }

  bool Show(Session& session, const std::vector<std::string>& command, const WatchResponse& response) {
    const bool progress = response.events_size() == 0 && !response.canceled() && !response.created() &&
                          response.compact_revision() == 0 && response.header().revision() != 0;
    if (response.canceled()) session.err() << "watch was canceled (" << CancelReason(response) << ")\n";
    if (progress) session.out() << "progress notify: " << response.header().revision() << "\n";
    const Exit exit = session.printer().Watch(response);
    session.out().flush();
    if (!exit.ok()) {
      session.err() << "Error: " << exit.message << "\n";
      return false;
    }
    for (const mvccpb::Event& event : response.events()) {
      if (command.empty()) break;
      if (RunForEvent(command, response.header().revision(), event, session.err())) continue;
      command_failed_ = true;
      return false;
    }
    return true;
  }

  FlagSet* flags_ = nullptr;
  bool interactive_ = false;
  WatchWords words_;
  base::Mutex mutex_;
  std::vector<std::vector<std::string>> exec_;  // by the watcher's number
  bool command_failed_ = false;
};

}  // namespace

std::vector<CommandEntry> WatchCommands() {
  return {{"watch", "KEY [RANGE_END] [-- COMMAND...]", "show the changes of keys as they happen",
           [] { return std::make_unique<WatchCommand>(); }}};
}

}  // namespace kvd::ctl
