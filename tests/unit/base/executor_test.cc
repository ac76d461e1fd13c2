#include "base/executor.h"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <memory>
#include <thread>
#include <vector>

namespace kvd::base {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

TEST(ThreadExecutor, Post_RunsInOrder) {
  ThreadExecutor executor("order");
  std::vector<int> ran;
  std::latch done(1);
  for (int i = 0; i < 1000; ++i) executor.Post([&ran, i] { ran.push_back(i); });
  executor.Post([&] { done.count_down(); });
  done.wait();
  ASSERT_EQ(ran.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(ran[static_cast<size_t>(i)], i);
}

TEST(ThreadExecutor, Post_FromManyThreads_LosesNothing) {
  constexpr int kThreads = 4, kTasks = 5000;
  ThreadExecutor executor("many");
  int ran = 0;  // on the executor only
  std::latch done(1);
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kTasks; ++i) {
        executor.Post([&] {
          if (++ran == kThreads * kTasks) done.count_down();
        });
      }
    });
  }
  for (std::thread& t : threads) t.join();
  done.wait();
  EXPECT_EQ(ran, kThreads * kTasks);
}

TEST(ThreadExecutor, OfThisThread_IsThatOfTheThread_WhoeversTaskRuns) {
  EXPECT_EQ(Executor::OfThisThread(), nullptr);
  ThreadExecutor executor("own"), other("other");
  std::latch done(1);
  executor.Post([&] {
    EXPECT_EQ(Executor::OfThisThread(), &executor);
    other.PostOrRun([&, here = std::this_thread::get_id()] {
      const bool lent = std::this_thread::get_id() == here;
      EXPECT_EQ(Executor::OfThisThread(), lent ? &executor : &other);
      done.count_down();
    });
  });
  done.wait();
  executor.Stop();
  other.Stop();
}

// Until the executor's thread waits: only then is a task run by whoever brings it.
void AwaitIdle(ThreadExecutor& executor) {
  std::thread::id ran_by;
  do {
    std::latch done(1);
    executor.PostOrRun([&] {
      ran_by = std::this_thread::get_id();
      done.count_down();
    });
    done.wait();
  } while (ran_by != std::this_thread::get_id());
}

TEST(ThreadExecutor, PostOrRun_RunsHereWhenIdle) {
  ThreadExecutor executor("idle"), other("other");
  AwaitIdle(executor);
  bool current = false, current_of_other = true, ran = false;
  executor.PostOrRun([&] {
    current = executor.IsCurrent();
    current_of_other = other.IsCurrent();
    ran = true;
  });
  EXPECT_TRUE(ran);
  EXPECT_TRUE(current);
  EXPECT_FALSE(current_of_other);
  EXPECT_FALSE(executor.IsCurrent());
}

TEST(ThreadExecutor, PostOrRun_WithinATaskOfAnother_GivesTheThreadBack) {
  ThreadExecutor inner("inner"), outer("outer");
  AwaitIdle(inner);
  std::latch done(1);
  bool before = false, after = false;
  outer.Post([&] {
    inner.PostOrRun([&] { before = inner.IsCurrent() && !outer.IsCurrent(); });
    after = outer.IsCurrent() && !inner.IsCurrent();
    done.count_down();
  });
  done.wait();
  EXPECT_TRUE(before);
  EXPECT_TRUE(after);
}

TEST(ThreadExecutor, PostOrRun_OneTaskAtATime_InOrder) {
  constexpr int kThreads = 4, kTasks = 20'000;
  ThreadExecutor executor("loans");
  std::atomic<int> inside{0};
  std::vector<int> last(kThreads, -1);  // within tasks only
  int ran = 0;
  std::latch done(1);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kTasks; ++i) {
        auto task = [&, t, i] {
          EXPECT_EQ(inside.fetch_add(1), 0);
          EXPECT_EQ(last[static_cast<size_t>(t)], i - 1);
          last[static_cast<size_t>(t)] = i;
          inside.fetch_sub(1);
          if (++ran == kThreads * kTasks) done.count_down();
        };
        if (i % 3 == 0) {
          executor.Post(std::move(task));
        } else {
          executor.PostOrRun(std::move(task));
        }
      }
    });
  }
  for (std::thread& t : threads) t.join();
  done.wait();
  EXPECT_EQ(ran, kThreads * kTasks);
}

// A timer that is set, or due, while another thread runs a task is not forgotten.
TEST(ThreadExecutor, PostOrRun_TimersStillRun) {
  ThreadExecutor executor("timers");
  executor.PostAfter(hours(1), [] {});
  for (int i = 0; i < 50; ++i) {
    std::latch set_within(1), due_meanwhile(1);
    executor.PostAfter(milliseconds(1), [&] { due_meanwhile.count_down(); });
    AwaitIdle(executor);
    executor.PostOrRun([&] {
      executor.PostAfter(milliseconds(1), [&] { set_within.count_down(); });
      std::this_thread::sleep_for(milliseconds(2));
    });
    set_within.wait();
    due_meanwhile.wait();
  }
}

TEST(ThreadExecutor, Stop_WaitsForWhoeverRunsATask) {
  for (int i = 0; i < 20; ++i) {
    auto executor = std::make_unique<ThreadExecutor>("stopped");
    AwaitIdle(*executor);
    std::latch begun(1);
    std::atomic<bool> ended{false};
    std::thread runs([&] {
      executor->PostOrRun([&] {
        begun.count_down();
        std::this_thread::sleep_for(milliseconds(2));
        ended = true;
      });
    });
    begun.wait();
    executor->Stop();
    EXPECT_TRUE(ended);
    runs.join();
    executor.reset();
  }
}

TEST(ThreadExecutor, IsCurrent_OnlyWithinItsTasks) {
  ThreadExecutor a("a"), b("b");
  EXPECT_FALSE(a.IsCurrent());
  std::latch done(1);
  a.Post([&] {
    EXPECT_TRUE(a.IsCurrent());
    EXPECT_FALSE(b.IsCurrent());
    done.count_down();
  });
  done.wait();
}

TEST(ThreadExecutor, PostAfter_RunsInOrderOfDeadlineAndNotEarly) {
  ThreadExecutor executor("timers");
  std::vector<int> ran;
  std::latch done(1);
  const Nanos start = executor.clock().Monotonic();
  Nanos finished{};
  executor.PostAfter(milliseconds(30), [&] {
    ran.push_back(3);
    finished = executor.clock().Monotonic();
    done.count_down();
  });
  executor.PostAfter(milliseconds(20), [&] { ran.push_back(2); });
  executor.PostAfter(milliseconds(-5), [&] { ran.push_back(1); });
  done.wait();
  EXPECT_EQ(ran, (std::vector<int>{1, 2, 3}));
  EXPECT_GE(finished - start, milliseconds(30));
}

TEST(ThreadExecutor, EarlierTimer_WakesAThreadThatSleepsForALaterOne) {
  ThreadExecutor executor("wake");
  std::latch done(1);
  executor.PostAfter(hours(10), [] { FAIL() << "hours have not passed"; });
  executor.PostAfter(milliseconds(5), [&] { done.count_down(); });
  done.wait();
}

TEST(ThreadExecutor, Cancel_TellsWhetherItWasInTime) {
  ThreadExecutor executor("cancel");
  std::latch ran(1);
  const Executor::TimerId late = executor.PostAfter(hours(1), [] { FAIL() << "cancelled"; });
  const Executor::TimerId soon = executor.PostAfter(milliseconds(1), [&] { ran.count_down(); });
  EXPECT_NE(late, 0u);
  EXPECT_TRUE(executor.Cancel(late));
  EXPECT_FALSE(executor.Cancel(late));
  ran.wait();
  EXPECT_FALSE(executor.Cancel(soon));
  EXPECT_FALSE(executor.Cancel(0));
}

TEST(ThreadExecutor, ManyCancelledTimers_LeaveTheOthersAlone) {
  ThreadExecutor executor("churn");
  std::atomic<int> ran{0};
  std::latch done(1);
  for (int i = 0; i < 10'000; ++i) {
    EXPECT_TRUE(executor.Cancel(executor.PostAfter(hours(1), [] { FAIL(); })));
    if (i % 1000 == 0) executor.PostAfter(milliseconds(1), [&] { ++ran; });
  }
  executor.PostAfter(milliseconds(20), [&] { done.count_down(); });
  done.wait();
  EXPECT_EQ(ran, 10);
}

TEST(ThreadExecutor, Stop_FinishesTheRunningTaskAndDropsTheRest) {
  auto executor = std::make_unique<ThreadExecutor>("stop");
  std::latch started(1), go_on(1);
  bool finished = false, dropped_ran = false;
  auto owned = std::make_shared<int>(1);
  std::weak_ptr<int> watch = owned;
  executor->Post([&] {
    started.count_down();
    go_on.wait();
    finished = true;
  });
  executor->Post([&, owned = std::move(owned)] { dropped_ran = true; });
  started.wait();
  std::thread stopper([&] { executor->Stop(); });
  // The second task is dropped only if Stop came before the first one ended; give it the time that takes.
  std::this_thread::sleep_for(milliseconds(20));
  go_on.count_down();
  stopper.join();
  executor->Stop();
  EXPECT_TRUE(finished);
  EXPECT_FALSE(dropped_ran);
  EXPECT_TRUE(watch.expired());
  executor->Post([&] { dropped_ran = true; });
  executor.reset();
  EXPECT_FALSE(dropped_ran);
}

TEST(ThreadExecutor, DroppedTask_MayPostAsItIsDestroyed) {
  struct PostsWhenDestroyed {
    explicit PostsWhenDestroyed(Executor* e) : executor(e) {}
    PostsWhenDestroyed(const PostsWhenDestroyed&) = delete;
    PostsWhenDestroyed& operator=(const PostsWhenDestroyed&) = delete;
    ~PostsWhenDestroyed() {
      executor->Post([] {});
    }
    Executor* executor;
  };
  ThreadExecutor executor("reentry");
  executor.PostAfter(hours(1), [p = std::make_unique<PostsWhenDestroyed>(&executor)] {});
  const Executor::TimerId id =
      executor.PostAfter(hours(1), [p = std::make_unique<PostsWhenDestroyed>(&executor)] {});
  EXPECT_TRUE(executor.Cancel(id));
  executor.Stop();
}

}  // namespace
}  // namespace kvd::base
