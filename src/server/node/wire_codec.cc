#include "server/node/wire_codec.h"

namespace kvd::server {
namespace {

constexpr uint32_t kRequestHeaderField = 100;
constexpr uint32_t kRequestHeaderId = 1;
}  // namespace

std::string EncodeRaftRequest(uint64_t id, RequestField field, std::string_view request) {
  std::string out;
  out.reserve(request.size() + 32);
  AppendBytesField(out, static_cast<uint32_t>(field), request);
  AppendLength(out, kRequestHeaderField, 1 + base::VarintSize(id));
  AppendVarintField(out, kRequestHeaderId, id);
  return out;
}

void AppendResponseHeader(std::string& out, const ResponseHeaderFields& header) {
  constexpr char kTag = 1 << 3 | static_cast<char>(WireType::kLength);
  // Tag, length, then at most four varints with their tags: 2 + 4 * 11 bytes, so the length fits one byte.
  size_t start = out.size();
  out.append(2, '\0');
  AppendUint64Field(out, 1, header.cluster_id);
  AppendUint64Field(out, 2, header.member_id);
  AppendInt64Field(out, 3, header.revision);
  AppendUint64Field(out, 4, header.raft_term);
  out[start] = kTag;
  out[start + 1] = static_cast<char>(out.size() - start - 2);
}

}  // namespace kvd::server
