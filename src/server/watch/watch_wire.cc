#include "server/watch/watch_wire.h"

#include <utility>

#include "server/watch/watch_hub.h"
#include "storage/records.h"

namespace kvd::server {
namespace {

using storage::AppendBytesField;
using storage::AppendTag;
using storage::AppendVarint;
using storage::AppendVarintField;
using storage::VarintSize;

constexpr int kVarint = 0;
constexpr int kBytes = 2;
constexpr int kEventsField = 11;
constexpr int kTypeField = 1;
constexpr int kKvField = 2;
constexpr int kPrevKvField = 3;

void AppendId(std::string& out, int field, uint64_t v) {
  if (v == 0) return;
  AppendTag(out, field, kVarint);
  AppendVarint(out, v);
}

size_t BytesFieldSize(size_t n) {
  return 1 + VarintSize(n) + n;
}

base::SharedBytes Encode(const storage::Event& event, const std::string* previous) {
  const bool is_delete = event.type == storage::Event::Type::kDelete;
  const size_t body = (is_delete ? 2 : 0) + BytesFieldSize(event.kv.size()) +
                      (previous != nullptr ? BytesFieldSize(previous->size()) : 0);
  std::string out;
  out.reserve(BytesFieldSize(body));
  AppendTag(out, kEventsField, kBytes);
  AppendVarint(out, body);
  if (is_delete) AppendVarintField(out, kTypeField, 1);
  AppendBytesField(out, kKvField, event.kv.view());
  if (previous != nullptr) AppendBytesField(out, kPrevKvField, *previous);
  return base::SharedBytes(std::move(out));
}

}  // namespace

base::SharedBytes EncodeHead(const HeaderSource& headers, const ResponseHead& head) {
  std::string header;
  AppendId(header, 1, headers.cluster_id());
  AppendId(header, 2, headers.member_id());
  AppendVarintField(header, 3, head.revision);
  AppendId(header, 4, headers.term());
  std::string out;
  AppendBytesField(out, 1, header);
  AppendVarintField(out, 2, head.watch_id);
  AppendVarintField(out, 3, head.created ? 1 : 0);
  AppendVarintField(out, 4, head.canceled ? 1 : 0);
  AppendVarintField(out, 5, head.compact_revision);
  if (!head.cancel_reason.empty()) AppendBytesField(out, 6, head.cancel_reason);
  AppendVarintField(out, 7, head.fragment ? 1 : 0);
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
