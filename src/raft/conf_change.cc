#include "raft/conf_change.h"

#include <utility>

#include "base/check.h"
#include "base/protobuf_wire.h"

namespace kvd::raft {
namespace {

using base::FieldReader;
using base::WireType;

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
  FieldReader in(bytes);
  while (in.Next()) {
    if (in.field() > 2) continue;
    if (in.type() != WireType::kVarint) return false;
    if (in.field() == 1 && !ToType(in.varint(), &out->type)) return false;
    if (in.field() == 2) out->node = in.varint();
  }
  return in.ok();
}

}  // namespace

std::string EncodeConfChange(const ConfChange& change) {
  std::string out;
  base::AppendVarintField(out, 1, change.id);
  base::AppendVarintField(out, 2, static_cast<uint64_t>(change.type));
  base::AppendVarintField(out, 3, change.node);
  if (!change.context.empty()) base::AppendBytesField(out, 4, change.context);
  return out;
}

std::string EncodeConfChange(const ConfChangeV2& change) {
  std::string out;
  base::AppendVarintField(out, 1, static_cast<uint64_t>(change.transition));
  for (const ConfChangeSingle& single : change.changes) {
    std::string inner;
    base::AppendVarintField(inner, 1, static_cast<uint64_t>(single.type));
    base::AppendVarintField(inner, 2, single.node);
    base::AppendBytesField(out, 2, inner);
  }
  if (!change.context.empty()) base::AppendBytesField(out, 3, change.context);
  return out;
}

std::optional<ConfChange> DecodeConfChange(std::string_view bytes) {
  ConfChange out;
  FieldReader in(bytes);
  while (in.Next()) {
    if (in.field() > 4) continue;
    if (in.type() != (in.field() == 4 ? WireType::kLength : WireType::kVarint)) return std::nullopt;
    if (in.field() == 1) out.id = in.varint();
    if (in.field() == 2 && !ToType(in.varint(), &out.type)) return std::nullopt;
    if (in.field() == 3) out.node = in.varint();
    if (in.field() == 4) out.context = std::string(in.bytes());
  }
  if (!in.ok()) return std::nullopt;
  return out;
}

std::optional<ConfChangeV2> DecodeConfChangeV2(std::string_view bytes) {
  ConfChangeV2 out;
  FieldReader in(bytes);
  while (in.Next()) {
    if (in.field() > 3) continue;
    if (in.type() != (in.field() == 1 ? WireType::kVarint : WireType::kLength)) return std::nullopt;
    if (in.field() == 1 && !ToTransition(in.varint(), &out.transition)) return std::nullopt;
    if (in.field() == 2) {
      out.changes.emplace_back();
      if (!DecodeSingle(in.bytes(), &out.changes.back())) return std::nullopt;
    }
    if (in.field() == 3) out.context = std::string(in.bytes());
  }
  if (!in.ok()) return std::nullopt;
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
