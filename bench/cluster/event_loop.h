// The one thread of the load generator: epoll, and the connections that have something to send.
//
// Thread-safety: one thread. Ownership: the loop owns none of its sources; a source removes itself before it
// ends.
#pragma once

#include <cstdint>
#include <vector>

namespace kvd::bench {

// Nanoseconds of a clock that never goes back.
uint64_t NowNs();

inline constexpr uint64_t kNever = UINT64_MAX;

class EventLoop {
 public:
  class Source {
   public:
    virtual ~Source() = default;
    // `events` as epoll has them.
    virtual void OnReady(uint32_t events) = 0;
    // Called before the loop waits, once for each MarkDirty.
    virtual void Flush() = 0;
  };

  EventLoop();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  void Add(int fd, Source* source, bool want_write);
  void Change(int fd, Source* source, bool want_write);
  void Remove(int fd, Source* source);
  void MarkDirty(Source* source) { dirty_.push_back(source); }

  // Flushes, waits for events or until `deadline_ns`, and hands out the events.
  void RunOnce(uint64_t deadline_ns);

 private:
  void FlushAll();
  const int epoll_;
  std::vector<Source*> dirty_;
  std::vector<Source*> flushing_;
};

}  // namespace kvd::bench
