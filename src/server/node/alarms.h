// The alarms that are raised in the cluster, kept in storage's alarm table in etcd's form (the key is an
// encoded etcdserverpb.AlarmMember, the value is empty).
//
// Thread-safety: changes on the apply thread, reads from any.
#pragma once

#include <atomic>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"

namespace kvd::server {

enum class AlarmType : int { kNone = 0, kNoSpace = 1, kCorrupt = 2 };
std::string_view AlarmName(AlarmType type);  // "NOSPACE"

class Alarms {
 public:
  struct Alarm {
    uint64_t member = 0;
    AlarmType type = AlarmType::kNone;
    friend auto operator<=>(const Alarm&, const Alarm&) = default;
  };

  // False if it changes nothing.
  bool Raise(const Alarm& alarm);
  bool Clear(const Alarm& alarm);
  void Reset();

  // Of this type, or all of them for kNone; by member.
  std::vector<Alarm> List(AlarmType type) const;
  bool IsRaised(AlarmType type) const {
    return (raised_.load(std::memory_order_acquire) & (1u << static_cast<int>(type))) != 0;
  }

  static std::string Encode(const Alarm& alarm);
  static bool Decode(std::string_view key, Alarm* alarm);

 private:
  void Publish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable base::Mutex mutex_;
  std::set<Alarm> alarms_ ABSL_GUARDED_BY(mutex_);
  std::atomic<unsigned> raised_{0};
};

}  // namespace kvd::server
