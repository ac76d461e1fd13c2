#include "base/sim_executor.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace kvd::base {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Three executors that post to one another and set timers; what ran, in order.
std::string Play(uint64_t seed, uint64_t* hash) {
  SimScheduler world(seed);
  auto a = world.NewExecutor("a"), b = world.NewExecutor("b"), c = world.NewExecutor("c");
  std::string ran;
  for (int i = 0; i < 5; ++i) {
    a->Post([&, i] {
      ran += "a" + std::to_string(i);
      b->Post([&, i] { ran += "b" + std::to_string(i); });
    });
    c->Post([&, i] { ran += "c" + std::to_string(i); });
    b->PostAfter(milliseconds(10 - i), [&, i] { ran += "t" + std::to_string(i); });
  }
  world.RunFor(seconds(1));
  *hash = world.TraceHash();
  return ran;
}

TEST(SimScheduler, OneSeed_IsOneSchedule) {
  uint64_t first, second;
  const std::string ran = Play(1, &first);
  EXPECT_EQ(Play(1, &second), ran);
  EXPECT_EQ(first, second);
  bool other_order = false, other_hash = false;
  for (uint64_t seed = 2; seed < 10; ++seed) {
    uint64_t hash;
    other_order |= Play(seed, &hash) != ran;
    other_hash |= hash != first;
  }
  EXPECT_TRUE(other_order);
  EXPECT_TRUE(other_hash);
}

TEST(SimScheduler, Executor_KeepsTheOrderOfPost) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SimScheduler world(seed);
    auto a = world.NewExecutor("a"), b = world.NewExecutor("b");
    std::vector<int> ran;
    for (int i = 0; i < 20; ++i) {
      a->Post([&ran, i] { ran.push_back(i); });
      b->Post([] {});
    }
    while (world.RunOne()) {
    }
    for (int i = 0; i < 20; ++i) ASSERT_EQ(ran[static_cast<size_t>(i)], i);
  }
}

TEST(SimScheduler, Time_MovesOnlyToWhatIsDue) {
  SimScheduler world(1);
  auto a = world.NewExecutor("a");
  const Nanos start = world.clock().Monotonic();
  std::vector<Nanos> ran;
  a->PostAfter(seconds(5), [&] { ran.push_back(a->clock().Monotonic() - start); });
  a->PostAfter(seconds(2), [&] {
    ran.push_back(a->clock().Monotonic() - start);
    a->Post([&] { ran.push_back(a->clock().Monotonic() - start); });
  });
  world.RunFor(seconds(4));
  EXPECT_EQ(ran, (std::vector<Nanos>{seconds(2), seconds(2)}));
  EXPECT_EQ(world.clock().Monotonic() - start, seconds(4));
  EXPECT_TRUE(world.RunOne());
  EXPECT_EQ(world.clock().Monotonic() - start, seconds(5));
  EXPECT_FALSE(world.RunOne());
}

TEST(SimScheduler, RunUntil_StopsWhenDoneOrAtTheLimit) {
  SimScheduler world(1);
  auto a = world.NewExecutor("a");
  int ticks = 0;
  std::function<void()> tick = [&] {
    ++ticks;
    a->PostAfter(milliseconds(100), [&] { tick(); });
  };
  tick();
  EXPECT_TRUE(world.RunUntil([&] { return ticks == 4; }, seconds(10)));
  EXPECT_EQ(ticks, 4);
  const Nanos now = world.clock().Monotonic();
  EXPECT_FALSE(world.RunUntil([&] { return ticks == 1000; }, seconds(1)));
  EXPECT_EQ(world.clock().Monotonic() - now, seconds(1));
  EXPECT_EQ(ticks, 14);
}

TEST(SimExecutor, Cancel_AndIsCurrent) {
  SimScheduler world(1);
  auto a = world.NewExecutor("a"), b = world.NewExecutor("b");
  const Executor::TimerId id = a->PostAfter(seconds(1), [] { FAIL(); });
  EXPECT_TRUE(a->Cancel(id));
  EXPECT_FALSE(a->Cancel(id));
  bool ran = false;
  a->Post([&] {
    ran = true;
    EXPECT_TRUE(a->IsCurrent());
    EXPECT_FALSE(b->IsCurrent());
  });
  world.RunFor(seconds(2));
  EXPECT_TRUE(ran);
  EXPECT_FALSE(a->IsCurrent());
}

TEST(SimExecutor, Destroyed_DropsItsTasks) {
  SimScheduler world(1);
  auto a = world.NewExecutor("a"), b = world.NewExecutor("b");
  bool ran = false;
  a->Post([] { FAIL(); });
  a->PostAfter(seconds(1), [] { FAIL(); });
  b->Post([&] { ran = true; });
  a.reset();
  world.RunFor(seconds(2));
  EXPECT_TRUE(ran);
}

TEST(SimExecutor, MayDestroyItselfFromWithinATask) {
  SimScheduler world(1);
  auto a = world.NewExecutor("a");
  a->Post([&] { a.reset(); });
  a->Post([] { FAIL(); });
  world.RunFor(seconds(1));
  EXPECT_EQ(a, nullptr);
}

}  // namespace
}  // namespace kvd::base
