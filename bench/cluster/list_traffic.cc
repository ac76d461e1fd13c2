#include "list_traffic.h"

#include "requests.h"
#include "wire.h"

namespace kvd::bench {

std::optional<ListShape> ParseListShape(std::string_view name) {
  if (name == "unary") return ListShape::kUnary;
  if (name == "paged") return ListShape::kPaged;
  if (name == "stream") return ListShape::kStream;
  if (name == "keys") return ListShape::kKeysOnly;
  if (name == "count") return ListShape::kCount;
  return std::nullopt;
}

void ListTraffic::Prepare(Slot& slot) {
  if (slot.kind == 0) {  // its first request: slots are numbered from 1
    positions_.emplace_back();
    slot.kind = static_cast<int>(positions_.size());
  }
  Position& position = positions_[static_cast<size_t>(slot.kind) - 1];
  if (position.next_key.empty())
    position = Position{.next_key = std::string(kKeyPrefix), .revision = config_.revision};
  position.begun_ns = NowNs();
  slot.path = config_.shape == ListShape::kStream ? &method::kRangeStream : &method::kRange;
  FrameInto(&slot.request(), RangeMessage({
                                 .key = position.next_key,
                                 .range_end = EndOf(kKeyPrefix),
                                 .limit = config_.shape == ListShape::kPaged ? config_.page : 0,
                                 .revision = position.revision,
                                 .serializable = config_.serializable,
                                 .keys_only = config_.shape == ListShape::kKeysOnly,
                                 .count_only = config_.shape == ListShape::kCount,
                             }));
}

std::optional<ListTraffic::Answer> ListTraffic::Parse(std::string_view message) {
  Answer answer;
  std::string_view last;
  Reader reader(message);
  while (const std::optional<Field> field = reader.Next()) {
    switch (field->number) {
      case 1: {
        const std::optional<Field> revision = Find(field->bytes, 3);
        answer.revision = revision ? static_cast<int64_t>(revision->value) : 0;
        break;
      }
      case 2:
        ++answer.kvs;
        last = field->bytes;
        break;
      case 3:
        answer.more = field->value != 0;
        break;
      case 4:
        answer.count = field->value;
        break;
      default:
        break;
    }
  }
  if (const std::optional<Field> key = Find(last, 1)) answer.last_key = key->bytes;
  if (reader.malformed()) return std::nullopt;
  return answer;
}

bool ListTraffic::AcceptPage(Slot& slot, const Answer& answer) {
  Position& position = positions_[static_cast<size_t>(slot.kind) - 1];
  if (answer.more) {
    if (answer.kvs != static_cast<uint64_t>(config_.page)) return false;
    position.next_key = std::string(answer.last_key) + '\0';
    position.revision = answer.revision;
    return true;
  }
  position.next_key.clear();
  ++lists_;
  return position.keys == config_.keys;
}

bool ListTraffic::Accept(Slot& slot, std::string_view message) {
  bytes_ += message.size();
  if (config_.shape == ListShape::kStream) {
    const std::optional<Field> chunk = Find(message, 1);
    if (!chunk) return true;
    message = chunk->bytes;
  }
  const std::optional<Answer> answer = Parse(message);
  if (!answer) return false;
  Position& position = positions_[static_cast<size_t>(slot.kind) - 1];
  if (position.keys == 0 && config_.shape == ListShape::kStream)
    first_chunk_.Record(NowNs() - position.begun_ns);
  position.keys += answer->kvs;
  keys_seen_ += answer->kvs;
  if (answer->revision != 0) revision_ = answer->revision;
  switch (config_.shape) {
    case ListShape::kPaged:
      return AcceptPage(slot, *answer);
    case ListShape::kCount:
      return answer->count == config_.keys;
    case ListShape::kStream:
      return true;
    default:
      return answer->kvs == config_.keys && answer->count == config_.keys;
  }
}

void ListTraffic::Finish(Slot& slot, bool ok) {
  if (config_.shape == ListShape::kPaged && ok) return;
  Position& position = positions_[static_cast<size_t>(slot.kind) - 1];
  if (ok && (config_.shape != ListShape::kStream || position.keys == config_.keys)) ++lists_;
  position.next_key.clear();
}

void ListTraffic::Clear() {
  bytes_ = lists_ = keys_seen_ = 0;
  first_chunk_.Clear();
}

}  // namespace kvd::bench
