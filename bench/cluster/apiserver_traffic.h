// What kube-apiserver sends: writes as transactions on the revision that it knows (90 % updates, 5 % deletes,
// 5 % creates), and reads (80 % of them lists of a namespace, then reads at a revision, plain ones, and stale
// ones).
//
// Thread-safety: one thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "load.h"
#include "requests.h"
#include "wire.h"

namespace kvd::bench {

class ApiserverTraffic final : public Traffic {
 public:
  struct Config {
    uint64_t keys = 0;  // REQUIRES: > kNamespaceKeys
    size_t value_bytes = 1024;
    double writes = 0.5;  // their part of all requests
  };
  enum Kind { kUpdate, kDelete, kCreate, kList, kGet, kKinds };
  static std::string_view KindName(int kind);
  // A namespace is the keys that share all but their last two digits.
  static constexpr uint64_t kNamespaceKeys = 100;

  ApiserverTraffic(base::Random random, const Config& config);

  // Creates every key; run it to its end first.
  Traffic& creation() { return creation_; }

  void Prepare(Slot& slot) override;
  bool Accept(Slot& slot, std::string_view message) override;
  void Finish(Slot& slot, bool ok) override;

  const Histogram& latency(int kind) const { return latency_[static_cast<size_t>(kind)]; }
  void Clear();

 private:
  class Creation final : public Traffic {
   public:
    explicit Creation(ApiserverTraffic* all) : all_(all) {}
    void Prepare(Slot& slot) override;
    bool Accept(Slot& slot, std::string_view message) override;

   private:
    ApiserverTraffic* const all_;
    uint64_t next_ = 0;
  };
  struct Key {
    int64_t mod_revision = 0;  // 0: not there
    bool busy = false;         // a write to it is under way
  };

  void PrepareRead(Slot& slot);
  void PrepareWrite(Slot& slot, Kind kind);
  // The transaction of one write: compare the revision, put or delete, else read.
  void Transaction(Slot& slot, Kind kind, uint64_t number);
  bool AcceptWrite(Slot& slot, std::string_view message);

  base::Random random_;
  const Config config_;
  ValueSource values_;
  Creation creation_{this};
  std::vector<Key> keys_;
  std::vector<uint64_t> absent_;
  int64_t latest_ = 0;
  std::array<Histogram, kKinds> latency_;
};

}  // namespace kvd::bench
