#include "raft/conf_change.h"

#include <utility>

#include "base/check.h"

namespace kvd::raft {
namespace {

// Protobuf's wire format, as far as these two messages need it.
enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void PutVarint(uint64_t v, std::string* out) {
  while (v >= 0x80) {
    out->push_back(static_cast<char>(v | 0x80));
    v >>= 7;
  }
  out->push_back(static_cast<char>(v));
}
void PutNumber(uint32_t field, uint64_t v, std::string* out) {
  PutVarint(field << 3 | kVarint, out);
  PutVarint(v, out);
}
void PutBytes(uint32_t field, std::string_view v, std::string* out) {
  PutVarint(field << 3 | kBytes, out);
  PutVarint(v.size(), out);
  out->append(v);
}

struct Field {
  uint32_t number = 0;
  uint32_t wire_type = 0;
  uint64_t value = 0;      // of kVarint
  std::string_view bytes;  // of kBytes
};

class Reader {
 public:
  explicit Reader(std::string_view in) : in_(in) {}
  bool AtEnd() const { return in_.empty(); }
  // False: the bytes are broken.
  bool Next(Field* f) {
    uint64_t tag;
    if (!Varint(&tag) || tag >> 3 == 0 || tag > UINT32_MAX) return false;
    f->number = static_cast<uint32_t>(tag >> 3);
    f->wire_type = static_cast<uint32_t>(tag & 7);
    switch (f->wire_type) {
      case kVarint:
        return Varint(&f->value);
      case kBytes: {
        uint64_t n;
        return Varint(&n) && Take(n, &f->bytes);
      }
      case kFixed64:
        return Take(8, &f->bytes);
      case kFixed32:
        return Take(4, &f->bytes);
      default:
        return false;
    }
  }

 private:
  bool Varint(uint64_t* v) {
    *v = 0;
    for (int shift = 0; shift < 70 && !in_.empty(); shift += 7) {
      auto b = static_cast<unsigned char>(in_[0]);
      in_.remove_prefix(1);
      if (shift < 64) *v |= static_cast<uint64_t>(b & 0x7f) << shift;
      if (b < 0x80) return true;
    }
    return false;
  }
  bool Take(uint64_t n, std::string_view* out) {
    if (n > in_.size()) return false;
    *out = in_.substr(0, n);
    in_.remove_prefix(n);
    return true;
  }
  std::string_view in_;
};

bool ToType(uint64_t v, ConfChangeType* type) {
  if (v > static_cast<uint64_t>(ConfChangeType::kAddLearnerNode)) return false;
  *type = static_cast<ConfChangeType>(v);
  return true;
}

bool ToTransition(uint64_t v, ConfChangeTransition* transition) {
  if (v > static_cast<uint64_t>(ConfChangeTransition::kJointExplicit)) return false;
  *transition = static_cast<ConfChangeTransition>(v);
  return true;
}

bool DecodeSingle(std::string_view bytes, ConfChangeSingle* out) {
  Reader in(bytes);
  Field f;
  while (!in.AtEnd()) {
    if (!in.Next(&f)) return false;
    if (f.number > 2) continue;
    if (f.wire_type != kVarint) return false;
    if (f.number == 1 && !ToType(f.value, &out->type)) return false;
    if (f.number == 2) out->node = f.value;
  }
  return true;
}

}  // namespace

std::string EncodeConfChange(const ConfChange& change) {
  std::string out;
  PutNumber(1, change.id, &out);
  PutNumber(2, static_cast<uint64_t>(change.type), &out);
  PutNumber(3, change.node, &out);
  if (!change.context.empty()) PutBytes(4, change.context, &out);
  return out;
}

std::string EncodeConfChange(const ConfChangeV2& change) {
  std::string out;
  PutNumber(1, static_cast<uint64_t>(change.transition), &out);
  for (const ConfChangeSingle& single : change.changes) {
    std::string inner;
    PutNumber(1, static_cast<uint64_t>(single.type), &inner);
    PutNumber(2, single.node, &inner);
    PutBytes(2, inner, &out);
  }
  if (!change.context.empty()) PutBytes(3, change.context, &out);
  return out;
}

std::optional<ConfChange> DecodeConfChange(std::string_view bytes) {
  ConfChange out;
  Reader in(bytes);
  Field f;
  while (!in.AtEnd()) {
    if (!in.Next(&f)) return std::nullopt;
    if (f.number > 4) continue;
    if (f.wire_type != (f.number == 4 ? kBytes : kVarint)) return std::nullopt;
    if (f.number == 1) out.id = f.value;
    if (f.number == 2 && !ToType(f.value, &out.type)) return std::nullopt;
    if (f.number == 3) out.node = f.value;
    if (f.number == 4) out.context = std::string(f.bytes);
  }
  return out;
}

std::optional<ConfChangeV2> DecodeConfChangeV2(std::string_view bytes) {
  ConfChangeV2 out;
  Reader in(bytes);
  Field f;
  while (!in.AtEnd()) {
    if (!in.Next(&f)) return std::nullopt;
    if (f.number > 3) continue;
    if (f.wire_type != (f.number == 1 ? kVarint : kBytes)) return std::nullopt;
    if (f.number == 1 && !ToTransition(f.value, &out.transition)) return std::nullopt;
    if (f.number == 2) {
      out.changes.emplace_back();
      if (!DecodeSingle(f.bytes, &out.changes.back())) return std::nullopt;
    }
    if (f.number == 3) out.context = std::string(f.bytes);
  }
  return out;
}

ConfChangeV2 AsV2(const ConfChange& change) {
  return {.changes = {{change.type, change.node}}, .context = change.context};
}

std::optional<ConfChangeV2> ConfChangeOf(const Entry& entry) {
  KVD_CHECK(entry.type != EntryType::kNormal, "a normal entry holds no configuration change");
  if (entry.type == EntryType::kConfChangeV2) return DecodeConfChangeV2(entry.data.view());
  std::optional<ConfChange> v1 = DecodeConfChange(entry.data.view());
  if (!v1.has_value()) return std::nullopt;
  return AsV2(*v1);
}

}  // namespace kvd::raft
