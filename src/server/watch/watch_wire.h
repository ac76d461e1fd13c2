// The wire form of what a watch stream says: WatchResponse = {header 1, watch_id 2, created 3, canceled 4,
// compact_revision 5, cancel_reason 6, fragment 7, events 11}, Event = {type 1, kv 2, prev_kv 3}. A response
// is put together by ResponseBatch, of pieces that any number of responses share.
//
// Thread-safety: pure functions; an EncodedEvent is thread-compatible.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "base/bytes.h"
#include "storage/event.h"

namespace kvd::server {

class HeaderSource;

// The header of a response, with its tag: the same for all responses of one moment.
base::SharedBytes EncodeHeader(const HeaderSource& headers, int64_t revision);

// What a response says beside its header and events.
struct ResponseHead {
  int64_t watch_id = 0;
  bool created = false;
  bool canceled = false;
  int64_t compact_revision = 0;
  std::string_view cancel_reason = {};
};
// All but the watch ID, which ResponseBatch puts ahead of it.
base::SharedBytes EncodeHead(const ResponseHead& head);

// One event and its pieces, the `events` field of a response with tag and length, made when first asked for.
class EncodedEvent {
 public:
  explicit EncodedEvent(storage::Event event) : event_(std::move(event)) {}

  const storage::Event& event() const { return event_; }
  bool is_delete() const { return event_.type == storage::Event::Type::kDelete; }
  const base::SharedBytes& WithoutPrevious();
  // `read_previous` appends the record before the event to its argument and returns true, or returns false if
  // there is none to be had; it is called once at most.
  const base::SharedBytes& WithPrevious(absl::FunctionRef<bool(std::string*)> read_previous);

 private:
  storage::Event event_;
  base::SharedBytes without_;
  base::SharedBytes with_;
};

}  // namespace kvd::server
