#include "kv_traffic.h"

#include <algorithm>

namespace kvd::bench {

PutTraffic::PutTraffic(base::Random random, uint64_t keys, KeyOrder order, size_t value_bytes)
    : random_(random.Split("keys")),
      keys_(keys),
      order_(order),
      values_(random.Split("values"), value_bytes) {
  const std::string key = KeyOf(0);
  const std::string value(values_.Next());
  template_ = PatchedRequest(PutMessage(key, value), key, value);
}

void PutTraffic::Prepare(Slot& slot) {
  slot.path = &method::kPut;
  template_.SetKey(&slot.request(), order_ == KeyOrder::kRandom ? random_.Below(keys_) : next_++ % keys_);
  template_.SetValue(&slot.request(), values_.Next());
}

bool PutTraffic::Accept(Slot&, std::string_view message) {
  const int64_t revision = HeaderRevision(message);
  last_revision_ = std::max(last_revision_, revision);
  return revision > 0;
}

GetTraffic::GetTraffic(base::Random random, uint64_t keys, bool serializable, size_t value_bytes)
    : random_(random), keys_(keys), value_bytes_(value_bytes) {
  const std::string key = KeyOf(0);
  template_ = PatchedRequest(RangeMessage({.key = key, .serializable = serializable}), key, "");
}

void GetTraffic::Prepare(Slot& slot) {
  slot.path = &method::kRange;
  template_.SetKey(&slot.request(), random_.Below(keys_));
}

bool GetTraffic::Accept(Slot&, std::string_view message) {
  const std::optional<Field> kv = Find(message, 2);
  return kv && kv->is_bytes && kv->bytes.size() > value_bytes_ + kKeyPrefix.size();
}

TxnTraffic::TxnTraffic(base::Random random, uint64_t keys, KeyOrder order, int operations, size_t value_bytes)
    : random_(random.Split("keys")),
      keys_(keys),
      order_(order),
      operations_(operations),
      values_(random.Split("values"), value_bytes) {}

void TxnTraffic::Prepare(Slot& slot) {
  slot.path = &method::kTxn;
  transaction_.Clear();
  // A key may be put only once in a transaction: a run of neighbours.
  const uint64_t first = order_ == KeyOrder::kRandom ? random_.Below(keys_) : next_;
  next_ += static_cast<uint64_t>(operations_);
  for (int i = 0; i < operations_; ++i) {
    const std::string put = PutMessage(KeyOf((first + static_cast<uint64_t>(i)) % keys_), values_.Next());
    transaction_.Bytes(2, Encoder().Bytes(2, put).str());
  }
  FrameInto(&slot.request(), transaction_.str());
}

bool TxnTraffic::Accept(Slot&, std::string_view message) {
  last_revision_ = std::max(last_revision_, HeaderRevision(message));
  Reader reader(message);
  int responses = 0;
  bool succeeded = false;
  while (const std::optional<Field> field = reader.Next()) {
    if (field->number == 2) succeeded = field->value == 1;
    if (field->number == 3) ++responses;
  }
  return succeeded && responses == operations_ && !reader.malformed();
}

void LeaseGrantTraffic::Prepare(Slot& slot) {
  slot.path = &method::kLeaseGrant;
  slot.number = next_++;
  FrameInto(&slot.request(),
            Encoder().Varint(1, static_cast<uint64_t>(ttl_seconds_)).Varint(2, slot.number).str());
}

bool LeaseGrantTraffic::Accept(Slot& slot, std::string_view message) {
  const std::optional<Field> id = Find(message, 2);
  return id && id->value == slot.number;
}

}  // namespace kvd::bench
