#include "server/node/alarms.h"

#include "server/node/wire_codec.h"

namespace kvd::server {

std::string_view AlarmName(AlarmType type) {
  switch (type) {
    case AlarmType::kNone:
      return "NONE";
    case AlarmType::kNoSpace:
      return "NOSPACE";
    case AlarmType::kCorrupt:
      return "CORRUPT";
  }
  return "UNKNOWN";
}

bool Alarms::Raise(const Alarm& alarm) {
  base::MutexLock lock(mutex_);
  bool added = alarms_.insert(alarm).second;
  Publish();
  return added;
}

bool Alarms::Clear(const Alarm& alarm) {
  base::MutexLock lock(mutex_);
  bool erased = alarms_.erase(alarm) > 0;
  Publish();
  return erased;
}

void Alarms::Reset() {
  base::MutexLock lock(mutex_);
  alarms_.clear();
  Publish();
}

void Alarms::Publish() {
  unsigned raised = 0;
  for (const Alarm& alarm : alarms_) raised |= 1u << static_cast<int>(alarm.type);
  raised_.store(raised, std::memory_order_release);
}

std::vector<Alarms::Alarm> Alarms::List(AlarmType type) const {
  base::MutexLock lock(mutex_);
  std::vector<Alarm> out;
  for (const Alarm& alarm : alarms_) {
    if (type == AlarmType::kNone || alarm.type == type) out.push_back(alarm);
  }
  return out;
}

std::string Alarms::Encode(const Alarm& alarm) {
  std::string out;
  AppendUint64Field(out, 1, alarm.member);
  AppendUint64Field(out, 2, static_cast<uint64_t>(alarm.type));
  return out;
}

bool Alarms::Decode(std::string_view key, Alarm* alarm) {
  *alarm = {};
  FieldReader fields(key);
  while (fields.Next()) {
    if (fields.type() != WireType::kVarint) continue;
    if (fields.field() == 1) alarm->member = fields.varint();
    if (fields.field() == 2) alarm->type = static_cast<AlarmType>(fields.varint());
  }
  bool known = alarm->type == AlarmType::kNoSpace || alarm->type == AlarmType::kCorrupt;
  return fields.ok() && known;
}

}  // namespace kvd::server
