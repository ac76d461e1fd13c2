// The first thing that a run found wrong. Thread-compatible.
#pragma once

#include <string>
#include <utility>

namespace kvd::sim {

class Verdict {
 public:
  // `checker` is the name that tables show; later failures of the same run are consequences and are dropped.
  void Fail(std::string checker, std::string what) {
    if (failed_) return;
    failed_ = true;
    checker_ = std::move(checker);
    what_ = std::move(what);
  }
  bool failed() const { return failed_; }
  const std::string& checker() const { return checker_; }
  const std::string& what() const { return what_; }

 private:
  bool failed_ = false;
  std::string checker_;
  std::string what_;
};

}  // namespace kvd::sim
