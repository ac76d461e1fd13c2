// Puts, point reads, lists, transactions and lease grants, as traffic for a Load.
//
// Thread-safety: one thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "load.h"
#include "requests.h"
#include "wire.h"

namespace kvd::bench {

// How keys are chosen out of [0, keys).
enum class KeyOrder { kRandom, kSequential };

class PutTraffic final : public Traffic {
 public:
  PutTraffic(base::Random random, uint64_t keys, KeyOrder order, size_t value_bytes);
  void Init(Slot& slot) override { slot.request() = template_.frame(); }
  void Prepare(Slot& slot) override;
  bool Accept(Slot& slot, std::string_view message) override;
  int64_t last_revision() const { return last_revision_; }

 private:
  base::Random random_;
  const uint64_t keys_;
  const KeyOrder order_;
  ValueSource values_;
  PatchedRequest template_;
  uint64_t next_ = 0;
  int64_t last_revision_ = 0;
};

// Reads of one key that must be there, with a value of `value_bytes`.
class GetTraffic final : public Traffic {
 public:
  GetTraffic(base::Random random, uint64_t keys, bool serializable, size_t value_bytes);
  void Init(Slot& slot) override { slot.request() = template_.frame(); }
  void Prepare(Slot& slot) override;
  bool Accept(Slot& slot, std::string_view message) override;

 private:
  base::Random random_;
  const uint64_t keys_;
  const size_t value_bytes_;
  PatchedRequest template_;
};

// Transactions of `operations` puts to neighbouring keys.
class TxnTraffic final : public Traffic {
 public:
  TxnTraffic(base::Random random, uint64_t keys, KeyOrder order, int operations, size_t value_bytes);
  void Prepare(Slot& slot) override;
  bool Accept(Slot& slot, std::string_view message) override;
  int64_t last_revision() const { return last_revision_; }

 private:
  base::Random random_;
  const uint64_t keys_;
  const KeyOrder order_;
  const int operations_;
  ValueSource values_;
  Encoder transaction_;
  uint64_t next_ = 0;
  int64_t last_revision_ = 0;
};

class LeaseGrantTraffic final : public Traffic {
 public:
  // Lease number i of `first` upwards gets that id.
  LeaseGrantTraffic(uint64_t first, int64_t ttl_seconds) : next_(first), ttl_seconds_(ttl_seconds) {}
  void Prepare(Slot& slot) override;
  bool Accept(Slot& slot, std::string_view message) override;

 private:
  uint64_t next_;
  const int64_t ttl_seconds_;
};

}  // namespace kvd::bench
