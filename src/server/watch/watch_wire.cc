#include "server/watch/watch_wire.h"

#include <utility>

#include "base/protobuf_wire.h"
#include "server/watch/watch_hub.h"

namespace kvd::server {
namespace {

using base::AppendBytesField;
using base::AppendInt64Field;
using base::AppendUint64Field;

constexpr uint32_t kEventsField = 11;
constexpr uint32_t kTypeField = 1;
constexpr uint32_t kKvField = 2;
constexpr uint32_t kPrevKvField = 3;

size_t BytesFieldSize(size_t n) {
  return 1 + base::VarintSize(n) + n;
}

base::SharedBytes Encode(const storage::Event& event, const std::string* previous) {
  const bool is_delete = event.type == storage::Event::Type::kDelete;
  const size_t body = (is_delete ? 2 : 0) + BytesFieldSize(event.kv.size()) +
                      (previous != nullptr ? BytesFieldSize(previous->size()) : 0);
  std::string out;
  out.reserve(BytesFieldSize(body));
  base::AppendLength(out, kEventsField, body);
  if (is_delete) AppendInt64Field(out, kTypeField, 1);
  AppendBytesField(out, kKvField, event.kv.view());
  if (previous != nullptr) AppendBytesField(out, kPrevKvField, *previous);
  return base::SharedBytes(std::move(out));
}

}  // namespace

base::SharedBytes EncodeHeader(const HeaderSource& headers, int64_t revision) {
  std::string header;
  AppendUint64Field(header, 1, headers.cluster_id());
  AppendUint64Field(header, 2, headers.member_id());
  AppendInt64Field(header, 3, revision);
  AppendUint64Field(header, 4, headers.term());
  std::string out;
  AppendBytesField(out, 1, header);
  return base::SharedBytes(std::move(out));
}

base::SharedBytes EncodeHead(const ResponseHead& head) {
  std::string out;
  AppendInt64Field(out, 3, head.created ? 1 : 0);
  AppendInt64Field(out, 4, head.canceled ? 1 : 0);
  AppendInt64Field(out, 5, head.compact_revision);
  if (!head.cancel_reason.empty()) AppendBytesField(out, 6, head.cancel_reason);
  return base::SharedBytes(std::move(out));
}

const base::SharedBytes& EncodedEvent::WithoutPrevious() {
  if (without_.empty()) without_ = Encode(event_, nullptr);
  return without_;
}

const base::SharedBytes& EncodedEvent::WithPrevious(absl::FunctionRef<bool(std::string*)> read_previous) {
  if (with_.empty()) {
    std::string previous;
    with_ = read_previous(&previous) ? Encode(event_, &previous) : WithoutPrevious();
  }
  return with_;
}

}  // namespace kvd::server
