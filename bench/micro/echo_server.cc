// The front door with one unary method that does nothing, to measure what a call costs before any work is
// done:
//
//   echo_server 2390 1 &        port, I/O threads; any third argument answers from another thread
//   h2load -n 1000000 -c 16 -m 32 -d request.bin -H 'content-type: application/grpc' -H 'te: trailers'
//     http://127.0.0.1:2390/bench.Echo/Call
//
// request.bin: a zero byte, four bytes of length (big-endian), and as many bytes of message. The CPU time
// used is printed at the end (SIGINT or SIGTERM).
#include <signal.h>
#include <sys/resource.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/executor.h"
#include "net/grpc_server.h"

int main(int argc, char** argv) {
  using namespace kvd;  // NOLINT: a program, not a header
  if (argc < 3) {
    std::fprintf(stderr, "usage: echo_server PORT THREADS [foreign]\n");
    return 2;
  }
  bool foreign = argc > 3;
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);
  sigprocmask(SIG_BLOCK, &ends, nullptr);

  base::ThreadExecutor worker("worker");
  net::IoThreads threads(std::atoi(argv[2]));
  net::FrontDoor door(threads);
  std::atomic<uint64_t> calls{0};
  door.RegisterUnary("/bench.Echo/Call", [&](net::UnaryCall call) {
    calls.fetch_add(1, std::memory_order_relaxed);
    if (foreign) {
      worker.Post([call = std::move(call)] { call.Reply(std::string(call.request())); });
    } else {
      call.Reply(std::string(call.request()));
    }
  });
  auto port = door.Listen("127.0.0.1", static_cast<uint16_t>(std::atoi(argv[1])));
  if (!port.ok()) {
    std::fprintf(stderr, "%s\n", port.status().ToString().c_str());
    return 1;
  }
  door.Start();
  int signal = 0;
  sigwait(&ends, &signal);
  door.Shutdown(std::chrono::seconds(1));
  worker.Stop();
  threads.Stop();

  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  double cpu_us =
      (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
  uint64_t n = calls.load();
  std::printf("%llu calls, %.2f us of CPU each\n", static_cast<unsigned long long>(n),
              n == 0 ? 0.0 : cpu_us / static_cast<double>(n));
}
