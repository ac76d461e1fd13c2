#include "server/watch/response_batch.h"

#include <algorithm>

#include "base/protobuf_wire.h"

namespace kvd::server {
namespace {

constexpr uint32_t kWatchIdField = 2;
constexpr uint32_t kFragmentField = 7;
constexpr size_t kFragmentBytes = 2;

}  // namespace

void ResponseBatch::Begin(int64_t watch_id) {
  const size_t id_bytes = watch_id == 0 ? 0 : 1 + base::VarintSize(static_cast<uint64_t>(watch_id));
  const size_t size = header_.size() + id_bytes;
  const uint32_t first = responses_.empty() ? 0 : responses_.back().first;
  responses_.push_back({watch_id, first, 0, static_cast<uint32_t>(size), false});
  size_ += kPrefixBytes + size;
}

void ResponseBatch::Append(const base::SharedBytes& piece) {
  Response& response = responses_.back();
  const size_t next = response.first + response.pieces;
  if (next == pieces_.size() || pieces_[next].data() != piece.data()) {
    if (next != pieces_.size()) {  // it is not what the last response goes on with
      const size_t first = pieces_.size();
      for (uint32_t i = 0; i < response.pieces; ++i) {
        base::SharedBytes same = pieces_[response.first + i];
        pieces_.push_back(std::move(same));
      }
      response.first = static_cast<uint32_t>(first);
    }
    pieces_.push_back(piece);
    longest_piece_ = std::max(longest_piece_, piece.size());
  }
  ++response.pieces;
  response.size += static_cast<uint32_t>(piece.size());
  size_ += piece.size();
}

void ResponseBatch::MarkFragment() {
  responses_.back().fragment = true;
  responses_.back().size += kFragmentBytes;
  size_ += kFragmentBytes;
}

void ResponseBatch::AppendHead(size_t i, std::string& out) const {
  const Response& response = responses_[i];
  char fields[1 + base::kMaxVarintBytes + kFragmentBytes];
  char* end = fields;
  if (response.watch_id != 0) {
    *end++ = static_cast<char>(kWatchIdField << 3);
    end = base::PutVarint(end, static_cast<uint64_t>(response.watch_id));
  }
  if (response.fragment) {
    *end++ = static_cast<char>(kFragmentField << 3);
    *end++ = 1;
  }
  out.append(header_.view());
  out.append(fields, static_cast<size_t>(end - fields));
}

void ResponseBatch::AppendPieces(size_t i, std::string& out) const {
  const Response& response = responses_[i];
  for (uint32_t p = 0; p < response.pieces; ++p) out.append(pieces_[response.first + p].view());
}

void ResponseBatch::ForEachPiece(size_t i, absl::FunctionRef<void(const base::SharedBytes&)> visit) const {
  const Response& response = responses_[i];
  for (uint32_t p = 0; p < response.pieces; ++p) visit(pieces_[response.first + p]);
}

void ResponseBatch::ForEach(absl::FunctionRef<void(std::string_view)> visit) const {
  std::string bytes;
  for (size_t i = 0; i < count(); ++i) {
    bytes.clear();
    AppendHead(i, bytes);
    AppendPieces(i, bytes);
    visit(bytes);
  }
}

}  // namespace kvd::server
