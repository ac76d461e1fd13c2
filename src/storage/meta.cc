#include "storage/meta.h"

#include "base/bytes.h"

namespace kvd::storage {
namespace {

constexpr char kFormat = 1;
constexpr size_t kSize = 1 + 4 * 8;

}  // namespace

std::string EncodeRevisionMark(int64_t revision) {
  std::string out;
  base::AppendBigEndian64(out, static_cast<uint64_t>(revision));
  return out;
}

bool DecodeRevisionMark(std::string_view bytes, int64_t* revision) {
  if (bytes.size() != sizeof(uint64_t)) return false;
  *revision = static_cast<int64_t>(base::LoadBigEndian64(bytes.data()));
  return true;
}

std::string EncodeState(const MetaState& state) {
  std::string out;
  out.reserve(kSize);
  out.push_back(kFormat);
  base::AppendBigEndian64(out, state.applied_index);
  base::AppendBigEndian64(out, state.applied_term);
  base::AppendBigEndian64(out, static_cast<uint64_t>(state.revision));
  base::AppendBigEndian64(out, static_cast<uint64_t>(state.compact_revision));
  return out;
}

bool DecodeState(std::string_view bytes, MetaState* state) {
  if (bytes.size() != kSize || bytes[0] != kFormat) return false;
  state->applied_index = base::LoadBigEndian64(bytes.data() + 1);
  state->applied_term = base::LoadBigEndian64(bytes.data() + 9);
  state->revision = static_cast<int64_t>(base::LoadBigEndian64(bytes.data() + 17));
  state->compact_revision = static_cast<int64_t>(base::LoadBigEndian64(bytes.data() + 25));
  return true;
}

}  // namespace kvd::storage
