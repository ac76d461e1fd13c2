// kvd: one member of a replicated key-value store that speaks etcd's protocols.

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "server/member/member_process.h"

extern char** environ;

int main(int argc, char** argv) {
  std::vector<std::string> args(argv + 1, argv + argc);
  std::vector<std::string> env;
  for (char** variable = environ; *variable != nullptr; ++variable) env.emplace_back(*variable);
  kvd::server::ParseResult parsed = kvd::server::ParseCommandLine(args, env);
  if (parsed.action == kvd::server::ParseResult::Action::kExit) {
    std::fputs(parsed.out.c_str(), stdout);
    std::fputs(parsed.err.c_str(), stderr);
    return parsed.exit_code;
  }
  int stopped_by = 0;
  int code = kvd::server::RunMember(parsed, &stopped_by);
  if (stopped_by != 0 && getpid() != 1) {
    // Ended by a signal, and the parent shall see so.
    signal(stopped_by, SIG_DFL);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, stopped_by);
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
    raise(stopped_by);
  }
  return code;
}
