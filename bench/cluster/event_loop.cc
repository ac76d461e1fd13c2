#include "event_loop.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <ctime>

#include "base/check.h"
#include "base/clock.h"

namespace kvd::bench {
namespace {

constexpr uint64_t kNsPerSecond = 1'000'000'000;

void Control(int epoll, int operation, int fd, EventLoop::Source* source, bool want_write) {
  epoll_event event{};
  event.events = EPOLLIN | (want_write ? static_cast<uint32_t>(EPOLLOUT) : 0U);
  event.data.ptr = source;
  KVD_CHECK(epoll_ctl(epoll, operation, fd, &event) == 0, "epoll_ctl");
}

}  // namespace

uint64_t NowNs() {
  static base::Clock& clock = base::SystemClock();
  return static_cast<uint64_t>(clock.Monotonic().count());
}

EventLoop::EventLoop() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  KVD_CHECK(epoll_ >= 0, "epoll_create1");
}

EventLoop::~EventLoop() {
  close(epoll_);
}

void EventLoop::Add(int fd, Source* source, bool want_write) {
  Control(epoll_, EPOLL_CTL_ADD, fd, source, want_write);
}

void EventLoop::Change(int fd, Source* source, bool want_write) {
  Control(epoll_, EPOLL_CTL_MOD, fd, source, want_write);
}

void EventLoop::Remove(int fd, Source* source) {
  Control(epoll_, EPOLL_CTL_DEL, fd, source, false);
  std::erase(dirty_, source);
  std::replace(flushing_.begin(), flushing_.end(), source, static_cast<Source*>(nullptr));
}

void EventLoop::FlushAll() {
  while (!dirty_.empty()) {
    flushing_.swap(dirty_);
    for (size_t i = 0; i < flushing_.size(); ++i) {
      if (flushing_[i] != nullptr) flushing_[i]->Flush();
    }
    flushing_.clear();
  }
}

void EventLoop::RunOnce(uint64_t deadline_ns) {
  FlushAll();
  std::array<epoll_event, 256> events;
  timespec timeout{};
  if (deadline_ns != kNever) {
    const uint64_t now = NowNs();
    const uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
    timeout.tv_sec = static_cast<time_t>(left / kNsPerSecond);
    timeout.tv_nsec = static_cast<long>(left % kNsPerSecond);  // NOLINT: the type that timespec has
  }
  const int n = epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()),
                             deadline_ns == kNever ? nullptr : &timeout, nullptr);
  for (int i = 0; i < n; ++i) {
    // No source ends while events are handed out: connections end between two rounds.
    static_cast<Source*>(events[i].data.ptr)->OnReady(events[i].events);
  }
}

}  // namespace kvd::bench
