// The halves of a plain HTTP call: what the handler holds, and where a connection's protocol takes the
// answer.
//
// Thread-safety: HttpSink on its I/O thread only.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "net/http_call.h"
#include "net/io_thread.h"
#include "net/router.h"

namespace kvd::net {

// Shared by both halves, so either may go first.
struct HttpCallShared {
  std::atomic<bool> cancelled{false};
  std::atomic<size_t> queued{0};
};

// Takes one answer; dropped once the answer is complete.
class HttpSink {
 public:
  virtual ~HttpSink() = default;
  // `whole`: there is no more body to come.
  virtual void Head(HttpResponse response, bool whole) = 0;
  virtual void Body(Message part) = 0;
  virtual void End() = 0;
};

// Splits `target` into path and query of `request`.
void SetTarget(HttpRequest& request, std::string_view target);

// "%41" -> "A"; malformed escapes stay. `plus`: '+' is a blank, as in a query.
std::string PercentDecode(std::string_view text, bool plus);

std::string_view HttpReason(int status);

// Finds the handler and calls it, or answers 404 or 405 itself.
void DispatchHttp(const Router& router, IoThread& thread, HttpRequest request,
                  std::shared_ptr<HttpCallShared> shared, std::unique_ptr<HttpSink> sink);

}  // namespace kvd::net
