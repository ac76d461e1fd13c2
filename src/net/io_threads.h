// The I/O threads: each runs the sockets of its connections and is a base::Executor besides.
//
// Posting from another thread pushes onto the thread's lock-free queue and wakes the thread only if the queue
// was empty, so completing hundreds of calls in a row costs one wake-up a thread. What one wake-up brings is
// handled together, and each connection then writes once.
//
// Thread-safety: thread-safe, except Stop. Ownership: whatever has sockets here must be gone before IoThreads
// is.
#pragma once

#include <memory>
#include <string>

#include "base/executor.h"

namespace kvd::net {

class IoThread;  // net/io_thread.h: for sources inside this room that own sockets

class IoThreads {
 public:
  // Starts `count` (at least 1) threads named "<name>-<number>".
  explicit IoThreads(int count, const std::string& name = "io");
  ~IoThreads();  // Stop()s
  IoThreads(const IoThreads&) = delete;
  IoThreads& operator=(const IoThreads&) = delete;

  int count() const;
  // Valid until IoThreads is destroyed. 0 <= i < count().
  base::Executor& executor(int i);
  IoThread& thread(int i);
  // The threads in turn, for spreading connections.
  IoThread& Next();

  // Finishes the running tasks, drops the others, and joins the threads. Idempotent. Not from an I/O thread.
  void Stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvd::net
