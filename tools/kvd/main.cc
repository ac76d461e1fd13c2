// kvd: one member of a replicated key-value store that speaks etcd's protocols.

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "server/member/member_process.h"

extern char** environ;

// jemalloc's settings (its TUNING.md; MALLOC_CONF in the environment goes before). Memory that a burst of
// writes has used goes back to the system within about a second, on a thread of jemalloc's own: by default it
// goes only while the same part of the heap is busy, and after a load half of a member's memory was such.
extern "C" {
[[gnu::used]] const char* malloc_conf = "background_thread:true,dirty_decay_ms:1000";
}

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
