#include "requests.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "wire.h"

namespace kvd::bench {
namespace {

constexpr size_t kPoolBytes = 4 << 20;

}  // namespace

std::string KeyOf(uint64_t number) {
  std::string key(kKeyPrefix);
  key.resize(key.size() + kKeyDigits);
  PatchDigits(key.data() + kKeyPrefix.size(), kKeyDigits, number);
  return key;
}

std::string EndOf(std::string_view prefix) {
  std::string end(prefix);
  KVD_CHECK(!end.empty() && end.back() != '\xFF', "a prefix that can be counted up");
  ++end.back();
  return end;
}

std::string RangeMessage(const RangeSpec& spec) {
  Encoder e;
  e.Bytes(1, spec.key).BytesIfSet(2, spec.range_end);
  e.VarintIfSet(3, static_cast<uint64_t>(spec.limit)).VarintIfSet(4, static_cast<uint64_t>(spec.revision));
  e.VarintIfSet(7, spec.serializable ? 1 : 0).VarintIfSet(8, spec.keys_only ? 1 : 0);
  e.VarintIfSet(9, spec.count_only ? 1 : 0);
  return e.str();
}

std::string PutMessage(std::string_view key, std::string_view value) {
  return Encoder().Bytes(1, key).BytesIfSet(2, value).str();
}

ValueSource::ValueSource(base::Random random, size_t value_bytes)
    : random_(random), value_bytes_(value_bytes), pool_(std::max(kPoolBytes, value_bytes), '\0') {
  for (size_t i = 0; i + sizeof(uint64_t) <= pool_.size(); i += sizeof(uint64_t)) {
    const uint64_t word = random_.Next();
    std::memcpy(pool_.data() + i, &word, sizeof word);
  }
}

std::string_view ValueSource::Next() {
  return std::string_view(pool_).substr(random_.Below(pool_.size() - value_bytes_ + 1), value_bytes_);
}

PatchedRequest::PatchedRequest(std::string_view message, std::string_view key, std::string_view value)
    : frame_(Frame(message)) {
  const size_t key_at = frame_.find(key);
  KVD_CHECK(key_at != std::string::npos && key.size() >= kKeyDigits, "the key stands in the request");
  digits_at_ = key_at + key.size() - kKeyDigits;
  if (value.empty()) return;
  value_at_ = frame_.find(value, key_at + key.size());
  KVD_CHECK(value_at_ != std::string::npos, "the value stands in the request");
}

void PatchedRequest::SetKey(std::string* frame, uint64_t number) const {
  PatchDigits(frame->data() + digits_at_, kKeyDigits, number);
}

void PatchedRequest::SetValue(std::string* frame, std::string_view value) const {
  std::memcpy(frame->data() + value_at_, value.data(), value.size());
}

}  // namespace kvd::bench
