#include "apiserver_traffic.h"

#include <algorithm>

#include "base/check.h"

namespace kvd::bench {
namespace {

// How far back a stale read looks.
constexpr int64_t kStaleRevisions = 1000;
constexpr uint64_t kModTarget = 2;  // Compare.target

}  // namespace

std::string_view ApiserverTraffic::KindName(int kind) {
  static constexpr std::array<std::string_view, kKinds> kNames = {"update", "delete", "create", "list",
                                                                  "get"};
  return kNames[static_cast<size_t>(kind)];
}

ApiserverTraffic::ApiserverTraffic(base::Random random, const Config& config)
    : random_(random.Split("requests")),
      config_(config),
      values_(random.Split("values"), config.value_bytes),
      keys_(config.keys) {
  KVD_CHECK(config.keys > kNamespaceKeys, "more than one namespace");
}

void ApiserverTraffic::Creation::Prepare(Slot& slot) {
  slot.number = next_++;
  all_->Transaction(slot, kCreate, slot.number);
}

bool ApiserverTraffic::Creation::Accept(Slot& slot, std::string_view message) {
  return all_->AcceptWrite(slot, message);
}

void ApiserverTraffic::Prepare(Slot& slot) {
  if (!random_.Chance(config_.writes)) return PrepareRead(slot);
  const uint64_t dice = random_.Below(100);
  if (dice < 90) return PrepareWrite(slot, kUpdate);
  // As many keys as there were, more or less: what is deleted is created again.
  PrepareWrite(slot, dice < 95 || absent_.empty() ? kDelete : kCreate);
}

void ApiserverTraffic::PrepareRead(Slot& slot) {
  const uint64_t dice = random_.Below(100);
  const std::string key = KeyOf(random_.Below(config_.keys));
  const int64_t past = std::max<int64_t>(1, latest_ - static_cast<int64_t>(random_.Below(kStaleRevisions)));
  slot.path = &method::kRange;
  RangeSpec spec{.key = key};
  std::string prefix, end;
  slot.kind = kGet;
  if (dice < 85) {  // 80 lists, 5 stale lists
    slot.kind = kList;
    prefix = key.substr(0, key.size() - 2);
    end = EndOf(prefix);
    spec.key = prefix;
    spec.range_end = end;
    spec.limit = 500;
    if (dice >= 80) spec.revision = past;
  } else if (dice < 95) {  // 8 at a revision, 2 stale
    spec.limit = 1;
    spec.revision = past;
  } else {
    spec.limit = 1;
  }
  FrameInto(&slot.request(), RangeMessage(spec));
}

void ApiserverTraffic::PrepareWrite(Slot& slot, Kind kind) {
  uint64_t number = 0;
  if (kind == kCreate) {
    number = absent_.back();
    absent_.pop_back();
  } else {
    do {
      number = random_.Below(config_.keys);
    } while (keys_[number].busy || keys_[number].mod_revision == 0);
  }
  keys_[number].busy = true;
  slot.number = number;
  Transaction(slot, kind, number);
}

void ApiserverTraffic::Transaction(Slot& slot, Kind kind, uint64_t number) {
  slot.kind = kind;
  slot.path = &method::kTxn;
  const std::string key = KeyOf(number);
  Encoder compare;
  compare.Varint(2, kModTarget).Bytes(3, key);
  compare.Varint(6, kind == kCreate ? 0 : static_cast<uint64_t>(keys_[number].mod_revision));
  Encoder operation;
  if (kind == kDelete) {
    operation.Bytes(3, Encoder().Bytes(1, key).str());
  } else {
    operation.Bytes(2, PutMessage(key, values_.Next()));
  }
  Encoder transaction;
  transaction.Bytes(1, compare.str()).Bytes(2, operation.str());
  if (kind != kCreate) transaction.Bytes(3, Encoder().Bytes(1, RangeMessage({.key = key})).str());
  FrameInto(&slot.request(), transaction.str());
}

bool ApiserverTraffic::AcceptWrite(Slot& slot, std::string_view message) {
  const int64_t revision = HeaderRevision(message);
  const std::optional<Field> succeeded = Find(message, 2);
  latest_ = std::max(latest_, revision);
  Key& key = keys_[slot.number];
  key.mod_revision = slot.kind == kDelete ? 0 : revision;
  return succeeded && succeeded->value == 1;
}

bool ApiserverTraffic::Accept(Slot& slot, std::string_view message) {
  if (slot.kind == kList || slot.kind == kGet) return HeaderRevision(message) > 0;
  return AcceptWrite(slot, message);
}

void ApiserverTraffic::Finish(Slot& slot, bool /*ok*/) {
  latency_[static_cast<size_t>(slot.kind)].Record(NowNs() - slot.due_ns());
  if (slot.kind == kList || slot.kind == kGet) return;
  keys_[slot.number].busy = false;
  if (keys_[slot.number].mod_revision == 0) absent_.push_back(slot.number);
}

void ApiserverTraffic::Clear() {
  for (Histogram& histogram : latency_) histogram.Clear();
}

}  // namespace kvd::bench
