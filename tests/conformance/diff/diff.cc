// Random programs on two servers side by side: every answer, error, event and HashKV must be equal, but for
// what the table in rules.cc lists. A difference is shrunk to a short program and printed.
//
//   conformance_diff LEFT RIGHT OPERATIONS SEED       exit code 0: equal; 1: not

#include <cstdio>
#include <cstdlib>

#include "runner.h"

namespace kvd::diff {
namespace {

constexpr int kProgramSteps = 250;
constexpr std::chrono::seconds kShrinkLimit(60);

int Main(const char* left, const char* right, uint64_t operations, uint64_t seed) {
  Runner runner(left, right);
  uint64_t done = 0;
  for (uint64_t number = 0; done < operations; ++number, done += kProgramSteps) {
    Generator generator(seed + number);
    Program program = generator.Make(kProgramSteps);
    std::optional<Difference> difference = runner.Run(program);
    if (!difference) continue;
    std::printf("seed %llu: step %zu\n%s\n\nshrinking...\n", static_cast<unsigned long long>(seed) + number,
                difference->step, difference->what.c_str());
    std::fflush(stdout);
    program = runner.Shrink(std::move(program), kShrinkLimit);
    std::printf("the shortest program found (revisions count from its beginning):\n");
    for (const Step& step : program) std::printf("  %.1500s\n", ToString(step).c_str());
    difference = runner.Run(program);
    std::printf("%s\n", difference ? difference->what.c_str() : "and this time there is no difference");
    return 1;
  }
  std::printf("%llu operations equal: %llu calls, %llu of them refused, %llu events; known differences:\n",
              static_cast<unsigned long long>(done), static_cast<unsigned long long>(runner.calls()),
              static_cast<unsigned long long>(runner.errors()),
              static_cast<unsigned long long>(runner.events()));
  runner.rules().PrintUses();
  return 0;
}

}  // namespace
}  // namespace kvd::diff

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: conformance_diff LEFT RIGHT OPERATIONS SEED\n");
    return 2;
  }
  return kvd::diff::Main(argv[1], argv[2], std::strtoull(argv[3], nullptr, 10),
                         std::strtoull(argv[4], nullptr, 10));
}
